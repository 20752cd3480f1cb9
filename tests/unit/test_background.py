"""Telling a service's own work from what the tests made it do."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_kindcov.harvest.attribute import BACKGROUND, STARTUP, Account, contexts
from pytest_kindcov.harvest.background import Background, Probe, Window, narrowed
from pytest_kindcov.harvest.running import Ran

UNITS = 20
MAIN, READY, LIVE, TIMER = [0, 1], [2, 3], [4], [5, 6, 7]
POLL = 0.2


def vector(*parts: list[int]) -> np.ndarray:
    out = np.zeros(UNITS, np.uint32)
    for part in parts:
        out[part] += 1
    return out


class Service:
    """A service in simulated time: readings each 0.2 s, and at the begin and end of each test."""

    def __init__(self, ticks: list[tuple[float, list[int]]]) -> None:
        self.account = Account(b"build", UNITS)
        self.now = 0.0
        self._ticks = sorted(ticks)
        self._number = 0
        self.account.book(Ran(), 0.0, 0.0, vector(MAIN))
        self.account.book(Ran(), 0.0, 0.0, None)

    def _read(self, ran: Ran, until: float, *did: list[int]) -> None:
        fallen = [units for when, units in self._ticks if self.now < when <= until]
        delta = vector(*fallen, *did)
        self.account.book(ran, self.now, until, delta if delta.any() else None)
        self.now = until

    def idle(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now + POLL < until:
            self._read(Ran(), self.now + POLL)
        self._read(Ran(), until)

    def test(self, name: str, seconds: float, *did: list[int]) -> None:
        self._number += 1
        self._read(Ran((name,), self._number), self.now + seconds, *did)

    def ran(self, *periods: float) -> dict[str, set[int]]:
        found = contexts([(self.account, periods)])
        return {name: set(builds[b"build"].tolist()) for name, builds in found.items()}


def probe(
    units: list[int], phase: float, period: float, until: float
) -> list[tuple[float, list[int]]]:
    return [(float(when), units) for when in np.arange(phase, until, period)]


def test_background_alone_is_no_test() -> None:
    service = Service(probe(READY, 0.33, 1.0, 10))
    service.idle(3)
    service.test("a", 0.02, [10])
    assert service.ran(1.0) == {STARTUP: {0, 1}, BACKGROUND: {2, 3}, "a": {10}}


@pytest.mark.parametrize("seconds", [0.02, 0.11, 0.35, 1.7])
@pytest.mark.parametrize("seen", [1.2, 2.5, 6.1])
def test_probe_that_falls_into_a_test_is_taken_out(seconds: float, seen: float) -> None:
    """Tests without a pause, so that the probes must fall into some of them."""
    service = Service(probe(READY, 0.33, 1.0, 100))
    service.idle(seen)
    for number in range(60):
        service.test(f"t{number}", seconds, [10])
    ran = service.ran(1.0)
    assert ran[BACKGROUND] == {2, 3}
    assert all(ran[f"t{number}"] == {10} for number in range(60))


@pytest.mark.parametrize("pause", [0.05, 0.27, 0.41])
def test_test_that_asks_the_probe_s_path_keeps_it(pause: float) -> None:
    service = Service(probe(READY, 0.33, 1.0, 100))
    service.idle(2.5 + pause)
    service.test("own", 0.02, READY, [10])
    for number in range(30):
        service.test(f"t{number}", 0.05, [10])
    ran = service.ran(1.0)
    assert ran["own"] == {2, 3, 10}
    assert all(ran[f"t{number}"] == {10} for number in range(30))


@pytest.mark.parametrize("apart", [0.005, 0.015, 0.025])
@pytest.mark.parametrize("before", [True, False])
def test_probe_beside_a_test_that_asks_its_path(apart: float, before: bool) -> None:
    """Seen on a cluster: the probe came 11 ms after the test had asked the same path."""
    service = Service(probe(READY, 0.5, 1.0, 4))
    begin = 2.5 + apart if before else 2.5 - apart - 0.02
    service.idle(begin - service.now)
    service.test("own", 0.02, READY, [10])
    service.idle(0.01)
    service.idle(0.5)
    assert service.ran(1.0)["own"] == {2, 3, 10}


def test_exit_file_that_tells_of_a_probe_says_nothing_of_the_tests() -> None:
    """Times as seen on a cluster: a last probe that only the exit file told upset the phases."""
    own = Background()
    own.watched(212.6, 214.3)
    ready, counts = np.array(READY, np.int32), np.ones(2, np.uint32)
    own.saw(212.683, 212.706, ready, counts)
    own.saw(213.659, 213.682, ready, counts)
    asks = Window(("own",), 214.372, 214.381, ready, counts)
    told = Window(("[shutdown]",), 0.0, 0.0, ready, counts)
    by_itself, _ = own.explain([asks, told], [1.0, 5.0])
    assert not by_itself.any()


def test_probe_and_own_call_in_one_test_are_counted() -> None:
    service = Service(probe(READY, 0.33, 1.0, 100))
    service.idle(3)
    service.test("own", 1.0, READY, [10])
    assert service.ran(1.0)["own"] == {2, 3, 10}


def test_two_probes_at_once_are_taken_apart() -> None:
    ticks = [*probe(READY, 0.33, 1.0, 100), *probe(LIVE, 2.34, 5.0, 100)]
    service = Service(ticks)
    service.idle(8)
    for number in range(50):
        service.test(f"t{number}", 0.13, [10])
    ran = service.ran(1.0, 5.0)
    assert all(ran[f"t{number}"] == {10} for number in range(50))


def test_timer_that_no_pod_declares() -> None:
    service = Service(probe(TIMER, 0.7, 2.3, 100))
    service.idle(6)
    service.test("own", 0.01, TIMER, [10])
    for number in range(80):
        service.test(f"t{number}", 0.11, [10])
    ran = service.ran()
    assert ran["own"] == {5, 6, 7, 10}
    assert all(ran[f"t{number}"] == {10} for number in range(80))


def test_hidden_ticks_between_two_sightings() -> None:
    """Two sightings, three periods apart: the ticks between fell into tests."""
    service = Service(probe(TIMER, 0.5, 2.0, 100))
    service.idle(1.0)
    while service.now < 6.0:
        service.test("t", 0.1, [10])
    service.idle(1.0)
    assert service.ran()["t"] == {10}


def test_new_process_in_the_middle_of_a_test() -> None:
    """A pod that was replaced: another pod of its program says what a probe is."""
    old = Service(probe(READY, 0.33, 1.0, 100))
    old.idle(5)
    new = Service(probe(READY, 0.33, 1.0, 100))
    new.test("restarts", 4.2, [10])
    new.test("own", 0.02, READY)
    found = contexts([(old.account, [1.0]), (new.account, [1.0])])
    assert found["restarts"][b"build"].tolist() == [10]
    assert found["own"][b"build"].tolist() == [2, 3]


def test_one_sighting_in_a_short_pause_does_not_make_a_probe_frequent() -> None:
    """Seen on a cluster with two workers: each pod's test asked what was probed in a pause."""
    old = Service([(1.02, LIVE)])
    old.test("first", 1.0, [10])
    old.idle(0.05)
    new = Service([])
    new.test("own", 0.1, LIVE)
    found = contexts([(old.account, [1.0, 5.0]), (new.account, [1.0, 5.0])])
    assert found["own"][b"build"].tolist() == LIVE


