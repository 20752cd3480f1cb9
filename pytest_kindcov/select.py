"""Which tests a change can affect: who ran what, held against what differs from the recorded run.

A test is left out only if the record is of a whole and consistent run, the test passed in it, and
nothing that it ran, and nothing that all tests stand on, is another now. In doubt, it runs.

What a change of a file means:

- Go: the tests that ran a function whose own code changed. All tests, if the function also ran
  outside of tests (start, background, fixtures that tests share), if nobody knows who ran it, or if
  more than bodies of functions changed: see `report.gosource`. Comments and layout: no test.
- A file of tests: its own tests; of a Go package's tests: those of its directory.
- Documentation that nothing names: no test.
- All else (manifests, `go.mod`, a conftest, a helper): all tests.

Not seen: what is in no file of the repository (versions of Go and Kind, images, the environment),
and files that git ignores, unless Go compiles or embeds them. Not known: that a test needs what
another one left in the service. Code that does not compile is for `go vet` to find.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.errors import CoverageDataError
from pytest_kindcov.report import affected, datafile, runfile, sources, tree
from pytest_kindcov.report.texts import counted, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

UNKNOWN = "not in the record"
"""Why a test runs of which the recorded run knows nothing."""
_SHOWN = 3  # reasons of a kind


@dataclass(frozen=True)
class Plan:
    """Which tests of a recorded run need not run again.

    Args:
        ref: since when.
        everything: why all tests run; empty if some need not.
        run: tests of the record that run, and why.
        leave: tests that need not.
        notes: what changed and concerns no test.

    """

    ref: str
    everything: tuple[str, ...] = ()
    run: Mapping[str, str] = field(default_factory=dict)
    leave: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As text, for the way to the workers."""
        return json.dumps({**asdict(self), "leave": sorted(self.leave)})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """What `to_json` wrote."""
        value = json.loads(text)
        return cls(
            value["ref"],
            tuple(value["everything"]),
            value["run"],
            frozenset(value["leave"]),
            tuple(value["notes"]),
        )


def plan(
    directory: Path, root: Path, ref: str, failed: Collection[str] = (), below: Path | None = None
) -> Plan:
    """Say which tests a change can affect.

    Args:
        directory: what the recorded run left.
        root: of the repository, or a directory in it.
        ref: a commit: what changed since the branch left it counts too.
        failed: tests that failed since the recorded run.
        below: pytest's root directory, if the record must be of it.

    """
    try:
        run = affected.usable(directory)
        assert run.tree is not None
        top = sources.top(root)
        if below is not None and (top / run.tree.below).resolve() != below.resolve():
            raise affected.Doubt(f"the recorded run's root directory was {shown(run.tree.below)}")
        own = sources.repository(top / run.tree.below)
        changed = tree.changed(run.tree, run.recorded, own, ref)
        with datafile.opened(datafile.find(directory)) as connection:
            record = affected.Record(run, own, connection, affected.metas(directory))
            everything, chosen, notes = record.judge(changed)
    except CoverageDataError as error:
        return Plan(ref, (error.headline,))
    except (affected.Doubt, tree.Unknown) as doubt:
        return Plan(ref, (str(doubt),))
    for name, how in run.tests.items():
        if how != "passed":
            chosen[name] = f"{how} in the recorded run" if how else "did not end"
        elif name in failed or name.partition("::")[0] in failed:  # a file that was not collected
            chosen[name] = "failed since the recorded run"
        elif name not in record.tests:
            chosen.setdefault(name, "ran nothing that is known")
    leave = frozenset() if everything else frozenset(run.tests) - chosen.keys()
    return Plan(ref, tuple(everything), chosen, leave, tuple(notes))


def last_failed(root: Path) -> set[str]:
    """The tests that failed when pytest ran last, by its own cache; none if it is not there."""
    try:
        return set(json.loads((root / ".pytest_cache/v/cache/lastfailed").read_bytes()))
    except (OSError, ValueError, TypeError):
        return set()


def describe(found: Plan) -> list[str]:
    """A plan in some lines: what changed, what runs, and why."""
    if found.everything:
        reasons = list(found.everything)
        more = (
            [f"and {counted(len(reasons) - _SHOWN, 'more reason')}"]
            if len(reasons) > _SHOWN
            else []
        )
        return ["all tests run:", *(f"  {reason}" for reason in reasons[:_SHOWN] + more)]
    total = len(found.run) + len(found.leave)
    lines = [
        f"since {shown(found.ref)}: {len(found.leave)} of the record's {counted(total, 'test')}"
        " left out: they passed, and nothing that they ran has changed"
    ]
    rules: dict[str, int] = {}
    for why in found.run.values():
        rules[why] = rules.get(why, 0) + 1
    lines += [f"  {counted(number, 'test')}: {why}" for why, number in sorted(rules.items())]
    if found.notes:
        lines.append(
            f"  no test: {', '.join(found.notes[:_SHOWN])}"
            + ("…" if len(found.notes) > _SHOWN else "")
        )
    return lines


def run(ref: str, data: str, tests: str) -> int:
    """Print the node ids of the tests that a change can affect; on standard error, why.

    Args:
        ref: a commit.
        data: directory of the recorded run.
        tests: file of the node ids there are, one a line, `-` for standard input; those of them are
            printed that are to run. "": those of the record.

    Returns:
        The exit code, 0.

    Raises:
        CoverageDataError: there is no record.

    """
    directory = Path(data)
    datafile.find(directory)
    recorded = runfile.read(directory)
    below = sources.top(Path.cwd()) / (recorded.tree.below if recorded.tree else ".")
    found = plan(directory, Path.cwd(), ref, last_failed(below))
    for line in describe(found):
        print(f"kindcov: {line}", file=sys.stderr)
    if tests:
        text = sys.stdin.read() if tests == "-" else Path(tests).read_text()
        names = [line for line in text.splitlines() if line.strip()]
    else:
        names = sorted(recorded.tests)
        print(
            "kindcov: tests that the record does not know must run too: see --tests",
            file=sys.stderr,
        )
    sys.stdout.flush()
    sys.stdout.buffer.write(
        "".join(f"{name}\n" for name in names if name not in found.leave).encode()
    )
    sys.stdout.buffer.flush()
    return 0
