"""Which cluster a run gets: one that is made for it, one that was kept, or one that is named."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov._run import run as command
from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster import orphans, owners
from pytest_kindcov.cluster.api import Api, import_ahead
from pytest_kindcov.cluster.kind import KindCluster
from pytest_kindcov.cluster.ledger import Ledger
from pytest_kindcov.errors import Cancelled, ClusterError, KindCovError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindcov.cluster.api import Object
    from pytest_kindcov.cluster.engine import Container, Engine
    from pytest_kindcov.session.run import Run

ANSWERS = 15.0
"""Seconds within which an API server that runs answers, generously."""
_STARTS = 90.0
_READY = 60.0
_QUERY = 30.0


class Obtain:
    """Gets a run its cluster.

    Args:
        run: that needs one.
        engine: that has it, or is to have it.
        begun: told of a cluster before it is made or changed.

    """

    def __init__(self, run: Run, engine: Engine, begun: Callable[[KindCluster], None]) -> None:
        self._run = run
        self._engine = engine
        self._begun = begun

    def cluster(self) -> KindCluster:
        """The cluster, running; `created` says whether it was made for this run.

        Raises:
            ClusterError: there is none, or another run has it.

        """
        settings = self._run.settings
        if self._engine.external:
            ((name, containers),) = self._engine.clusters().items()
            return self._attach(name, containers)
        low = not settings.cluster and settings.keep == "never"
        threading.Thread(
            target=import_ahead, kwargs={"low": low}, name="kindcov-import", daemon=True
        ).start()
        named = settings.cluster or settings.cluster_name
        present = self._engine.clusters() if named or settings.keep != "never" else {}
        if named in present:
            owner = owners.owners(self._engine).get(named)
            if settings.cluster or settings.keep == "never" or owner is None or not owner.kept:
                return self._attach(named, present[named])
            owners.claim(named, self._engine, self._run.state.directory, key=owner.key)
            return self._revive(named, present[named]) or self._create(named, {})
        key = self._key() if settings.keep != "never" and not named else {}
        return (self._kept(key, present) if key else None) or self._create(named, key)

    def _handle(self, name: str) -> KindCluster:
        settings, directory = self._run.settings, self._run.state.directory
        if self._engine.external:
            return self._external()
        cluster = KindCluster(
            name,
            directory / "kubeconfig",
            image=settings.node_image or None,
            kind_path=Path(settings.kind_bin) if settings.kind_bin else None,
            kubectl_path=Path(settings.kubectl_bin) if settings.kubectl_bin else None,
            engine=self._engine,
        )
        if settings.kubeconfig:
            cluster.kubeconfig_path = Path(settings.kubeconfig)
        cluster.scratch = directory
        return cluster

    def _external(self) -> KindCluster:
        from pytest_kindcov.cluster.external import External, ExternalCluster

        assert isinstance(self._engine, External)
        kubectl = self._run.settings.kubectl_bin
        cluster = ExternalCluster(self._engine, Path(kubectl) if kubectl else None)
        cluster.cancel = self._run.cancel
        return cluster

    @property
    def _config(self) -> Path | None:
        settings = self._run.settings
        return settings.rootdir / settings.kind_config if settings.kind_config else None

    def _create(self, name: str, key: dict[str, str]) -> KindCluster:
        cluster = self._handle(name or self._run.unique)
        self._begun(cluster)
        self._run.tell(f"creating cluster {cluster.name} ({self._engine.name})")
        cluster.create(
            self._config,
            timeout=self._run.settings.timeout,
            cancel=self._run.cancel,
            new=True,
            logs=self._run.settings.dir / "logs",
            key=key,
        )
        self._run.tell(f"cluster {cluster.name} created")
        return cluster

    # One that is there, and not ours.

    def _attach(self, name: str, containers: Sequence[Container]) -> KindCluster:
        """Use a cluster that is to be given back as it was."""
        cluster = self._handle(name)
        last = owners.owners(self._engine).get(name)
        reach = cluster.reach(last)
        owners.claim(name, self._engine, cluster.scratch, attached=True, reach=reach)
        file = owners.ledger(name, self._engine)
        untouched = not file.exists()
        cluster.ledger = Ledger.read(file)
        self._begun(cluster)
        self._run.tell(f"using cluster {name} ({self._engine.name}), which was there already")
        try:
            cluster.take(containers, self._run.settings.dir / "logs")
            wait_ready(
                lambda: self._api(cluster),
                timeout=_READY,
                patience=ANSWERS,
                cancel=self._run.cancel,
                whole=not self._engine.external,
            )
        except KindCovError:
            if untouched:
                cluster.ledger.close()  # there is nothing to give back
            raise
        if last is not None and last.attached:
            from pytest_kindcov.session.borrowed import restore

            self._run.tell(f"cluster {name}: giving back what is left of {last}")
            self._run.outcome.problems += restore(cluster, self._api(cluster))
            orphans.remove_files(last)
            cluster.ledger = Ledger(file)
        return cluster

    # One that was kept.

    def _kept(self, key: dict[str, str], present: dict[str, list[Container]]) -> KindCluster | None:
        """An idle kept cluster that is as a new one would be."""
        for name, owner in owners.owners(self._engine).items():
            if not owner.kept or name not in present or owner.key.get("project") != key["project"]:
                continue
            if owner.key != key:
                self._run.outcome.notes.append(_unlike(name, owner.key, key, self._engine))
                continue
            try:
                owners.claim(name, self._engine, self._run.state.directory, key=key)
            except ClusterError:
                continue  # another run has it
            cluster = self._revive(name, present[name])
            if cluster is not None:
                return cluster
        return None

    def _revive(self, name: str, containers: Sequence[Container]) -> KindCluster | None:
        """Make a kept cluster as good as new. None if that was not possible: it was deleted."""
        cluster, run = self._handle(name), self._run
        self._begun(cluster)
        try:
            stopped = [each.name for each in containers if not each.running]
            if stopped:
                run.tell(f"cluster {name} was kept, and stopped: starting it")
                self._engine.start(stopped)
                containers = self._engine.clusters()[name]
            else:
                run.tell(f"using cluster {name} ({self._engine.name}), which was kept")
            cluster.take(containers)
            wait_ready(
                lambda: self._api(cluster),
                timeout=_STARTS if stopped else ANSWERS,
                patience=_STARTS if stopped else ANSWERS,
                cancel=run.cancel,
            )
            from pytest_kindcov.service.deploy import clear

            clear(self._api(cluster))
        except Cancelled:
            if not cluster.whole:
                owners.keep(name, self._engine)  # as it was
            raise
        except Exception as error:  # also the client's own: whatever it is, a new cluster mends it
            told = f"cluster {name} was kept, but is of no use: {_words(error)}"
            run.tell(f"{told}; a new one replaces it")
            run.outcome.notes.append(f"{told}; it was replaced")
            cluster.delete()
            return None
        if stopped:
            run.outcome.notes.append(f"cluster {name} was kept, and stopped: it was started")
        return cluster

    def _api(self, cluster: KindCluster) -> Api:
        """A client, made once it can be."""
        if cluster.client is None:
            cluster.client = Api(cluster.kubeconfig_path, self._run.state.directory / "kinds.json")
        return cluster.client

    def _key(self) -> dict[str, str]:
        """All that would make another cluster, by name of the part."""
        settings, probe = self._run.settings, self._handle("key")
        probe.ensure_kind()
        image = probe.node_image
        config = self._config.read_bytes() if self._config and self._config.exists() else b""
        return {
            "project": str(settings.rootdir),
            "node image": f"{image} {self._engine.image_id(image)}" if image else "kind's own",
            "kind": command([probe.kind_path, "version"], timeout=_QUERY).text,
            "kind config": hashlib.sha256(config).hexdigest() if config else "none",
            "ports": "none" if self._engine.reaches_nodes else "on the host",
        }


def wait_ready(
    api: Callable[[], Api],
    *,
    timeout: float,
    patience: float,
    cancel: threading.Event,
    whole: bool = True,
) -> None:
    """Wait until all nodes are Ready, and pods can be made.

    Args:
        api: gives the client.
        timeout: seconds.
        patience: seconds within which the API server must answer, each time that it is asked.
        cancel: when set, waiting is given up.
        whole: whether all nodes must be; of a large cluster some may be away for long.

    Raises:
        ClusterError: not within the time.

    """
    seen: list[Object] = []
    answered = time.monotonic()

    def ready() -> bool:
        nonlocal answered
        try:
            client = api()
            seen[:] = client.list("v1", "Node")
            account = client.get("v1", "ServiceAccount", "default", "default")
        except Exception as error:  # the client's own: an API server that comes up says anything
            if time.monotonic() - answered > patience:
                raise ClusterError(
                    "the API server does not answer", cause=_words(error), slug="api-unreachable"
                ) from error
            return False
        answered = time.monotonic()
        return bool(account) and (all if whole else any)(map(_is_ready, seen))

    wait_until(
        ready,
        state=lambda: _conditions(seen),
        what="the nodes being Ready",
        timeout=timeout,
        interval=0.3,
        cancel=cancel,
        slug="nodes-not-ready",
        error=ClusterError,
    )


def _words(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, KindCovError):
        return error.headline
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _unlike(name: str, made: dict[str, str], wanted: dict[str, str], engine: Engine) -> str:
    parts = [part for part in wanted if made.get(part) != wanted[part]]
    return (
        f"cluster {name} is kept, but was made with another {', '.join(parts)}: it was not used;"
        f" delete it with `{engine.kind_command('delete cluster', name)}`"
    )


def _is_ready(node: Object) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in node["status"]["conditions"]
    )


def _conditions(nodes: list[Object]) -> str:
    """What nodes say of themselves, line by line."""
    return "\n".join(
        f"{node['metadata']['name']}: {condition['type']}={condition['status']}:"
        f" {condition.get('message', '')}"
        for node in nodes
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    )
