"""One instance of a service for each worker: what is moved, what is shared, what cannot be."""

from __future__ import annotations

import copy
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pytest_kindcov.errors import BuildError, KindCovError, ManifestError
from pytest_kindcov.service import build, forward, image
from pytest_kindcov.service.deploy import Deployed
from pytest_kindcov.service.goservice import GoService
from pytest_kindcov.service.manifests import Manifests
from pytest_kindcov.service.once import Claims, Once
from pytest_kindcov.service.provide import Provider
from pytest_kindcov.service.spec import ServiceSpec
from pytest_kindcov.service.workers import instance_name, move

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindcov.cluster.node import Node

CLUSTER_WIDE = {
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "PersistentVolume",
    "PriorityClass",
    "ValidatingWebhookConfiguration",
}
SHOP = """
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {pod-security.kubernetes.io/enforce: restricted, kubernetes.io/metadata.name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {namespace: shop}}
spec:
  selector: {matchLabels: {app: web, namespace: shop}}
  template:
    metadata: {labels: {app: web, namespace: shop}}
    spec:
      containers:
        - name: web
          image: web:dev
          args: [--db=postgres://u:p@db.shop/x, --cache=cache:6379]
          env:
            - {name: API, value: "https://db.shop.svc.cluster.local:5432"}
            - {name: OTHER, value: db.shop.example.com}
            - {name: KUBE, value: kubernetes.default.svc}
            - {name: PEER, value: db-0.db.shop:1}
            - {name: BARE, value: db.shop}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  type: NodePort
  selector: {app: db, namespace: shop}
  ports: [{port: 5432, nodePort: 30432}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {namespace: shop, config.yaml: "db.shop = 1\\nurl: http://db.shop/x"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects:
  - {kind: ServiceAccount, name: web, namespace: shop}
  - {kind: ServiceAccount, name: prometheus, namespace: monitoring}
  - {kind: Group, name: "system:serviceaccounts:shop"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: auth, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: extension-reader}
subjects: [{kind: ServiceAccount, name: web, namespace: shop}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: mugs.example.com}
spec: {group: example.com, scope: Namespaced, names: {kind: Mug, plural: mugs}}
---
apiVersion: example.com/v1
kind: Mug
metadata: {name: blue, namespace: shop}
spec: {ownerRef: {name: web, namespace: shop}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: own, namespace: shop}
spec:
  podSelector: {}
  ingress:
    - from:
        - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}
        - namespaceSelector:
            matchExpressions:
              - {key: kubernetes.io/metadata.name, operator: In, values: [shop, monitoring]}
"""


def namespaced(obj: dict[str, Any]) -> bool:
    assert obj["kind"] != "Mug", "the cluster does not know it yet"
    return obj["kind"] not in CLUSTER_WIDE


def spec(**values: Any) -> ServiceSpec:
    shared = ServiceSpec(directory="/repo", package="./web", per_worker=True, **values)
    return shared.for_worker("gw0")


