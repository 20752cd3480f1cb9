"""The order and the file of what is given back; tests/cluster/test_attach.py does it really."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindcov.cluster.api import Outdated
from pytest_kindcov.cluster.ledger import Ledger
from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindcov.cluster.api import Object


class Cluster:
    """Objects by kind, namespace and name, and a log of what was done to them."""

    def __init__(self, *objects: Object) -> None:
        self.done: list[str] = []
        self.stubborn: set[str] = set()
        self.busy = 0
        """How often a controller still writes to an object before it is replaced."""
        self.objects = {self._key(obj["kind"], obj["metadata"]): obj for obj in objects}

    def _key(self, kind: str, metadata: Object) -> str:
        return f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"

    def get(self, _: str, kind: str, name: str, namespace: str) -> Object | None:
        return self.objects.get(f"{kind} {namespace}/{name}")

    def list(self, *_: Any) -> list[Object]:
        return []

    def replace(self, obj: Object) -> None:
        now = self.objects[self._key(obj["kind"], obj["metadata"])]["metadata"]
        if self.busy:
            self.busy -= 1
            now["resourceVersion"] = str(int(now["resourceVersion"]) + 1)
        if obj["metadata"]["resourceVersion"] != now["resourceVersion"]:
            raise Outdated("cannot put it back", cause="it was modified", slug="api-refused")
        self.done.append(f"replace {obj['kind']} {obj['metadata']['name']}")
        self.objects[self._key(obj["kind"], obj["metadata"])] = obj

    def own(self, obj: Object) -> None:
        pass

    def create(self, obj: Object) -> None:
        self.done.append(f"create {obj['kind']} {obj['metadata']['name']}")
        self.objects[self._key(obj["kind"], obj["metadata"])] = obj

    def delete(self, _: str, kind: str, name: str, namespace: str) -> None:
        self.done.append(f"delete {kind} {name}")
        if name in self.stubborn:
            raise ClusterError(f"cannot delete {kind} {name}", cause="a webhook", slug="x")
        self.objects.pop(f"{kind} {namespace}/{name}", None)


def made(kind: str, name: str, namespace: str = "", api: str = "v1", **more: Any) -> Object:
    metadata = {"name": name, "uid": name, "resourceVersion": "1"}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **more}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kind.podman.ledger"


def apply(ledger: Ledger, cluster: Any, obj: Object) -> None:
    namespace = obj["metadata"].get("namespace", "")
    ledger.applying(cluster, obj, namespace)
    cluster.objects[cluster._key(obj["kind"], obj["metadata"])] = obj


def test_all_is_as_it_was(path: Path) -> None:
    before = made("ConfigMap", "colour", "shop", data={"is": "green"})
    cluster: Any = Cluster(before, made("Namespace", "shop"))
    ledger = Ledger(path)
    apply(ledger, cluster, made("Namespace", "new"))
    apply(ledger, cluster, made("CustomResourceDefinition", "ships", api="apiextensions.k8s.io/v1"))
    apply(ledger, cluster, made("ConfigMap", "colour", "shop", data={"is": "red"}))
    apply(ledger, cluster, made("ConfigMap", "colour", "shop", data={"is": "blue"}))
    apply(ledger, cluster, made("Deployment", "operator", "new", "apps/v1"))
    apply(ledger, cluster, made("Ship", "titanic", "new", "example.com/v1"))
    assert ledger.give_back(cluster, []) == []
    assert cluster.objects["ConfigMap shop/colour"]["data"] == {"is": "green"}
    assert set(cluster.objects) == {"ConfigMap shop/colour", "Namespace /shop"}
    assert cluster.done == [
        "replace ConfigMap colour",
        "delete Ship titanic",  # while its operator still runs
        "delete CustomResourceDefinition ships",
        "delete Deployment operator",
        "delete Namespace new",
    ]


def test_controllers_write_at_the_same_time(path: Path) -> None:
    before = made("ConfigMap", "colour", "shop", data={"is": "green"})
    for busy, problems in ((3, 0), (1000, 1)):
        cluster: Any = Cluster(before)
        ledger = Ledger(path)
        apply(ledger, cluster, made("ConfigMap", "colour", "shop", data={"is": "red"}))
        cluster.busy = busy
        assert len(ledger.give_back(cluster, [])) == problems
        is_back = cluster.objects["ConfigMap shop/colour"]["data"] == {"is": "green"}
        assert is_back == (not problems)


def test_what_was_deleted_meanwhile_comes_back(path: Path) -> None:
    before = made("Service", "web", "shop", spec={"port": 1}, status={"x": 1})
    cluster: Any = Cluster(before)
    ledger = Ledger(path)
    apply(ledger, cluster, made("Service", "web", "shop", spec={"port": 2}))
    cluster.objects.clear()
    assert ledger.give_back(cluster, []) == []
    assert cluster.objects["Service shop/web"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"port": 1},
    }


def test_another_process_can_do_it(path: Path) -> None:
    """Also when the last line is cut off: it was written before anything was done."""
    cluster: Any = Cluster(made("ConfigMap", "colour", "shop", data={"is": "green"}))
    ledger = Ledger(path)
    apply(ledger, cluster, made("ConfigMap", "colour", "shop", data={"is": "red"}))
    apply(ledger, cluster, made("Secret", "new", "shop"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open("a") as file:
        file.write('{"object": {"apiVer')
    again = Ledger.read(path)
    assert again.give_back(cluster, []) == []
    assert cluster.objects["ConfigMap shop/colour"]["data"] == {"is": "green"}
    assert "Secret shop/new" not in cluster.objects
    again.close()
    assert not path.exists()


def test_what_cannot_be_given_back_is_named_and_the_rest_goes_on(path: Path) -> None:
    cluster: Any = Cluster()
    cluster.stubborn.add("stays")
    ledger = Ledger(path)
    apply(ledger, cluster, made("ConfigMap", "goes", "shop"))
    apply(ledger, cluster, made("ConfigMap", "stays", "shop"))
    assert ledger.give_back(cluster, []) == [
        "ConfigMap shop/stays was not given back as it was:"
        " cannot delete ConfigMap stays: a webhook"
    ]
    assert set(cluster.objects) == {"ConfigMap shop/stays"}


def test_a_file_is_there_from_the_beginning(path: Path) -> None:
    """Nodes are changed before any object is: whoever finds the file must give them back."""
    Ledger(path)
    assert path.exists()