def test_part_of_an_event_is_the_test_s() -> None:
    service = Service(probe(TIMER, 0.7, 1.0, 100))
    service.idle(5)
    service.test("part", 0.01, [5, 6])
    assert service.ran(1.0)["part"] == {5, 6}


def test_every_count_is_booked_once() -> None:
    service = Service([*probe(READY, 0.33, 1.0, 50), *probe(TIMER, 0.1, 0.7, 50)])
    service.idle(2)
    for number in range(20):
        service.test(f"t{number}", 0.17, [10], MAIN)
    service.idle(2)
    service.account.close()
    total = service.account.idle.astype(np.int64)
    for window in service.account.windows:
        total[window.units] += window.counts
    expected = vector(MAIN).astype(np.int64)
    for _ in range(20):
        expected += vector([10], MAIN)
    for when, units in service._ticks:
        if when <= service.now:
            expected[units] += 1
    assert total.tolist() == expected.tolist()


def known(units: list[int], *due: tuple[float, float]) -> Probe:
    return Probe(np.array(units, np.int32), np.ones(len(units), np.uint32), list(due))


def test_probe_that_only_ever_fell_into_tests() -> None:
    """Seen on a cluster: the first liveness probe that met a server came in a test."""
    service = Service(probe(LIVE, 1.05, 5.0, 10))
    service.idle(1.0)
    service.test("probed", 0.1, [10])
    service.test("own", 0.1, LIVE)
    service.account.background.probes = [known(LIVE, (0.9, 1.15))]
    ran = service.ran(5.0)
    assert ran["probed"] == {10}
    assert ran["own"] == set(LIVE)


