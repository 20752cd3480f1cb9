"""pytest hooks and fixtures; all work is done by `session` and the rooms below it."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov import fixtures, options, state
from pytest_kindcov.fixtures import ACCESS, NODEID, SETTINGS, is_ours, spec_of
from pytest_kindcov.session.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindcov.service.spec import ServiceSpec
    from pytest_kindcov.session.run import Outcome


# A pod may leave thousands of damaged files.
_PROBLEMS = 30
_OWNER = pytest.StashKey[Owner]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare flags and ini keys."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the role: owner, or view in an xdist worker. Nothing here costs."""
    settings = options.resolve(config)
    config.stash[SETTINGS] = settings
    config.pluginmanager.register(fixtures, "kindcov-fixtures")
    config.stash[NODEID] = []
    if settings.go_suites:
        from pytest_kindcov import suites

        config.pluginmanager.register(suites, "kindcov-suites")
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        from pytest_kindcov._xdist import STATE_KEY

        config.stash[ACCESS] = state.View(settings, Path(worker[STATE_KEY]), worker["workerid"])
        _attribute(config)
        if settings.select:
            from pytest_kindcov import _select, select

            found = select.Plan.from_json(worker[_select.PLAN_KEY])
            selection = _select.Selection(lambda: found, lambda item: _needs([item])[1])
            config.pluginmanager.register(selection, "kindcov-select")
        return
    progress = Progress(config)
    cache = getattr(config, "cache", None)
    kept = functools.partial(cache.mkdir, "kindcov") if cache is not None else None
    owner = Owner(settings, progress.tell, progress.flush, kept)
    config.stash[ACCESS] = config.stash[_OWNER] = owner
    config.add_cleanup(lambda: _close_silently(owner))
    config.pluginmanager.register(Interrupts(owner), "kindcov-interrupts")
    _attribute(config)
    if settings.select:
        _select_tests(config, owner)
    if config.pluginmanager.hasplugin("xdist"):
        from pytest_kindcov._xdist import XdistHooks

        config.pluginmanager.register(XdistHooks(owner), "kindcov-xdist")


def _attribute(config: pytest.Config) -> None:
    """With coverage, note which test is under way."""
    settings = config.stash[SETTINGS]
    if not settings.coverage or settings.context != "test":
        return
    from pytest_kindcov._contexts import ContextHooks, NewlyCovered, Outcomes

    verbose = config.get_verbosity() > 0
    hooks = ContextHooks(config.stash[ACCESS].live, is_ours, config.stash[NODEID], verbose)
    config.pluginmanager.register(hooks, "kindcov-contexts")
    if not hasattr(config, "workerinput"):  # a worker's reports are shown by the controller
        config.pluginmanager.register(NewlyCovered(), "kindcov-newly")
        outcomes = Outcomes(config.stash[_OWNER].outcome.tests)
        config.pluginmanager.register(outcomes, "kindcov-outcomes")


def _select_tests(config: pytest.Config, owner: Owner) -> None:
    """Leave out tests that no change can affect, in this process and in all workers."""
    from pytest_kindcov import _select, select

    def make() -> select.Plan:
        settings, cache = config.stash[SETTINGS], getattr(config, "cache", None)
        failed = cache.get("cache/lastfailed", {}) if cache is not None else {}
        root = config.rootpath
        return select.plan(settings.dir, root, settings.select, failed, below=root)

    def tell(text: str) -> None:
        owner.outcome.subset = text

    selection = _select.Selection(make, lambda item: _needs([item])[1], tell)
    config.pluginmanager.register(selection, "kindcov-select")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Settings that are not defaults, with their source."""
    settings = config.stash[SETTINGS]
    return f"kindcov: {settings.describe()}" if settings.sources else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """With coverage a cluster is as good as wanted: look for the engine meanwhile."""
    config = session.config
    owner = config.stash.get(_OWNER, None)
    if owner is not None and owner.settings.coverage and not config.option.collectonly:
        owner.ahead()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start building and creating at once if a selected test needs it.

    First of all: in a worker the note must be there before xdist tells the controller.
    """
    config = session.config
    if config.option.collectonly or getattr(config.option, "setupplan", False):
        return
    in_worker = hasattr(config, "workerinput")  # they run the tests all the same
    if session.testsfailed and not (in_worker or config.option.continue_on_collection_errors):
        return
    specs, needed = _needs(session.items)
    if needed:
        config.stash[ACCESS].want(specs)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Harvest, report and delete; a failure of these fails a run that was fine."""
    owner = session.config.stash.get(_OWNER, None)
    if owner is None:
        return
    outcome = owner.close(
        failed=session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED),
        interrupted=session.exitstatus == pytest.ExitCode.INTERRUPTED
        or bool(session.shouldstop or session.shouldfail),
        tests_failed=session.testsfailed > 0,
    )
    passed = outcome.report is None or outcome.report.passed
    if outcome.interrupted:
        session.exitstatus = pytest.ExitCode.INTERRUPTED
    if (outcome.errors or not passed) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the summary block; nothing where no cluster was used."""
    owner = config.stash.get(_OWNER, None)
    if owner is None or not owner.outcome.used:
        return
    outcome = owner.close()
    lines = _block(outcome, config, terminalreporter._tw.fullwidth)
    if lines:
        terminalreporter.section("kind coverage")
    for line, colour in lines:
        terminalreporter.write_line(line, **({colour: True} if colour else {}))