def moved(text: str, **values: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    manifests = Manifests(list(yaml.safe_load_all(text)), "web:dev")
    before = copy.deepcopy(manifests.objects)
    own, shared, _ = move(manifests, spec(**values), namespaced)
    assert manifests.objects == before
    return own.objects, shared


def test_for_worker() -> None:
    shared = ServiceSpec(directory="/repo", package="./web")
    assert shared.for_worker("gw0") == shared
    own = spec()
    assert (own.worker, own.label, own.title) == ("gw0", "web (gw0)", "web")
    assert ServiceSpec.from_json(own.to_json()) == own
    assert own.key != own.for_worker("gw1").key


def test_move() -> None:
    own, shared = moved(SHOP)
    assert [obj["metadata"]["name"] for obj in shared] == ["reader", "mugs.example.com"]
    (shop, web, db, config, everywhere, system, mug, policy) = own
    assert shop["metadata"] == {
        "name": "shop-gw0",
        "labels": {
            "pod-security.kubernetes.io/enforce": "restricted",
            "kubernetes.io/metadata.name": "shop-gw0",
        },
    }
    assert {obj["metadata"]["namespace"] for obj in (web, db, mug, policy)} == {"shop-gw0"}
    # Labels are the user's own words, in a selector as in a pod.
    assert web["spec"]["selector"]["matchLabels"]["namespace"] == "shop"
    assert web["spec"]["template"]["metadata"]["labels"]["namespace"] == "shop"
    assert db["spec"]["selector"]["namespace"] == "shop"
    assert "nodePort" not in db["spec"]["ports"][0]
    container = web["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["--db=postgres://u:p@db.shop-gw0/x", "--cache=cache:6379"]
    assert [item["value"] for item in container["env"]] == [
        "https://db.shop-gw0.svc.cluster.local:5432",
        "db.shop.example.com",
        "kubernetes.default.svc",
        "db-0.db.shop-gw0:1",
        "db.shop-gw0",
    ]
    assert config["metadata"]["namespace"] == "default-gw0"
    assert config["data"] == {
        "namespace": "shop",
        "config.yaml": "db.shop = 1\nurl: http://db.shop-gw0/x",
    }
    assert everywhere["metadata"]["name"] == "reader-gw0"
    assert everywhere["roleRef"]["name"] == "reader"
    assert [subject.get("namespace") for subject in everywhere["subjects"][:2]] == [
        "shop-gw0",
        "monitoring",
    ]
    assert everywhere["subjects"][2]["name"] == "system:serviceaccounts:shop-gw0"
    assert system["metadata"] == {"name": "auth-gw0", "namespace": "kube-system"}
    assert system["subjects"][0]["namespace"] == "shop-gw0"
    assert mug["spec"]["ownerRef"]["namespace"] == "shop-gw0"
    one, other = policy["spec"]["ingress"][0]["from"]
    assert one["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "shop-gw0"}
    (expression,) = other["namespaceSelector"]["matchExpressions"]
    assert expression["values"] == ["shop-gw0", "monitoring"]


def test_namespace_of_the_conftest() -> None:
    manifests = Manifests(list(yaml.safe_load_all(DEPLOYMENT)), "web:dev")
    own, _, its = move(manifests, spec(namespace="mine"), namespaced)
    assert own.objects[0]["metadata"]["namespace"] == its.namespace == "mine-gw0"
    deployed = Deployed.of(own, its)
    assert deployed == Deployed(
        title="web",
        image="docker.io/library/web:dev",
        worker="gw0",
        workloads=(("mine-gw0", "Deployment", "web"),),
        containers=frozenset({"web"}),
        namespaces=frozenset({"mine-gw0"}),
    )


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:dev", ports: [{containerPort: 8080}]}]}
"""
SERVER = "clientConfig: {service: {name: web, namespace: default}}"


@pytest.mark.parametrize(
    ("text", "thing", "cause"),
    [
        ("{apiVersion: v1, kind: PersistentVolume, metadata: {name: disk}}", "disk", "one claim"),
        (
            "{apiVersion: a/v1, kind: ValidatingWebhookConfiguration, metadata: {name: hook},"
            f" webhooks: [{{name: x, {SERVER}}}]}}",
            "ValidatingWebhookConfiguration hook",
            "refers to a namespace that each worker has for itself (default)",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.96.0.9}}",
            "Service s",
            "only one Service can have the address 10.96.0.9",
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: dns, namespace: kube-system}}",
            "ConfigMap kube-system/dns",
            "kube-system is the cluster's own",
        ),
        (DEPLOYMENT.replace("8080}", "8080, hostPort: 80}"), "Deployment web", "its port 80"),
        (
            DEPLOYMENT.replace("spec: {con", "spec: {hostNetwork: true, con"),
            "Deployment web",
            "hostNetwork",
        ),
    ],
)
def test_what_cannot_be_moved(text: str, thing: str, cause: str) -> None:
    with pytest.raises(ManifestError) as caught:
        moved(f"{DEPLOYMENT}\n---\n{text}")
    assert f"{thing} cannot be there once for each worker" in caught.value.what
    assert cause in caught.value.cause
    assert "drop per_worker=True" in caught.value.remedy


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
WORKER = st.one_of(st.integers(0, 999).map(lambda n: f"gw{n}"), st.text(min_size=1, max_size=80))


@given(LABEL, WORKER)
def test_instance_names_are_labels(name: str, worker: str) -> None:
    result = instance_name(name, worker)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", result)
    assert len(result) <= 63
    if len(name) < 50 and re.fullmatch(r"gw\d+", worker, re.ASCII):
        assert result == f"{name}-{worker}"


@given(st.lists(st.tuples(LABEL, WORKER), min_size=2, max_size=8, unique=True))
def test_instance_names_differ(pairs: list[tuple[str, str]]) -> None:
    assert len({instance_name(*pair) for pair in pairs}) == len(pairs)


JSON = st.recursive(
    st.sampled_from(["shop", "db.shop.svc", "x", "", 1, None, True]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["namespace", "namespaces", "labels", "data", "selector", "key", "a"]),
            inner,
            max_size=4,
        ),
    ),
)


@given(JSON)
def test_any_object_can_be_moved(value: Any) -> None:
    """Custom resources hold anything; moving keeps their shape and, without references, all."""
    obj = {"apiVersion": "example.com/v1", "kind": "Any", "metadata": {"name": "a"}, "spec": value}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "db", "namespace": "shop"},
    }
    own, _, _ = move(Manifests([service, obj], "web:dev"), spec(), lambda _: True)
    result = own.objects[1]["spec"]
    assert str(result).replace("shop-gw0", "shop") == str(value)
    own, _, _ = move(Manifests([obj], "web:dev"), spec(), lambda _: True)
    assert own.objects[0]["spec"] == value


def test_once() -> None:
    once, calls = Once(), []

    def make() -> int:
        calls.append(threading.get_ident())
        time.sleep(0.05)
        return len(calls)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: once("a", make), range(8))) == [1] * 8
    assert len(calls) == 1
    assert once("b", lambda: "other") == "other"

    def fail() -> None:
        calls.append(0)
        raise BuildError("no")

    for _ in range(2):
        with pytest.raises(BuildError):
            once("c", fail)
    assert len(calls) == 2


def test_claims() -> None:
    claims = Claims()
    claims.claim("a port", 1, "web", cause="c", remedy="r")
    claims.claim("a port", 1, "api", cause="c", remedy="r")
    with pytest.raises(ManifestError, match="services web and api have a port"):
        claims.claim("a port", 2, "api", cause="c", remedy="r")
    with pytest.raises(ManifestError, match="both services web have a port"):
        claims.claim("a port", 2, "web", cause="c", remedy="r")


class Cluster:
    """A cluster that takes everything: it notes what was applied, built and loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.applied: list[dict[str, Any]] = []
        self.built: list[ServiceSpec] = []
        self.loaded: list[str] = []
        self.port = 30000
        self.nodes = [SimpleNamespace(name=name, load=self._load(name)) for name in ("n1", "n2")]
        monkeypatch.setattr(build, "build", self._build)
        monkeypatch.setattr(image, "write_archive", lambda archive, **_: archive.touch())
        monkeypatch.setattr(forward, "connect", self._connect)
        engine = SimpleNamespace(arch="amd64", address=lambda _: "10.0.0.1")
        made: Any = SimpleNamespace(
            nodes=self.nodes,
            forwarded=(),
            engine=engine,
            created=True,
            ledger=None,
            entry=self.nodes[0],
            sidecar="",
            refusal="",
        )
        early: Any = self.nodes[:1]
        self.provider = Provider(
            rootdir=tmp_path,
            scratch=tmp_path,
            coverage=True,
            kubectl="",
            engine=lambda: engine,  # type: ignore[arg-type,return-value]
            cluster=lambda: made,
            booted=lambda: early,
            api=lambda: self,  # type: ignore[arg-type,return-value]
            deploying=lambda _: None,
            phase=lambda name, begin: None,
            tell=lambda _: None,
            cancel=threading.Event(),
        )

    def _load(self, name: str) -> Any:
        return lambda _: self.loaded.append(name)

    def _build(self, service: ServiceSpec, *, output: Path, **_: Any) -> None:
        self.built.append(service)
        output.touch()

    def _connect(
        self,
        api: Any,
        nodes: list[Node],
        manifests: Any,
        its: ServiceSpec,
        at: tuple[str, int],
        **_: Any,
    ) -> GoService:
        return GoService(its.title, its.namespace or "default", "node", at[1], worker=its.worker)

    def apply(self, obj: dict[str, Any], namespace: str | None = None) -> dict[str, Any]:
        self.applied.append(copy.deepcopy(obj))
        self.port += 1
        return {"spec": {"ports": [{"nodePort": self.port}]}}

    def get(self, _: str, kind: str, *__: str) -> dict[str, Any] | None:
        if kind == "Namespace":
            return None
        return {
            "metadata": {},
            "spec": {"replicas": 1},
            "status": {"updatedReplicas": 1, "replicas": 1, "availableReplicas": 1},
        }

    def namespaced(self, obj: dict[str, Any]) -> bool:
        return namespaced(obj)

    def names(self, kind: str) -> list[str]:
        return sorted(obj["metadata"]["name"] for obj in self.applied if obj["kind"] == kind)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    for name in ("web", "api"):
        (tmp_path / name).mkdir()
    return Cluster(monkeypatch, tmp_path)


def in_repository(tmp_path: Path, text: str, **values: Any) -> ServiceSpec:
    name = f"{abs(hash(text))}.yaml"
    (tmp_path / name).write_text(text)
    base = {"package": "./web", "image": "web:dev", "manifests": (name,), "port": 8080}
    return ServiceSpec(**{"directory": str(tmp_path), **base, **values})


def test_one_build_for_all_workers(cluster: Cluster, tmp_path: Path) -> None:
    shared = in_repository(tmp_path, SHOP, per_worker=True)
    specs = [shared.for_worker(f"gw{number}") for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(cluster.provider.provide, specs))
    assert len(cluster.built) == 1
    assert sorted(cluster.loaded) == ["n1", "n2"]
    assert len({service.port for service, _ in answers}) == 6
    assert {(d.worker, d.workloads) for _, d in answers} == {
        (f"gw{n}", ((f"shop-gw{n}", "Deployment", "web"),)) for n in range(6)
    }
    assert cluster.names("CustomResourceDefinition") == ["mugs.example.com"]
    assert cluster.names("ClusterRole") == ["reader"]
    assert cluster.names("ClusterRoleBinding") == [f"reader-gw{n}" for n in range(6)]
    assert set(cluster.names("Namespace")) == {
        f"{name}-gw{n}" for n in range(6) for name in ("default", "shop")
    }


def test_no_namespace_is_made_in_vain(cluster: Cluster, tmp_path: Path) -> None:
    text = DEPLOYMENT.replace("{name: web}", "{name: web, namespace: shop}")
    shared = in_repository(tmp_path, text, per_worker=True)
    cluster.provider.provide(shared.for_worker("gw0"))
    assert cluster.names("Namespace") == ["shop-gw0"]


def test_without_workers_nothing_is_moved(cluster: Cluster, tmp_path: Path) -> None:
    service, deployed = cluster.provider.provide(in_repository(tmp_path, SHOP, per_worker=True))
    assert (service.worker, deployed.worker) == ("", "")
    assert deployed.workloads == (("shop", "Deployment", "web"),)
    assert cluster.names("ClusterRoleBinding") == ["reader"]


def test_two_conftests_share_a_build(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    one = in_repository(tmp_path, DEPLOYMENT)
    other = in_repository(tmp_path, DEPLOYMENT, directory=str(tmp_path / "tests"))
    cluster.provider.provide(one)
    cluster.provider.provide(other)
    assert len(cluster.built) == 1
    assert len(cluster.loaded) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"package": "./api", "name": "api"}, "web and api have the image docker.io/library/web"),
        ({"env": {"A": "1"}}, "both services web have Deployment default/web"),
        ({"port": 9090}, "both services web have the address default/kindcov-web"),
    ],
)
def test_collisions(cluster: Cluster, tmp_path: Path, values: dict[str, Any], message: str) -> None:
    cluster.provider.provide(in_repository(tmp_path, DEPLOYMENT))
    with pytest.raises(KindCovError, match=message):
        cluster.provider.provide(in_repository(tmp_path, DEPLOYMENT, **values))


def test_nobody_else_gets_into_a_workers_namespace(cluster: Cluster, tmp_path: Path) -> None:
    shared = in_repository(tmp_path, DEPLOYMENT, per_worker=True, namespace="shop")
    cluster.provider.provide(shared.for_worker("gw0"))
    api = DEPLOYMENT.replace("web", "api")
    beside = in_repository(tmp_path, api, image="api:dev", package="./api", namespace="shop-gw0")
    with pytest.raises(KindCovError, match="web \\(gw0\\) and api have namespace shop-gw0"):
        cluster.provider.provide(beside)
