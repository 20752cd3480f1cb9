"""A service's image from its own Dockerfile, with coverage switched on by GOFLAGS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_kindcov.errors import BuildError, CommandError

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from pytest_kindcov.cluster.engine import Engine
    from pytest_kindcov.service.spec import ServiceSpec

# Seconds. A build that downloads its base images and all modules.
_BUILD = 1800.0


def build(
    spec: ServiceSpec,
    engine: Engine,
    *,
    rootdir: Path,
    scratch: Path,
    coverage: bool,
    cancel: threading.Event | None = None,
) -> str:
    """Build the image into the engine's store, under a name of our own.

    An image of the user's that bears the manifests' name stays what it is.

    The build context is the directory from which the Dockerfile's path was found, as with
    `docker build -f PATH .` there.

    Args:
        spec: the service.
        engine: which builds.
        rootdir: pytest's root directory.
        scratch: where the instrumented copy of the Dockerfile may be written.
        coverage: whether to instrument.
        cancel: when set, the build is given up.

    Returns:
        The image's name.

    Raises:
        BuildError: with the build's output, whole.

    """
    found = spec.find(spec.dockerfile, rootdir)
    context = found
    for part in spec.dockerfile.strip("/").split("/"):
        context = context if part == "." else context.parent
    dockerfile = found
    if coverage:
        dockerfile = scratch / f"{spec.key}.Dockerfile"
        dockerfile.write_text(instrumented(found.read_text(), spec.coverpkg))
    built = f"localhost/kindcov-build/{spec.key}:latest"
    try:
        engine.build(dockerfile, context, built, timeout=_BUILD, cancel=cancel)
    except CommandError as error:
        raise BuildError(
            f"service {spec.title}: {spec.dockerfile} does not build",
            cause=error.output or str(error),
            remedy=f"`{engine.name} build -f {found} {context}` shows the same",
            slug="dockerfile-does-not-build",
        ) from error
    return built


def instrumented(text: str, coverpkg: tuple[str, ...] = ()) -> str:
    """A Dockerfile in which every `go build` instruments.

    GOFLAGS is extended after each FROM, and again after each ENV that sets it.
    """
    flags = "-cover -covermode=atomic"
    if coverpkg:
        flags += f" -coverpkg={','.join(coverpkg)}"
    line = f'ENV GOFLAGS="${{GOFLAGS}} {flags}"'
    lines: list[str] = []
    statement = ""
    for raw in text.splitlines():
        lines.append(raw)
        statement += raw.strip()
        if statement.endswith("\\") and not statement.startswith("#"):
            statement = statement[:-1] + " "
            continue
        if re.match(r"FROM\s", statement, re.I) or re.match(r"ENV\s.*\bGOFLAGS\b", statement, re.I):
            lines.append(line)
        statement = ""
    return "\n".join(lines) + "\n"
