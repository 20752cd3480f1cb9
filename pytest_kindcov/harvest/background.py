"""What a service does by itself: probes, timers and reconcile loops, told apart from the tests.

While nothing runs, whatever a process counts is background. Each such event is known again by the
units that it ran. Where one was due while a test ran, and its units did run, it is taken out of
what the test did; a test that asks for the probe's path itself keeps that, for the probe was not
due just then.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from pytest_kindcov.covdata.model import Counters

    Units = npt.NDArray[np.int32]
    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Span = tuple[float, float]

# Kinds of events that are remembered for a process: one that does something else each time has no
# background that could be known again.
_MAX_KINDS = 256
# Seconds by which the kubelet's probes and Go's timers were seen to stray from their period.
_JITTER = 0.03
# Seconds between two phases that are tried.
_GRID = 0.01
_MAX_PHASES = 6000
# Parts of the shortest gap between two sightings that are tried as the period: the ticks between
# may have fallen into tests.
_MAX_HIDDEN = 8
# In a window of so many ticks some more are taken for the background's: the kubelet probes out of
# turn when a container of the pod changes.
_MANY = 3
# Seconds in which nothing else ran, below which a single sighting says nothing of how often: seen
# once in 50 ms between two tests, a probe was expected in each of the next.
_TELLING = 1.0
# Times before and after by which one is told more exactly: over more, clocks and loads drift.
_NEIGHBOURS = 4
# How many ticks that hit outweigh one that did not: a probe may come late, a wrong period misses
# most of the time.
_OUTSIDE = 2


@dataclass(frozen=True, eq=False)
class Window:
    """What one process did while the same tests ran.

    Args:
        contexts: names of what ran; more than one when they shared the process.
        begin: seconds, of the reading before.
        end: seconds, of the last reading; 0 for what was not read but written to a file.
        units: int32[N], ascending, what ran.
        counts: uint32[N], how often, modulo 2^32.

    """

    contexts: tuple[str, ...]
    begin: float
    end: float
    units: Units
    counts: Counters

    def holds(self, units: Units) -> bool:
        """Whether all these units ran."""
        return _within(units, self.units)


@dataclass(eq=False)
class Event:
    """Something that a process does while no test runs.

    Args:
        units: int32[N], ascending, what it runs.
        counts: uint32[N], the most that was seen of each in one event.
        sightings: when it was seen: seconds, from the reading before to the one after.
        rate: how often a second it was seen in other processes of its program.

    """

    units: Units
    counts: Counters
    sightings: list[Span] = field(default_factory=list)
    rate: float = 0.0


@dataclass(frozen=True, eq=False)
class Probe:
    """A probe of the kubelet.

    Args:
        units: int32[N], ascending, what it runs.
        counts: uint32[N], how often.
        due: when it came: seconds, each from the earliest moment to the latest, ascending.

    """

    units: Units
    counts: Counters
    due: list[Span]


class Background:
    """The background of one process."""

    def __init__(self) -> None:
        self.events: dict[bytes, Event] = {}
        self.probes: list[Probe] = []
        """Those of which is known when they came; others are told by their period."""
        self._idle: list[Span] = []  # when no test ran, neighbours joined
        self._known: set[int] = set()

    def watched(self, begin: float, end: float) -> None:
        """No test ran from begin to end."""
        if self._idle and begin <= self._idle[-1][1]:
            self._idle[-1] = (self._idle[-1][0], end)
        else:
            self._idle.append((begin, end))

    def saw(self, begin: float, end: float, units: Units, counts: Counters) -> None:
        """An event, somewhere from begin to end; several at once are taken apart if known."""
        self._known.update(units.tolist())
        # The largest first: a smaller one may be a part of it that once stood alone.
        for event in sorted(self.events.values(), key=lambda event: -len(event.units)):
            if not _within(event.units, units):
                continue
            at = np.searchsorted(units, event.units)
            event.counts = np.maximum(event.counts, counts[at])
            event.sightings.append((begin, end))
            rest = np.ones(len(units), bool)
            rest[at] = False
            units, counts = units[rest], counts[rest]
        if len(units) and len(self.events) < _MAX_KINDS:
            self.events[units.tobytes()] = Event(units, counts, [(begin, end)])

    def knows(self, units: Units) -> bool:
        """Whether all these units are known as background."""
        return self._known.issuperset(units.tolist())

    def borrow(self, other: Background) -> None:
        """Know what another process of the same program does by itself.

        A process that is new in the middle of a test was never seen alone.
        """
        for key, event in other.events.items():
            if event.sightings:
                own = self.events.setdefault(key, Event(event.units, event.counts))
                own.rate = max(own.rate, other._rate(event))

    def _rate(self, event: Event) -> float:
        watched = sum(end - begin for begin, end in self._idle)
        return len(event.sightings) / max(watched, _TELLING)

    def explain(self, windows: Sequence[Window], periods: Sequence[float] = ()) -> list[Bools]:
        """Which units of each window only the background ran there: bool[N] for each.

        Args:
            windows: all of this process, in their order.
            periods: seconds, of the probes that its pod declares.

        """
        explained = [np.zeros(len(window.units), np.uint64) for window in windows]
        for probe in self.probes:
            for i in self._came(probe, windows):
                at = np.searchsorted(windows[i].units, probe.units)
                explained[i][at] += probe.counts.astype(np.uint64)
        for event in self.events.values():
            if any(_within(probe.units, event.units) for probe in self.probes):
                continue
            holding = [
                i for i, window in enumerate(windows) if window.end and window.holds(event.units)
            ]
            if not holding:
                continue
            times = self._fallen(event, [windows[i] for i in holding], sorted(set(periods)))
            for i, often in zip(holding, times, strict=True):
                at = np.searchsorted(windows[i].units, event.units)
                more = 2 * often if often >= _MANY else often
                explained[i][at] += event.counts.astype(np.uint64) * np.uint64(more)
        return [window.counts <= count for window, count in zip(windows, explained, strict=True)]

    def _came(self, probe: Probe, windows: Sequence[Window]) -> Iterator[int]:
        """The numbers of the windows into which a probe fell, one for each time it did."""
        alone = [
            span
            for event in self.events.values()
            if _within(probe.units, event.units)
            for span in event.sightings
        ]
        spans = {
            i: (window.begin, window.end)
            for i, window in enumerate(windows)
            if window.end and window.holds(probe.units)
        }
        for due in probe.due:
            # Each was seen once: one that was seen alone did not fall into a test.
            seen = max(alone, key=lambda span: _overlap(due, span), default=None)
            if seen is not None and _overlap(due, seen) > -_JITTER:
                alone.remove(seen)
                continue
            best = max(spans, key=lambda i: _overlap(due, spans[i]), default=None)
            if best is not None and _overlap(due, spans[best]) > -_JITTER:
                yield best

    def _fallen(self, event: Event, holding: list[Window], periods: list[float]) -> list[int]:
        """How often an event fell into each of the windows in which its units ran."""
        seen = event.sightings
        spans = sorted([*seen, *((window.begin, window.end) for window in holding)])
        best: tuple[int, list[int]] | None = None
        for period in [*periods, *_gaps(seen)] if seen else []:
            ticks = _ticks(period, spans, seen)
            if ticks is not None:
                times, outside = _fall(ticks, spans, seen)
                score = sum(number > 0 for number in times) - _OUTSIDE * outside
                if score > (best[0] if best else 0):
                    best = score, times
        if best is not None:
            where = dict(zip(spans, best[1], strict=True))
            return [where[window.begin, window.end] for window in holding]
        lengths = [window.end - window.begin for window in holding]
        if not seen:  # it is new; one more, for a window begins and ends with what was seen
            expected = [event.rate * length for length in lengths]
            return [math.ceil(number) + 1 if number >= 1 else 0 for number in expected]
        # No period fits. Seen once, it is expected where as much time passed; else anywhere.
        rounded = math.ceil if len(seen) > 1 else math.floor
        return [rounded(self._rate(event) * length) for length in lengths]


def narrowed(due: Sequence[Span], period: float) -> list[Span]:
    """When a probe came, told more exactly by the times before and after: they are a period apart.

    Args:
        due: seconds, each from the earliest moment to the latest, ascending.
        period: seconds.

    """
    found = []
    middles = [(begin + end) / 2 for begin, end in due]
    # In turn with the one before; not so when a container was restarted, which begins a new turn.
    turn = [abs(b - a - period) < period / 2 for a, b in itertools.pairwise(middles)]
    for number, span in enumerate(due):
        first = last = number
        while first > max(number - _NEIGHBOURS, 0) and turn[first - 1]:
            first -= 1
        while last < min(number + _NEIGHBOURS, len(due) - 1) and turn[last]:
            last += 1
        begin, end = span
        for other in range(first, last + 1):
            apart = period * (other - number)
            begin = max(begin, due[other][0] - apart - _JITTER)
            end = min(end, due[other][1] - apart + _JITTER)
        found.append((begin, end) if begin < end else span)
    return found


def _overlap(one: Span, other: Span) -> float:
    """Seconds that two spans share; below 0, how far they are apart."""
    return min(one[1], other[1]) - max(one[0], other[0])


def _fall(ticks: Floats, spans: list[Span], seen: list[Span]) -> tuple[list[int], int]:
    """How many ticks fell into each span, each into the nearest; and how many into none.

    A sighting is sure to be a tick: one that may be it is not taken for a test's.
    """
    begin, end = np.array(spans).T
    apart = np.maximum(begin - ticks[:, None], ticks[:, None] - end)
    sure = np.array([span in seen for span in spans])
    apart[:, ~sure] += np.where((apart[:, sure] <= _JITTER).any(axis=1), np.inf, 0.0)[:, None]
    nearest = apart.argmin(axis=1)
    hit = apart.min(axis=1) <= _JITTER
    times = np.bincount(nearest[hit], minlength=len(spans))
    observed = (ticks > begin[0]) & (ticks < end[-1])
    return times.tolist(), int(np.sum(~hit & observed))


def _ticks(period: float, spans: list[Span], seen: list[Span]) -> Floats | None:
    """When ticks of this period were due, so that each sighting has one; None if there is none.

    Of all phases that do, the one in the middle is taken of those whose ticks fall best into spans
    in which the event's units ran: most ticks fell there, for their units run at each of them.
    """
    first, last = spans[0][0], spans[-1][1]
    phases = first + np.arange(0, period, max(_GRID, period / _MAX_PHASES))
    fits = np.ones(len(phases), bool)
    for begin, end in seen:
        # The first tick after `begin` must not be after `end`.
        gap = np.mod(phases - (begin - _JITTER), period)
        fits &= gap <= end - begin + 2 * _JITTER
    if not fits.any():
        return None
    phases = phases[fits]
    hits = np.zeros(len(phases), np.int64)
    for begin, end in spans:
        hits += np.mod(phases - (begin - _JITTER), period) <= end - begin + 2 * _JITTER
    best = phases[hits == hits.max()]
    phase = float(best[len(best) // 2])
    return np.arange(phase - period * math.ceil((phase - first) / period), last + period, period)


def _gaps(seen: list[Span]) -> list[float]:
    """Periods that sightings suggest: the shortest gap, and its parts if ticks fell into tests."""
    if len(seen) < 2:
        return []
    middles = [(begin + end) / 2 for begin, end in seen]
    shortest = min(b - a for a, b in itertools.pairwise(middles))
    if shortest <= 0:
        return []
    count = max(1, round((middles[-1] - middles[0]) / shortest))
    shortest = (middles[-1] - middles[0]) / count
    return [shortest / parts for parts in range(1, _MAX_HIDDEN + 1)]


def _within(part: Units, whole: Units) -> bool:
    """Whether all units of one ascending list are in another."""
    if len(part) > len(whole) or not len(part):
        return False
    at = np.searchsorted(whole, part)
    return bool((at < len(whole)).all() and (whole[np.minimum(at, len(whole) - 1)] == part).all())
