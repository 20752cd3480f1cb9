"""What grows with pods, nodes, tests and units. Each point is measured three times at most.

pods, tests: on the cluster that figures share; one reading of all counters after each pod was
asked, what holds up the tests, and the end of the last test to reports written. nodes: a new
cluster for each, and a bare one. units: `kindcov report` of a text profile and of Go's files.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import large
from machine import CONFTEST, timed
from pairs import Curve, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from machine import Bench, Notes

PODS = (1, 10, 25, 50)
NODES = (1, 2, 3)
TESTS = (10, 100, 1_000)
UNITS = (1_000, 10_000, 100_000, 1_000_000)
SUITE = """
import os, statistics, time, urllib.request
import probe, pytest

def ask(orders):
    return urllib.request.urlopen(orders.url + "/orders", timeout=10).status == 200

@pytest.mark.parametrize("number", range(int(os.environ["TESTS"])))
def test_some(orders, number):
    assert ask(orders)

def test_reading(orders):
    taken = []
    for _ in range(15):
        for _ in range(int(os.environ["PODS"])):
            assert ask(orders)
        begin = time.perf_counter()
        probe.recorders[0].read()
        taken.append(1000 * (time.perf_counter() - begin))
    probe.NOTES["reading"] = statistics.median(taken)
"""
CONFIG = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n"

Points = dict[str, dict[int, list[float]]]


def rows(bench: Bench) -> Iterator[Row | Curve]:
    """Measure."""
    yield from _units(bench)
    yield from _pods(bench)
    yield from _tests(bench)
    bench.close()
    yield from _nodes(bench)


def _repository(bench: Bench, pods: int = 1) -> Path:
    repository = bench.repository(CONFTEST, SUITE)
    manifest = repository / "deploy/deployment.yaml"
    text = manifest.read_text().replace("replicas: 1", f"replicas: {pods}")
    manifest.write_text(text)
    (repository / "conftest.py").write_text(CONFTEST.replace("port=8080", "port=8080, timeout=300"))
    return repository


def _curves(points: Points, of: str, units: dict[str, str]) -> Iterator[Curve]:
    for figure, unit in units.items():
        found = tuple((count, tuple(values)) for count, values in sorted(points[figure].items()))
        yield Curve(figure, of, unit, found)


def _note(points: Points, count: int, values: dict[str, float]) -> None:
    for figure, value in values.items():
        points.setdefault(figure, {}).setdefault(count, []).append(value)


def _ends(notes: Notes) -> dict[str, float]:
    return {
        "one reading": notes.values["reading"],
        "end of the last test to reports written": notes.ended,
        "memory of the pytest process": notes.values["peak"],
    }


START = "start to first test"
UNIT = {
    "one reading": "ms",
    "end of the last test to reports written": "s",
    "memory of the pytest process": "MB",
}


def _pods(bench: Bench) -> Iterator[Curve]:
    points: Points = {}
    for count in PODS * bench.rounds:
        bench.say(f"growth: {count} pods")
        notes = bench.ours(_repository(bench, count), TESTS="10", PODS=str(count))
        _note(points, count, _ends(notes))
    yield from _curves(points, "pods", UNIT)


def _tests(bench: Bench) -> Iterator[Curve]:
    points: Points = {}
    for count in TESTS * bench.rounds:
        bench.say(f"growth: {count} tests")
        notes = bench.ours(_repository(bench), TESTS=str(count), PODS="1")
        held = [each for test, each in notes.values["held"].items() if "::test_some[" in test]
        found = {"what holds up all tests": sum(held), "who ran what": notes.values["booked"]}
        _note(points, count, {**_ends(notes), **found})
    units = {key: value for key, value in UNIT.items() if key != "one reading"}
    yield from _curves(
        points, "tests", {"what holds up all tests": "s", "who ran what": "s", **units}
    )


def _nodes(bench: Bench) -> Iterator[Row | Curve]:
    points: Points = {}
    for count in NODES * bench.rounds:
        bench.say(f"growth: {count} nodes")
        repository = _repository(bench, 3)
        (repository / "kind.yaml").write_text(CONFIG + "- role: worker\n" * (count - 1))
        config = "--kind-coverage-kind-config=kind.yaml"
        begin = time.time()
        with bench.cluster(count):
            bare = time.time() - begin
        begin = time.time()
        notes = bench.pytest(repository, "--kind-coverage", config, TESTS="10", PODS="3")
        start = {START: notes.values["first"] - begin, "bare": bare}
        _note(points, count, {**start, **_ends(notes)})
    units = {key: value for key, value in UNIT.items() if value != "MB"}
    yield from _curves(points, "nodes", {START: "s", **units})
    for count in NODES:
        ours, others = (tuple(points[name][count]) for name in (START, "bare"))
        figure = f"{START}, {count} node{'s' if count > 1 else ''}"
        yield Row(figure, "s", ours, "a bare cluster, Ready", others)


def _units(bench: Bench) -> Iterator[Curve]:
    points: Points = {}
    each = large.sample(bench.directory("sample"))
    for count in UNITS:
        bench.say(f"growth: {count:,} units")
        service = large.Service(each, count)
        root, out = bench.directory("service"), bench.directory("out")
        service.lay(root)
        counted = service.counters(20)
        text = out / "coverage.out"
        service.profile(text, counted)
        service.data(out / "data", counted)
        kinds = [f"--report={kind}:{out / kind}" for kind in ("html", "xml", "lcov")]
        commands: dict[str, Sequence[str]] = {
            "html, xml, lcov of a text profile": [str(text), "--root", str(root), *kinds],
            "the text profile of Go's files": [
                str(out / "data"), "--root", str(root), f"--report=go:{out / 'profile'}",
            ],
        }  # fmt: skip
        for _ in range(bench.rounds):
            for figure, words in commands.items():
                command = [sys.executable, "-m", "pytest_kindcov", "report", *words]
                spent, _, _ = timed(command, out)
                _note(points, len(service.meta), {figure: spent})
    yield from _curves(points, "units", dict.fromkeys(points, "s"))
