"""A new cluster is used before kind is done with it, and only where that loses nothing."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov.cluster import api as api_module
from pytest_kindcov.errors import ClusterError
from pytest_kindcov.harvest import inject as inject_module
from pytest_kindcov.session import early as early_module
from pytest_kindcov.session.provision import Provision

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindcov.cluster.kind import KindCluster


class Kind:
    """A cluster that kind makes until it is told to be done."""

    created = True

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: ClusterError | None = None
        self.nodes = ["late"]
        self.client: Any = None
        self.ledger = None

    def booted(self) -> list[str]:
        return ["node"]

    def write_kubeconfig(self, file: Path) -> None:
        file.write_text("")


class Server:
    """An API server that is asked in vain at first."""

    refusals = 2

    def __init__(self, kubeconfig: Path, cache: Path) -> None:
        assert kubeconfig.parent == cache.parent

    def get(self, *_: str) -> dict[str, str] | None:
        Server.refusals -= 1
        if Server.refusals == 1:
            raise OSError
        return {} if Server.refusals >= 0 else {"kind": "ServiceAccount"}


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    found: list[list[str]] = []
    monkeypatch.setattr(inject_module, "inject", lambda nodes, **_: found.append(nodes))
    monkeypatch.setattr(api_module, "Api", Server)
    monkeypatch.setattr(early_module, "_BOOT", 0.01)
    monkeypatch.setattr(early_module, "_ANSWER", 0.01)
    monkeypatch.setattr(Server, "refusals", 2)
    return found


@pytest.fixture
def kind() -> Iterator[Kind]:
    kind = Kind()
    yield kind
    kind.done.set()


def begin(kind: Kind, directory: Path, monkeypatch: pytest.MonkeyPatch, config: str) -> Provision:
    class Mine(Provision):
        def _make_cluster(self) -> KindCluster:
            self.cluster = kind  # type: ignore[assignment]
            kind.done.wait(10)
            if kind.error is not None:
                raise kind.error
            self._inject(kind.nodes)  # type: ignore[arg-type]
            return kind  # type: ignore[return-value]

    settings = SimpleNamespace(coverage=True, kind_config=config, rootdir=directory, kubectl_bin="")
    state = SimpleNamespace(directory=directory)
    run: Any = SimpleNamespace(
        settings=settings, state=state, cancel=threading.Event(), tell=None, phase=None
    )
    recording: Any = None
    provision = Mine(run, recording)
    for name in ("ahead", "_record_sources", "_publish_cluster"):
        monkeypatch.setattr(provision, name, lambda: None)
    provision.start()
    return provision


def usable(provision: Provision) -> Future[KindCluster]:
    assert provision._early is not None
    return provision._early.usable


def test_services_need_not_wait_for_kind(
    kind: Kind, injected: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision = begin(kind, tmp_path, monkeypatch, "")
    client = provision.api()
    assert isinstance(client, Server)
    assert not kind.done.is_set()
    assert injected == [["node"]]
    assert kind.nodes == ["node"]
    kind.done.set()
    provision.end()
    assert injected == [["node"]]  # once
    assert (tmp_path / "early.kubeconfig").exists()


def test_nodes_that_come_late_are_waited_for(
    kind: Kind, injected: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision = begin(kind, tmp_path, monkeypatch, "kind.yaml")
    assert wait([usable(provision)], 0.2).not_done
    assert injected == []
    kind.done.set()
    assert usable(provision).result(5)
    assert kind.nodes == ["late"]
    provision.end()
    assert injected == [["late"]]


def test_server_that_does_not_answer(
    kind: Kind, injected: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "refusals", 10**9)
    provision = begin(kind, tmp_path, monkeypatch, "")
    assert wait([usable(provision)], 0.2).not_done
    assert injected == []
    kind.error = ClusterError("kind failed", slug="kind-failed")
    kind.done.set()
    with pytest.raises(ClusterError, match="kind failed"):
        usable(provision).result(5)
    provision.end()


def test_cluster_fails_after_its_first_answer(
    kind: Kind, injected: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for pods waits for kind first, and is told."""
    provision = begin(kind, tmp_path, monkeypatch, "")
    provision.api()
    assert injected
    kind.error = ClusterError("kind failed", slug="kind-failed")
    kind.done.set()
    provider = provision._provider
    assert provider.cluster() is kind
    with pytest.raises(ClusterError, match="kind failed"):
        provider.whole()
    provision.end()