def test_known_probe_that_came_while_nothing_ran() -> None:
    service = Service(probe(LIVE, 0.95, 5.0, 10))
    service.idle(1.0)
    service.test("own", 0.02, LIVE)
    service.account.background.probes = [known(LIVE, (0.9, 1.1))]
    assert service.ran(5.0)["own"] == set(LIVE)


def test_two_known_probes_at_once() -> None:
    """Seen together only: what each runs is known, and no third one is made up."""
    both = [*probe(READY, 0.5, 1.0, 10), *probe(LIVE, 0.5, 5.0, 10)]
    service = Service(both)
    service.idle(0.6)
    service.test("own", 0.1, READY, LIVE)
    service.idle(0.3)
    service.test("probed", 1.0, [10])
    service.account.background.probes = [
        known(READY, (0.4, 0.6), (1.4, 1.6)),
        known(LIVE, (0.4, 0.6)),
    ]
    ran = service.ran(1.0, 5.0)
    assert ran["own"] == {*READY, *LIVE}
    assert ran["probed"] == {10}


def test_times_of_a_probe_are_narrowed_by_each_other() -> None:
    due = [(0.0, 0.2), (0.9, 1.1), (2.1, 2.3)]
    narrow = narrowed(due, 1.0)
    assert all(end - begin < 0.07 for begin, end in narrow)
    assert all(begin <= number + 0.1 <= end for number, (begin, end) in enumerate(narrow))
    assert narrowed([(0.0, 0.2), (1.5, 1.7)], 1.0) == [(0.0, 0.2), (1.5, 1.7)]


def test_times_of_a_probe_whose_container_was_restarted() -> None:
    """Times as seen on a cluster: the probes of before and after have another phase."""
    before = [(40.887, 41.422), (42.066, 42.293), (43.205, 43.459), (44.177, 44.468)]
    after = [(46.518, 46.773), (47.3, 47.76), (48.49, 48.7), (49.4, 49.65), (50.5, 50.7)]
    narrow = narrowed([*before, *after], 1.0)
    assert all(begin <= 47.58 + number <= end for number, (begin, end) in enumerate(narrow[5:]))


def test_what_is_done_in_the_background_s_stead() -> None:
    account = Account(b"build", UNITS)
    account.book(Ran(), 0.0, 0.1, vector(MAIN))
    account.book(Ran(), 0.1, 0.2, None)
    assert account.acted() is None
    account.book(Ran((BACKGROUND,), -2), 0.2, 0.3, vector(LIVE))
    sighted = account.acted()
    assert sighted is not None
    assert sighted[0].tolist() == LIVE
    assert account.background.events == {}
    assert contexts([(account, ())])[BACKGROUND][b"build"].tolist() == LIVE
