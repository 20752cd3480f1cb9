"""`kindcov harvest`: the coverage that is still on the nodes of a cluster without its run."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.cluster import external, owners
from pytest_kindcov.cluster.engine import EXTERNAL, find_cluster
from pytest_kindcov.cluster.kind import KindCluster
from pytest_kindcov.cluster.node import Node
from pytest_kindcov.errors import ClusterError, KindCovError
from pytest_kindcov.harvest.record import Recorder
from pytest_kindcov.harvest.run import Harvest, harvest
from pytest_kindcov.harvest.running import Running
from pytest_kindcov.report import sources

if TYPE_CHECKING:
    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.engine import Container

# Readings before the services are stopped, and seconds between them: of a process that is met for
# the first time not everything is known at once.
_READINGS = 3
_BETWEEN = 0.2


def rescue(name: str, *, engine: str, kind: Path | None, directory: Path) -> Harvest:
    """Harvest a cluster's nodes, without the run that made it. The cluster stays.

    Files are also taken off nodes that are stopped. Where the API server does not answer, services
    are not stopped, and what they ran is read out of their memory.

    Args:
        name: of the cluster.
        engine: `docker`, `podman`, or `auto`: whichever has it.
        kind: path of kind; None: the one on PATH.
        directory: gets `covdata/` and `coverage.out`.

    Raises:
        ClusterError: there is no such cluster, or its run goes on.

    """
    known = {owner.cluster: owner for owner in owners.owners().values()}.get(name)
    found, containers = (
        (None, []) if known is not None and known.engine == EXTERNAL else find_cluster(name, engine)
    )
    owner = known if found is None else owners.owners(found).get(name)
    if owner is not None and owner.alive() and not owner.kept:
        raise ClusterError(
            f"cluster {name} is in use",
            cause=f"its run goes on: process {owner.pid}, in {owner.project}",
            remedy="it harvests by itself when it ends",
            slug="cluster-in-use",
        )
    with tempfile.TemporaryDirectory(prefix="kindcov-") as scratch:
        if found is not None or owner is None:
            cluster = KindCluster(name, Path(scratch, "kubeconfig"), kind_path=kind, engine=found)
        else:
            cluster = external.again(owner, Path(scratch))
            containers = cluster.engine.clusters()[name]
        nodes = [Node(container.name, cluster.engine) for container in containers]
        running = [node for node, each in zip(nodes, containers, strict=True) if each.running]
        recorder = Recorder(running, Running(), lambda _: None, 0)
        api, why = _api(cluster, containers) if running else (None, "no node runs")
        try:
            for _ in range(_READINGS if running else 0):
                recorder.read()
                time.sleep(_BETWEEN)
            own = sources.repository(Path.cwd())
            result = harvest(api, nodes, [], directory, own=own, live=(recorder, None))
        finally:
            recorder.close()
            if api is not None:
                api.close()
    if api is None:
        result.problems.append(
            f"the services could not be stopped ({why}): what they ran is taken from their files"
            " and from the memory of those that run"
        )
    return result


def _api(cluster: KindCluster, containers: list[Container]) -> tuple[Api | None, str]:
    """The cluster's API, or why it cannot be used."""
    try:
        cluster.take(containers)
        from pytest_kindcov.cluster.api import Api

        api = cluster.client or Api(cluster.kubeconfig_path, cluster.path / "kinds.json")
        api.list("v1", "Node")
    except KindCovError as error:
        return None, error.headline
    except Exception as error:  # the client's own: urllib3's, ssl's
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return api, ""
