"""A Helm chart, rendered by the real `helm`; what comes out is applied as manifests are."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

from pytest_kindcov._run import run
from pytest_kindcov.errors import CommandError, ManifestError, ToolNotFound

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindcov.service.spec import ServiceSpec

# Seconds. A chart with forty subcharts was seen to need 4.
_RENDER = 60.0


def render(spec: ServiceSpec, *, rootdir: Path, scratch: Path) -> str:
    """The YAML text of a service's chart, its CRDs and hooks included.

    `.Release.Namespace` is the service's namespace. A chart's `lookup` finds nothing: there is no
    cluster yet.

    Args:
        spec: the service.
        rootdir: pytest's root directory.
        scratch: private directory for values.

    Raises:
        ToolNotFound: there is no helm.
        ManifestError: with what helm says.

    """
    chart = spec.find(spec.chart, rootdir)
    command = [tool(), "template", release(spec), str(chart)]
    command += ["--namespace", spec.home, "--include-crds"]
    for number, values in enumerate(spec.values):
        if isinstance(values, str):
            file = spec.find(values, rootdir)
        else:
            file = scratch / f"{spec.key}.values{number}.json"
            file.touch(mode=0o600)
            file.write_text(json.dumps(values))
        command += ["--values", str(file)]
    try:
        return run(command, timeout=_RENDER).text
    except CommandError as error:
        cause = error.output or str(error)
        missing = "missing in charts/" in cause
        raise ManifestError(
            f"service {spec.title}: the chart {spec.chart} cannot be rendered",
            cause=cause,
            remedy=f"`helm dependency build {chart}` fetches what it depends on"
            if missing
            else f"`helm template {release(spec)} {chart}` with the same values shows the same",
            slug="chart-dependencies-missing" if missing else "chart-not-rendered",
        ) from error


def release(spec: ServiceSpec) -> str:
    """The release's name: given, or the chart's, so that services of one chart share it."""
    name = spec.chart.rstrip("/").rpartition("/")[2].removesuffix(".tgz")
    return spec.release or (name if name not in ("", ".", "..") else spec.title)


def tool() -> str:
    """The command helm.

    Raises:
        ToolNotFound: there is none.

    """
    found = shutil.which(os.environ.get("KINDCOV_HELM", "helm"))
    if found is None:
        raise ToolNotFound(
            "helm was not found, and the service has a chart",
            remedy="install it: `go install helm.sh/helm/v3/cmd/helm@latest`; or give what"
            " `helm template` prints as manifests=",
            slug="helm-missing",
        )
    return found
