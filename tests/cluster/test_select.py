"""Selection by the record of a real run on a real cluster, under xdist as well."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import edits
from harness import ONE_ENGINE, ROOT, Runner

if TYPE_CHECKING:
    from pathlib import Path

STORE = "internal/store/store.go"


@ONE_ENGINE
def test_selected_by_a_real_record(runner: Runner, tmp_path: Path) -> None:
    """Full run, edit, selected run with workers: four of eleven, and the record stays."""
    orders = tmp_path / "orders"
    edits.copy(ROOT / "examples" / "orders", orders)
    assert runner(orders, "--kind-coverage").code == 0
    record = (orders / ".kindcov/.coverage").read_bytes()
    nothing = _select(runner, orders)
    assert nothing.stdout == ""
    assert "11 of the record's 11 tests left out" in nothing.stderr

    text = (orders / STORE).read_text()
    (orders / STORE).write_text(text.replace("order.Refunded = ", "order.Refunded = true && "))
    names = set(_select(runner, orders).stdout.split())
    assert {name.partition("::")[2] for name in names} == {
        "test_paid_order_is_refunded_when_cancelled",
        "test_cancelled_order_cannot_be_paid",
        "test_orders_are_listed_by_status",
        "test_unknown_order_is_not_found",
    }
    run = runner(orders, "--kind-coverage", "--kind-coverage-select=HEAD", "-n", "2")
    assert run.code == 0
    assert "4 passed" in run.output
    assert f"4  ran Store.Transition ({STORE})" in run.output
    assert "selected: 4 of 11 tests: no total, no reports and no limits" in run.output
    assert "TOTAL" not in run.output
    assert (orders / ".kindcov/selected/covdata").is_dir()
    assert (orders / ".kindcov/.coverage").read_bytes() == record
    assert set(_select(runner, orders).stdout.split()) == names
    assert runner.left_behind() == []


def _select(runner: Runner, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kindcov", "select", "HEAD"],
        cwd=directory,
        env=runner.env,
        capture_output=True,
        text=True,
        check=True,
    )
