"""Which tests a change can affect: on the record of real processes, and where it is no record."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import edits
import pytest
import selecttruth

from pytest_kindcov import cli, select
from pytest_kindcov._contexts import Outcomes
from pytest_kindcov.report import make, runfile, sources, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selecttruth import Recorded

STORE = "internal/store/store.go"
TEST = "tests/e2e/test_orders.py::"
# They run `Store.Transition`; the first of them to its end.
TRANSITION = {
    "test_paid_order_is_refunded_when_cancelled",
    "test_cancelled_order_cannot_be_paid",
    "test_orders_are_listed_by_status",
    "test_unknown_order_is_not_found",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return selecttruth.recorded(tmp_path_factory.mktemp("select"))


@pytest.fixture
def record(whole: Recorded) -> Iterator[Recorded]:
    """The record, and the tree as it was recorded."""
    saved = whole.scratch / "saved"
    shutil.rmtree(saved, ignore_errors=True)
    shutil.copytree(whole.root, saved)
    try:
        yield whole
    finally:
        shutil.rmtree(whole.root)
        saved.rename(whole.root)


def git(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def change(root: Path, path: str, old: str, new: str) -> None:
    text = (root / path).read_text()
    assert old in text
    (root / path).write_text(text.replace(old, new, 1))


def short(names: object) -> set[str]:
    return {name.removeprefix(TEST) for name in names}  # type: ignore[attr-defined]


def test_random_edits(record: Recorded) -> None:
    """What is left out does what it did; the long version is bench/selection.py."""
    chance = random.Random(7)
    for _ in range(10):
        edit = edits.edit(record.root, chance, record.build, edits.INSIDE)
        plan = record.plan()
        assert record.differ(plan.leave) == [], edit
        edits.undo(record.root)


def test_nothing_changed(record: Recorded) -> None:
    plan = record.plan()
    assert (plan.everything, plan.run, plan.notes) == ((), {}, ())
    assert plan.leave == record.deeds.keys()
    assert len(plan.leave) == 11


def test_a_function_changed(record: Recorded) -> None:
    change(record.root, STORE, "order.Refunded = order", "order.Refunded = to == to || order")
    plan = record.plan()
    assert short(plan.run) == TRANSITION
    assert set(plan.run.values()) == {f"ran Store.Transition ({STORE})"}
    # It is what the tests are about.
    record.build()
    affected = short(record.differ(list(plan.run)))
    assert "test_paid_order_is_refunded_when_cancelled" in affected
    text = "\n".join(select.describe(plan))
    assert "7 of the record's 11 tests left out" in text
    assert f"4 tests: ran Store.Transition ({STORE})" in text


def test_what_changed_since_the_record_counts_whatever_the_commit(record: Recorded) -> None:
    """A commit after the record is not taken for its state; lines that moved are no change."""
    change(record.root, STORE, "// ErrNotFound is", "//\n//\n//\n// ErrNotFound is")
    change(record.root, STORE, "order.Refunded = order", "order.Refunded = to == to || order")
    git(record.root, "commit", "-qam", "more")
    for ref in ("HEAD", "HEAD~1"):
        plan = select.plan(record.root / ".kindcov", record.root, ref)
        assert short(plan.run) == TRANSITION, ref


def test_a_record_of_uncommitted_changes(record: Recorded) -> None:
    """Its text is known as long as the tree has it, or a commit does."""
    run = json.loads((record.root / ".kindcov/run.json").read_text())
    change(record.root, STORE, "order.Refunded = order", "order.Refunded = to == to || order")
    text = (record.root / STORE).read_bytes()
    digest = sources.digest(text)
    run["tree"]["changed"] = {STORE: digest}
    run["sources"][STORE] = digest
    (record.root / ".kindcov/run.json").write_text(json.dumps(run))
    # As recorded; but not as committed, which is what was asked.
    assert short(record.plan().run) == TRANSITION
    # As committed, which is not what was recorded.
    git(record.root, "checkout", "-q", STORE)
    assert record.plan().everything == (f"{STORE}: changed, and what it was is not known",)
    (record.root / STORE).write_bytes(text)
    git(record.root, "commit", "-qam", "now")
    assert record.plan().leave == record.deeds.keys()


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        (STORE, "func (s Status) String() string { return `` }", "method Status.String is new"),
        (STORE, "var more = 1", "declarations outside of functions"),
        ("internal/store/more.go", "package store", "is new"),
        ("internal/pricing/pricing.go", "func max(a, b basisPoints) basisPoints { return a }",
         "max is new, which is a name of Go's own"),
        ("deploy/service.yaml", "# more", "changed"),
        ("go.mod", "// more", "changed"),
        ("go.sum", "", "changed"),
        ("conftest.py", "# more", "changed"),
        ("tests/e2e/helper.py", "", "changed"),
        ("internal/store/testdata/x.go", "package x", "changed"),
        ("data.txt", "x", "changed"),
        ("cmd/orders/data.md", "x", "changed, and cmd/orders/embeds.go may name it"),
        ("deploy/notes.md", "x", "changed, and conftest.py may name it"),
    ],
)  # fmt: skip
def test_all_tests_run(record: Recorded, path: str, text: str, reason: str) -> None:
    file = record.root / path
    file.parent.mkdir(exist_ok=True)
    if "embeds" in reason:
        (file.parent / "embeds.go").write_text("package main\n\n//go:embed data.md\nvar x string\n")
    with file.open("a") as stream:
        stream.write(text + "\n")
    plan = record.plan()
    assert f"{path}: {reason}" in plan.everything
    assert not plan.leave
    assert "all tests run:" in select.describe(plan)


@pytest.mark.parametrize(
    ("path", "old", "new", "reason"),
    [
        ("cmd/orders/main.go", "flags.NArg() > 0", "flags.NArg() > 1", "parseConfig changed, which"
         " ran outside of tests ([startup])"),
        (STORE, "func (o *Order) clone() Order", "func (o Order) clone() Order", "the signature"),
        (STORE, '`json:"id"`', '`json:"no"`', "declarations outside"),
    ],
)  # fmt: skip
def test_a_change_that_all_stand_on(
    record: Recorded, path: str, old: str, new: str, reason: str
) -> None:
    change(record.root, path, old, new)
    (why,) = record.plan().everything
    assert why.startswith(f"{path}: {reason}")


def test_a_file_that_is_gone_or_moved(record: Recorded) -> None:
    (record.root / STORE).rename(record.root / "internal/store/orders.go")
    assert record.plan().everything == ("internal/store/orders.go: is new", f"{STORE}: is gone")


@pytest.mark.parametrize(
    "path", ["README.md", "internal/api/api_test.go", "tests/e2e/test_more.py", STORE]
)
def test_no_test_runs(record: Recorded, path: str) -> None:
    """Documentation, unit tests, tests that are new, comments."""
    with (record.root / path).open("a") as file:
        file.write("// more\n")
    plan = record.plan()
    assert plan.leave == record.deeds.keys()
    assert plan.notes == (path,)


def test_a_file_of_tests_changed(record: Recorded) -> None:
    path = "tests/e2e/test_orders.py"
    (record.root / path).write_text("# other\n")
    plan = record.plan()
    assert set(plan.run.values()) == {f"{path} changed"}
    assert plan.run.keys() == record.deeds.keys()
    (record.root / "tests/e2e/test_more.py").write_text("from test_orders import place\n")
    assert record.plan().everything == (
        f"{path}: a changed file of tests, which tests/e2e/test_more.py names",
    )


def test_generated_code_that_git_ignores(record: Recorded) -> None:
    (record.root / "internal/store/zz_gen.go").write_text("package store\n")
    (record.root / ".git/info/exclude").write_text("zz_*\n")
    assert record.plan().everything == ("internal/store/zz_gen.go: is new",)


def test_tests_that_did_not_pass(record: Recorded) -> None:
    file = record.root / ".kindcov/run.json"
    run = json.loads(file.read_text())
    run["tests"] |= {
        f"{TEST}test_service_is_ready": "failed",
        f"{TEST}test_unknown_order_is_not_found": "",
        f"{TEST}test_without_service": "passed",
    }
    file.write_text(json.dumps(run))
    last = [f"{TEST}test_orders_are_listed_by_status"]
    plan = select.plan(record.root / ".kindcov", record.root, "HEAD", last)
    assert {name.removeprefix(TEST): why for name, why in plan.run.items()} == {
        "test_service_is_ready": "failed in the recorded run",
        "test_unknown_order_is_not_found": "did not end",
        "test_without_service": "ran nothing that is known",
        "test_orders_are_listed_by_status": "failed since the recorded run",
    }
    assert len(plan.leave) == 8


def _no_tree(root: Path, run: dict[str, Any]) -> None:
    run["tree"] = None


def _other_commit(root: Path, run: dict[str, Any]) -> None:
    run["tree"]["commit"] = "0" * 40


def _lost(root: Path, run: dict[str, Any]) -> None:
    words = {"name": "a/b/c", "node": "", "image": "", "verdict": "killed", "text": ""}
    run["containers"] = [{**words, "loses": True, "allowed": True, "programs": []}]


def _unread(root: Path, run: dict[str, Any]) -> None:
    run["issues"] = [{"kind": "", "name": "", "reason": "not read live for a while"}]


def _other_data(root: Path, run: dict[str, Any]) -> None:
    run["data"] = 7.0


def _damaged(root: Path, run: dict[str, Any]) -> None:
    (root / ".kindcov/.coverage").write_bytes(b"no database")


def _empty(root: Path, run: dict[str, Any]) -> None:
    shutil.rmtree(root / ".kindcov/covdata")
    (root / ".kindcov/covdata").mkdir()


def _missing(root: Path, run: dict[str, Any]) -> None:
    (root / ".kindcov/.coverage").unlink()


def _no_git(root: Path, run: dict[str, Any]) -> None:
    shutil.rmtree(root / ".git")


def _old(root: Path, run: dict[str, Any]) -> None:
    del run["tests"], run["tree"], run["data"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_no_tree, "does not say of which commit"),
        (_old, "does not say of which commit"),
        (_other_commit, "does not have the recorded run's commit 000000000000"),
        (_lost, "a/b/c was killed: not all is known"),
        (_unread, "has a problem: not read live for a while"),
        (_other_data, "are of different runs"),
        (_damaged, "cannot be read"),
        (_empty, "has no coverage data"),
        (_missing, "no record of who ran what"),
        (_no_git, "what changed since HEAD is not known"),
    ],
)
def test_no_record_to_trust(
    record: Recorded, spoil: Callable[[Path, dict[str, Any]], None], reason: str
) -> None:
    file = record.root / ".kindcov/run.json"
    run = json.loads(file.read_text())
    spoil(record.root, run)
    file.write_text(json.dumps(run))
    plan = record.plan()
    assert not plan.leave
    assert len(plan.everything) == 1
    assert reason in plan.everything[0]


@pytest.mark.parametrize("ref", ["nonesuch", "-x", ""])
def test_no_such_commit(record: Recorded, ref: str) -> None:
    plan = select.plan(record.root / ".kindcov", record.root, ref)
    assert not plan.leave
    assert re.search("is not known|is no commit", plan.everything[0])


def test_another_root_directory(record: Recorded) -> None:
    below = record.root / "tests"
    plan = select.plan(record.root / ".kindcov", record.root, "HEAD", below=below)
    assert plan.everything == ("the recorded run's root directory was .",)


def test_a_submodule_and_a_link(record: Recorded) -> None:
    (record.root / "link.yaml").symlink_to("deploy/service.yaml")
    sub = record.root / "sub"
    sub.mkdir()
    git(sub, "init", "-q")
    git(sub, "commit", "-q", "--allow-empty", "-m", "x")
    assert record.plan().everything == ("link.yaml: is gone", "sub/: is gone")


def test_a_program_without_coverage_of_a_package(record: Recorded) -> None:
    """Another service of the run has the package, and does not say what it ran of it."""
    other = record.scratch / "other"
    change(record.root, STORE, "order.Refunded = order", "order.Refunded = to == to || order")
    assert record.plan().leave
    shutil.rmtree(other, ignore_errors=True)
    selecttruth.partly(record, other, "./cmd/orders")
    for file in other.glob("covmeta.*"):
        shutil.copy(file, record.root / ".kindcov/covdata")
    (why,) = record.plan().everything
    package = "example.com/orders/internal/store"
    main = "example.com/orders/cmd/orders"
    assert why == f"{STORE}: {main} was built without coverage of {package}"


def test_command(
    record: Recorded, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(record.root)
    change(record.root, STORE, "order.Refunded = order", "order.Refunded = to == to || order")
    assert cli.main(["select", "HEAD"]) == 0
    out, err = capsysbinary.readouterr()
    assert short(out.decode().split()) == TRANSITION
    assert b"7 of the record's 11 tests left out" in err
    names = record.root / ".kindcov/names"
    names.write_text(f"{TEST}test_new\n\n{TEST}test_service_is_ready\n")
    assert cli.main(["select", "HEAD", "--tests", str(names)]) == 0
    assert capsysbinary.readouterr()[0].decode() == f"{TEST}test_new\n"
    assert cli.main(["select", "HEAD", "--data", "nowhere"]) == 1
    assert b"[record-missing]" in capsysbinary.readouterr()[1]


def test_plan_as_text() -> None:
    plan = select.Plan("x", (), {"a": "why"}, frozenset({"b", "c"}), ("n",))
    assert select.Plan.from_json(plan.to_json()) == plan


def test_what_no_commit_has_and_is_as_recorded(record: Recorded) -> None:
    """A file that a tool leaves in the tree, and git was not told to ignore."""
    file = record.root / ".kindcov/run.json"
    run = json.loads(file.read_text())
    run["tree"]["changed"] = {"junit.xml": sources.digest(b"one")}
    file.write_text(json.dumps(run))
    (record.root / "junit.xml").write_bytes(b"one")
    assert record.plan().leave == record.deeds.keys()
    (record.root / "junit.xml").write_bytes(b"two")
    assert record.plan().everything == ("junit.xml: changed",)


def test_runs_of_one_tree_are_one_record() -> None:
    state = tree.Tree("c" * 40, ".", {})
    first = make.Run(tests={"a": "passed", "b": "passed"}, tree=state)
    second = make.Run(tests={"b": "failed", "c": "skipped"}, tree=state)
    both = runfile.join([first, second])
    assert both.tests == {"a": "passed", "b": "failed", "c": "skipped"}
    assert both.tree == state
    other = make.Run(tree=tree.Tree("d" * 40, ".", {}))
    assert runfile.join([first, other]).tree is None
    assert runfile.join([first, make.Run()]).tree is None


@pytest.mark.parametrize(
    ("parts", "outcome"),
    [
        (["setup passed", "call passed", "teardown passed"], "passed"),
        (["setup passed", "call passed", "teardown failed"], "failed"),
        (["setup failed", "teardown passed"], "failed"),
        (["setup passed"], ""),
        (["setup skipped", "teardown passed"], "skipped"),
        (["setup passed", "call skipped", "teardown passed"], "skipped"),
        # A second try, as pytest-rerunfailures makes it.
        (
            ["setup passed", "call rerun", "setup passed", "call passed", "teardown passed"],
            "failed",
        ),
    ],
)
def test_how_a_test_ended(parts: list[str], outcome: str) -> None:
    tests: dict[str, str] = {}
    for part in parts:
        when, how = part.split()
        report: Any = SimpleNamespace(nodeid="a", when=when, outcome=how)
        Outcomes(tests).pytest_runtest_logreport(report)
    assert tests == {"a": outcome}