def _block(outcome: Outcome, config: pytest.Config, width: int) -> list[tuple[str, str]]:
    """Lines of the summary block and their colours."""
    verbosity = config.get_verbosity()
    lines: list[tuple[str, str]] = []
    if outcome.report is not None:
        from pytest_kindcov.report import block
        from pytest_kindcov.report.texts import listed

        if verbosity >= 0:
            lines.append((outcome.headline, ""))
        wanted = config.stash[SETTINGS].wanted()
        if not outcome.subset:
            lines += block.figures(outcome.report, wanted.reports, verbosity, width)
    problems = outcome.problems[:_PROBLEMS]
    lines += [(f"WARNING {problem}", "yellow") for problem in problems]
    if len(outcome.problems) > len(problems):
        more = len(outcome.problems) - len(problems)
        lines.append((f"WARNING and {more} more of these; all are in coverage.json", "yellow"))
    if verbosity >= 0:
        lines += [(note, "") for note in outcome.notes]
    lines += [(f"SKIPPED {reason}", "yellow") for reason in outcome.skipped]
    if outcome.skipped and config.stash[SETTINGS].coverage:
        lines.append(("no coverage was measured", "yellow"))
    lines += [(f"ERROR {error}", "red") for error in outcome.errors]
    if outcome.report is not None and verbosity >= 0:
        directory, here = config.stash[_OWNER].directory, Path.cwd()
        shown = directory.relative_to(here) if directory.is_relative_to(here) else directory
        lines.append((f"wrote {listed(outcome.wrote)}", ""))
        following = "" if outcome.subset else block.next_step(outcome.report, str(shown))
        lines += [(following, "")] if following else []
    return lines


def _needs(items: Sequence[pytest.Item]) -> tuple[list[ServiceSpec], bool]:
    """The services that items ask for by name, and whether any needs the cluster."""
    specs: dict[str, ServiceSpec] = {}
    needed = False
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        needed = needed or ("kind_cluster" in names and _is_ours(item))
        # What a name stands for is known to pytest's own bookkeeping only; without it services
        # start when their fixture is first used.
        known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
        for name in names & set(known):
            spec = spec_of(known[name][-1])
            if spec is not None:
                specs[spec.key] = spec
    return list(specs.values()), needed or bool(specs)


def _is_ours(item: pytest.Item) -> bool:
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    definitions = known.get("kind_cluster")
    return definitions is not None and is_ours(definitions[-1])


def _close_silently(owner: Owner) -> None:
    """The last resort, when pytest never came to its session's finish."""
    owner.close()


class Interrupts:
    """Tells the owner at once: one Ctrl-C more could cut short what others do before its end."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Ctrl-C, SIGTERM or `pytest.exit`: the session ends."""
        self._owner.interrupted()


class Progress:
    """Lines of progress, from any thread, above pytest's own output.

    pytest captures the terminal while a fixture waits, so only the main thread writes, past the
    capture; other threads leave their lines for it. xdist's controller captures nothing, and its
    main thread waits elsewhere: there every thread writes.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def tell(self, line: str) -> None:
        """Print a line, now or at the next `flush`."""
        self._lines.put(line)
        in_controller = getattr(self._config.option, "dist", "no") != "no"
        if in_controller or threading.current_thread() is threading.main_thread():
            self.flush()

    def flush(self) -> None:
        """Print the lines that wait."""
        if self._lines.empty():
            return
        manager = self._config.pluginmanager
        reporter: Any = manager.get_plugin("terminalreporter")
        capture: Any = manager.get_plugin("capturemanager")
        silent = reporter is None or self._config.get_verbosity() < 0
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            while not self._lines.empty():
                line = self._lines.get()
                if not silent:
                    reporter.ensure_newline()
                    reporter.write_line(line)
