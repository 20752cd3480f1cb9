"""pytest hooks and fixtures; all work is done by `session` and the rooms below it."""

from __future__ import annotations

import contextlib
import queue
import shlex
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov import options, session, state
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.service.spec import GoService, ServiceSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kindcov.cluster.kind import KindCluster

_ACCESS = pytest.StashKey[state.Access]()
_OWNER = pytest.StashKey[session.Owner]()
_SETTINGS = pytest.StashKey[options.Settings]()
_SPEC = "__kindcov_spec__"


def go_service(
    package: str = "",
    *,
    manifests: str | Path | Sequence[str | Path] = (),
    image: str = "",
    port: int | None = None,
    name: str = "",
    namespace: str = "",
    coverpkg: str | Sequence[str] = (),
    build_flags: str | Sequence[str] = (),
    build_env: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    dockerfile: str | Path = "",
    timeout: float = 120.0,
    per_worker: bool = False,
) -> Any:
    """Make a session fixture that gives a running Go service.

    `orders = go_service("./cmd/orders")` in a conftest is all it needs.

    Paths are relative to the calling file's directory or one above it, up to pytest's root
    directory. With `--kind-coverage` the service is built with coverage; nothing else changes.

    Args:
        package: the main package: a directory (`./cmd/orders`) or an import path. Without it,
            `image` is taken as it is.
        manifests: files, directories or Kustomize directories; default: a generated Deployment and
            Service that PodSecurity *restricted* admits.
        image: the image's name in the manifests; default: the only one they use.
        port: the port of the service that `.url` leads to: of its Service, or of its container.
        name: default: the last element of the package.
        namespace: for objects that name none; default: `default`.
        coverpkg: packages to cover, as `go build -coverpkg`; relative ones count from the module's
            root. Default: Go's own, the packages of the main module.
        build_flags: more flags for `go build`, such as `["-tags=e2e"]`.
        build_env: environment for `go build`, over the one pytest runs in.
        env: environment of the service's containers, over the manifests'.
        dockerfile: build the image from this Dockerfile instead of from the program alone.
        timeout: seconds for the rollout.
        per_worker: under pytest-xdist each worker gets an instance of its own, in namespaces of its
            own (`shop-gw0`), so that what a test does to the service is its own doing alone.

    Returns:
        A session-scoped fixture whose value is a `GoService`.

    """
    caller = Path(sys._getframe(1).f_code.co_filename).resolve().parent  # as warnings do
    spec = ServiceSpec(
        directory=str(caller),
        package=package,
        manifests=_texts(manifests),
        image=image,
        port=port,
        name=name,
        namespace=namespace,
        coverpkg=tuple(coverpkg.split(",")) if isinstance(coverpkg, str) else tuple(coverpkg),
        build_flags=tuple(
            shlex.split(build_flags) if isinstance(build_flags, str) else build_flags
        ),
        build_env=dict(build_env or {}),
        env={key: str(value) for key, value in (env or {}).items()},
        dockerfile=str(dockerfile),
        timeout=timeout,
        per_worker=per_worker,
    )
    if not (package or image or dockerfile):
        raise pytest.UsageError("go_service: say a package or a dockerfile to build, or an image")

    def service(request: pytest.FixtureRequest) -> GoService:
        """A running Go service."""
        running: GoService = _provided(request, lambda access: access.service(spec))
        return running

    setattr(service, _SPEC, spec)
    return pytest.fixture(scope="session")(service)


class Fixtures:
    """Fixtures, registered late as an object so that ours win over pytest-kind's of one name."""

    @pytest.fixture(scope="session")
    def kind_cluster(self, request: pytest.FixtureRequest) -> KindCluster:
        """The run's Kind cluster."""
        cluster: KindCluster = _provided(request, lambda access: access.cluster())
        return cluster

    @pytest.fixture(scope="session")
    def kindcov(self, request: pytest.FixtureRequest) -> options.Settings:
        """The run's settings: whether coverage is on, where its data goes."""
        return request.config.stash[_SETTINGS]


def _provided(request: pytest.FixtureRequest, get: Any) -> Any:
    __tracebackhide__ = True
    try:
        return get(request.config.stash[_ACCESS])
    except KindCovError as error:
        message = str(error)
    pytest.fail(message, pytrace=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare flags and ini keys."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the role: owner, or view in an xdist worker. Nothing here costs."""
    settings = options.resolve(config)
    config.stash[_SETTINGS] = settings
    config.pluginmanager.register(Fixtures(), "kindcov-fixtures")
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        from pytest_kindcov._xdist import STATE_KEY

        config.stash[_ACCESS] = state.View(settings, Path(worker[STATE_KEY]), worker["workerid"])
        return
    progress = Progress(config)
    owner = session.Owner(settings, progress.tell, progress.flush)
    config.stash[_ACCESS] = config.stash[_OWNER] = owner
    config.add_cleanup(lambda: _close_silently(owner))
    if config.pluginmanager.hasplugin("xdist"):
        from pytest_kindcov._xdist import XdistHooks

        config.pluginmanager.register(XdistHooks(owner), "kindcov-xdist")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Settings that are not defaults, with their source."""
    settings = config.stash[_SETTINGS]
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
        config.stash[_ACCESS].want(specs)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Harvest, report and delete; a failure of these fails a run that was fine."""
    owner = session.config.stash.get(_OWNER, None)
    if owner is None:
        return
    outcome = owner.close()
    if outcome.errors and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the summary block; nothing where no cluster was used."""
    owner = config.stash.get(_OWNER, None)
    if owner is None or not owner.outcome.used:
        return
    outcome = owner.close()
    if not (outcome.summary or outcome.errors or outcome.problems or outcome.notes):
        return
    write = terminalreporter
    write.section("kind coverage")
    if outcome.headline:
        write.write_line(outcome.headline)
    if outcome.summary is not None:
        from pytest_kindcov.report.terminal import table

        for line in table(outcome.summary, write._tw.fullwidth):
            write.write_line(line)
    for problem in outcome.problems:
        write.write_line(f"WARNING {problem}", yellow=True)
    for note in outcome.notes:
        write.write_line(note)
    for error in outcome.errors:
        write.write_line(f"ERROR {error}", red=True)


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
            spec = getattr(known[name][-1].func, _SPEC, None)
            if spec is not None:
                specs[spec.key] = spec
    return list(specs.values()), needed or bool(specs)


def _is_ours(item: pytest.Item) -> bool:
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    definitions = known.get("kind_cluster")
    if not definitions:
        return False
    return isinstance(getattr(definitions[-1].func, "__self__", None), Fixtures) or (
        getattr(definitions[-1].func, "__module__", "") == __name__
    )


def _texts(values: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    if isinstance(values, (str, Path)):
        return (str(values),) if str(values) else ()
    return tuple(str(value) for value in values)


def _close_silently(owner: session.Owner) -> None:
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
