"""pytest hooks and fixtures; all work is done by `session` and the rooms below it."""

from __future__ import annotations

import contextlib
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
        return
    progress = Progress(config)
    owner = Owner(settings, progress.tell, progress.flush)
    config.stash[ACCESS] = config.stash[_OWNER] = owner
    config.add_cleanup(lambda: _close_silently(owner))
    _attribute(config)
    if config.pluginmanager.hasplugin("xdist"):
        from pytest_kindcov._xdist import XdistHooks

        config.pluginmanager.register(XdistHooks(owner), "kindcov-xdist")


def _attribute(config: pytest.Config) -> None:
    """With coverage, note which test is under way."""
    settings = config.stash[SETTINGS]
    if not settings.coverage or settings.context != "test":
        return
    from pytest_kindcov._contexts import ContextHooks, NewlyCovered

    verbose = config.get_verbosity() > 0
    hooks = ContextHooks(config.stash[ACCESS].live, is_ours, config.stash[NODEID], verbose)
    config.pluginmanager.register(hooks, "kindcov-contexts")
    if not hasattr(config, "workerinput"):  # a worker's reports are shown by the controller
        config.pluginmanager.register(NewlyCovered(), "kindcov-newly")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Settings that are not defaults, with their source."""
    settings = config.stash[SETTINGS]
    return f"kindcov: {settings.describe()}" if settings.sources else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start building and creating at once if a selected test needs it.

    First of all: in a worker the note must be there before xdist tells the controller.
    """
    config = session.config
    if config.option.collectonly or getattr(config.option, "setupplan", False):
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
        interrupted=session.exitstatus == pytest.ExitCode.INTERRUPTED or bool(session.shouldstop),
        tests_failed=session.testsfailed > 0,
    )
    passed = outcome.report is None or outcome.report.passed
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
        lines += block.figures(outcome.report, wanted.reports, verbosity, width)
    lines += [(f"WARNING {problem}", "yellow") for problem in outcome.problems]
    if verbosity >= 0:
        lines += [(note, "") for note in outcome.notes]
    lines += [(f"SKIPPED {reason}", "yellow") for reason in outcome.skipped]
    if outcome.skipped and config.stash[SETTINGS].coverage:
        lines.append(("no coverage was measured", "yellow"))
    lines += [(f"ERROR {error}", "red") for error in outcome.errors]
    if outcome.report is not None and verbosity >= 0:
        directory, here = config.stash[SETTINGS].dir, Path.cwd()
        shown = directory.relative_to(here) if directory.is_relative_to(here) else directory
        lines.append((f"wrote {listed(outcome.wrote)}", ""))
        following = block.next_step(outcome.report, str(shown))
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
