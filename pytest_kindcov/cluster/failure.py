"""The error for a cluster that did not come up: its cause, its remedy, and where its logs are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_kindcov._text import Secrets, clean
from pytest_kindcov.cluster import diagnose
from pytest_kindcov.cluster.logs import Logs, collect
from pytest_kindcov.errors import ClusterError, CommandError, KindCovError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindcov.cluster.engine import Engine

_WORDS = 15  # lines of kind's own words, where the catalogue knows nothing of them
_ALSO = 2


def explain(
    what: str,
    error: KindCovError,
    engine: Engine,
    cluster: str,
    directory: Path | None,
    *,
    hints: Sequence[str] = (),
    slug: str = "cluster-not-created",
) -> ClusterError:
    """Find out why a cluster did not come up, while its nodes are still there.

    Args:
        what: what failed, one line.
        error: of kind, or of what waited for the cluster.
        engine: of the cluster.
        cluster: its name.
        directory: gets the logs, in a directory of the cluster's name; None: none are saved.
        hints: lines about what was doubtful before.
        slug: of the error where the catalogue knows no cause.

    """
    output = error.output if isinstance(error, CommandError) else error.cause
    logs, note = Logs(), ""
    try:
        logs = collect(engine, engine.nodes(cluster), output=output)
    except KindCovError as trouble:
        note = f"there are no logs: {trouble.headline}"
    found = diagnose.findings({**logs.texts(), "kind": output})
    if directory is not None and logs.files:
        try:
            logs.save(directory / cluster)
            note = f"logs: {directory / cluster}"
        except OSError as trouble:
            note = f"the logs could not be saved: {trouble}"
    if found:
        first, *others = found
        also = [
            f"also seen: {other.entry.cause} [{other.entry.slug}]"
            for other in others
            if not (other.entry.generic or set(other.lines) <= set(first.lines))
        ][:_ALSO]
        cause, remedy, slug = "\n".join([str(first), *also]), first.entry.remedy, first.entry.slug
    else:
        cause, remedy = _words(output or str(error)), error.remedy
    hide = Secrets().hide
    return ClusterError(
        what,
        cause=hide("\n".join(filter(None, [cause, *hints, note]))),
        remedy=hide(remedy or "look at the lines above and at the logs"),
        slug=slug,
    )


def _words(output: str) -> str:
    """Kind's last words without its progress lines."""
    lines = [line for line in clean(output).splitlines() if line.strip()]
    told = [line for line in lines if not re.match(r"\s*[•✓✗⢀-⣿]", line)]
    return "\n".join((told or lines)[-_WORDS:])
