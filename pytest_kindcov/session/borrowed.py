"""A cluster that a run only used: given back as it was, by that run or in its stead."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov.cluster import orphans, owners
from pytest_kindcov.cluster.kind import KindCluster
from pytest_kindcov.cluster.ledger import Ledger
from pytest_kindcov.harvest import inject

if TYPE_CHECKING:
    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.engine import Engine
    from pytest_kindcov.cluster.owners import Owner


def restore(cluster: KindCluster, api: Api) -> list[str]:
    """Undo what its ledger holds, and the injection.

    Returns:
        What could not be undone, and why.

    """
    inject.withdraw(cluster.nodes)  # what comes back must come back as it was
    problems = cluster.ledger.give_back(api, cluster.nodes) if cluster.ledger else []
    inject.remove(cluster.nodes)
    if cluster.ledger:
        cluster.ledger.close()
    return problems


def restore_dead(owner: Owner, engine: Engine | None, kind: Path | None) -> list[str]:
    """Give back a cluster in the stead of a run that was killed.

    Args:
        owner: the run.
        engine: that has the cluster; None for one that is reached by its API.
        kind: path of kind; None: the one on PATH.

    Returns:
        What could not be undone, and why.

    Raises:
        ClusterError: another run has it now, or it cannot be reached.

    """
    from pytest_kindcov.cluster import external
    from pytest_kindcov.cluster.api import Api

    name = owner.cluster
    with tempfile.TemporaryDirectory(prefix="kindcov-") as scratch:
        cluster = (
            KindCluster(name, Path(scratch, "kubeconfig"), kind_path=kind, engine=engine)
            if engine is not None
            else external.again(owner, Path(scratch))
        )
        engine = cluster.engine
        owners.claim(name, engine, attached=True, reach=owner.reach)
        cluster.ledger = Ledger.read(owners.ledger(name, engine))
        cluster.take(engine.clusters().get(name, []))
        api = cluster.client or Api(cluster.kubeconfig_path, Path(scratch, "kinds.json"))
        try:
            problems = restore(cluster, api)
            cluster.let_go()
        finally:
            api.close()
    orphans.remove_files(owner)
    owners.give_back(name, engine)
    return problems
