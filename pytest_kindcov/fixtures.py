"""Fixtures: the cluster, the run, and the services that `go_service` describes.

This module is registered as a plugin late, so that its `kind_cluster` wins over pytest-kind's.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov import _proxy, options, state
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.handle import KindCov
from pytest_kindcov.service.spec import ServiceSpec

if TYPE_CHECKING:
    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.service.callables import Deployer
    from pytest_kindcov.service.goservice import GoService

ACCESS = pytest.StashKey[state.Access]()
SETTINGS = pytest.StashKey[options.Settings]()
NODEID = pytest.StashKey[list[str]]()
_SPEC = "__kindcov_spec__"
_DECLARED: list[ServiceSpec] = []
"""What all conftests of this process say."""

Values = str | Path | Mapping[str, Any]
"""Values of a Helm chart: a file's path, or themselves."""


def go_service(
    package: str = "",
    *,
    manifests: str | Path | Sequence[str | Path] | Deployer = (),
    chart: str | Path = "",
    values: Values | Sequence[Values] = (),
    release: str = "",
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
        manifests: files, directories or Kustomize directories; or a function that is called with a
            `Target` (image, namespace, kubeconfig) and returns YAML text or objects, or None when
            it has deployed by itself. Default: a generated Deployment and Service that
            PodSecurity *restricted* admits.
        chart: a Helm chart, a directory or a packed one, rendered by `helm`. Its hooks run as
            `helm install` runs them.
        values: of the chart: files and mappings, the later over the earlier.
        release: of the chart; default: the chart's name.
        image: the image's name in the manifests; default: the only one they use, or the only one
            that is named as the service. Where several services have the same manifests, each
            deploys what runs its own image.
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
        manifests=() if callable(manifests) else _texts(manifests),
        chart=str(chart),
        values=_values(values),
        release=release,
        call=_reference(manifests) if callable(manifests) else "",
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
    if (values or release) and not chart:
        raise pytest.UsageError("go_service: values= and release= are a chart's: say chart=")
    _DECLARED.append(spec)

    def service(request: pytest.FixtureRequest) -> GoService:
        """A running Go service."""
        running: GoService = _provided(request, lambda access: access.service(_whole(spec)))
        if running.host:
            _proxy.bypass(running.host)
        access = request.config.stash[ACCESS]
        live = access.live.coverage if request.config.stash[SETTINGS].coverage else None
        return replace(running, live=live, connect=access.api)

    setattr(service, _SPEC, spec)
    return pytest.fixture(scope="session")(service)


@pytest.fixture(scope="session")
def kind_cluster(request: pytest.FixtureRequest) -> KindCluster:
    """The run's Kind cluster."""
    cluster: KindCluster = _provided(request, lambda access: access.cluster())
    return cluster


@pytest.fixture(scope="session")
def kindcov(request: pytest.FixtureRequest) -> KindCov:
    """The run: its settings, its coverage so far, steps inside a test."""
    stash = request.config.stash
    return KindCov(stash[SETTINGS], stash[ACCESS].live, stash[NODEID])


def spec_of(fixture: pytest.FixtureDef[Any]) -> ServiceSpec | None:
    """The service that a fixture stands for, None for other fixtures."""
    spec: ServiceSpec | None = getattr(fixture.func, _SPEC, None)
    return _whole(spec) if spec is not None else None


def _whole(spec: ServiceSpec) -> ServiceSpec:
    """A spec with what others say that share its manifests."""
    others = {
        other.image or other.title
        for other in _DECLARED
        if other.source == spec.source and (other.image, other.title) != (spec.image, spec.title)
    }
    return replace(spec, others=tuple(sorted(others)))


def is_ours(fixture: pytest.FixtureDef[Any]) -> bool:
    """Whether a fixture only waits for what the owner provides."""
    return spec_of(fixture) is not None or fixture.func.__module__ == __name__


def _provided(request: pytest.FixtureRequest, get: Any) -> Any:
    __tracebackhide__ = True
    try:
        return get(request.config.stash[ACCESS])
    except KindCovError as error:
        message, skip = str(error), isinstance(error, state.Missing)
    if skip:
        pytest.skip(message)
    pytest.fail(message, pytrace=False)


def _reference(function: Deployer) -> str:
    from pytest_kindcov.service.callables import reference

    return reference(function)


def _values(values: Values | Sequence[Values]) -> tuple[str | dict[str, Any], ...]:
    """A chart's values as plain ones."""
    given = [values] if isinstance(values, (str, Path, Mapping)) else values
    return tuple(
        dict(value) if isinstance(value, Mapping) else str(value) for value in given if value
    )


def _texts(values: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    if isinstance(values, (str, Path)):
        return (str(values),) if str(values) else ()
    return tuple(str(value) for value in values)
