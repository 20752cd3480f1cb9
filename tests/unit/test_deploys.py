"""Where a service's objects come from: lists, charts, functions, operators; and what is its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_kindcov.errors import ManifestError, ToolNotFound
from pytest_kindcov.service import callables, found, helm, hooks, jobs, manifests, sources
from pytest_kindcov.service.callables import Target
from pytest_kindcov.service.deploy import Deployed
from pytest_kindcov.service.forward import Entry, port_target
from pytest_kindcov.service.goservice import GoService
from pytest_kindcov.service.spec import ServiceSpec

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "shop/web:1"}]}
"""
INVENTORY = WEB.replace("web", "inventory")
TARGET = Target("web", "shop/web:1", "shop", Path("/nowhere"))


def spec(**values: Any) -> ServiceSpec:
    return ServiceSpec(**{"directory": "/", "package": "./web", **values})


def parse(text: str) -> list[dict[str, Any]]:
    return list(sources.documents(text, "it"))


def names(objects: list[dict[str, Any]]) -> list[str]:
    return [f"{obj['kind']}/{obj['metadata']['name']}" for obj in objects]


def test_lists_are_their_items() -> None:
    web, inventory = yaml.safe_load(WEB), yaml.safe_load(INVENTORY)
    inner = {"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [inventory]}
    outer = {"apiVersion": "v1", "kind": "List", "items": [web, inner]}
    empty = {"apiVersion": "v1", "kind": "List", "items": None}
    assert names(parse(yaml.safe_dump_all([outer, empty]))) == [
        "Deployment/web",
        "Deployment/inventory",
    ]


def test_object_whose_kind_ends_like_a_list() -> None:
    """Such as a firewall's: it used to vanish without a word."""
    text = "{apiVersion: x.example/v1, kind: IPAllowList, metadata: {name: office}, spec: {}}"
    assert names(parse(text)) == ["IPAllowList/office"]


def test_generated_name_is_the_same_for_the_same_object() -> None:
    text = "{apiVersion: batch/v1, kind: Job, metadata: {generateName: seed-}, spec: {a: 1}}"
    (first,), (again,) = parse(text), parse(text)
    (other,) = parse(text.replace("a: 1", "a: 2"))
    assert first == again
    assert first["metadata"]["name"].startswith("seed-")
    assert "generateName" not in first["metadata"]
    assert first["metadata"]["name"] != other["metadata"]["name"]


def hook(name: str, events: str, weight: str = "", kind: str = "Job") -> str:
    notes = {"helm.sh/hook": events, **({"helm.sh/hook-weight": weight} if weight else {})}
    metadata = {"name": name, "annotations": notes}
    pod = {"spec": {"containers": [{"name": "a", "image": "shop/web:1"}]}}
    obj = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": {"template": pod}}
    return "---\n" + yaml.safe_dump(obj)


def test_hooks_run_as_helm_install_runs_them() -> None:
    text = WEB + "".join(
        [
            hook("late", "pre-install,pre-upgrade", "10"),
            hook("early", "pre-install", "-5"),
            hook("config", "pre-install", "-5", "ConfigMap"),
            hook("after", "post-install"),
            hook("test", "test"),
            hook("upgrade", "pre-upgrade,post-upgrade"),
            hook("removal", "pre-delete"),
            hook("odd", "pre-install", "heavy"),
        ]
    )
    phases = hooks.phases(parse(text))
    assert names(phases.before) == ["ConfigMap/config", "Job/early", "Job/odd", "Job/late"]
    assert names(phases.main) == ["Deployment/web"]
    assert names(phases.after) == ["Job/after"]
    loaded = manifests.found_in(parse(text), spec(image="shop/web:1"))
    ran = {"late", "early", "config", "after", "odd", "web"}
    assert {obj["metadata"]["name"] for obj in loaded.objects} == ran


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ({}, None),
        ({"active": 1}, None),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, True),
        ({"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}, None),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, False),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, None),
        ({"phase": "Succeeded"}, True),
        ({"phase": "Failed"}, False),
    ],
)
def test_end_of_a_hook(status: dict[str, Any], verdict: bool | None) -> None:
    assert jobs.succeeded({"status": status}) is verdict
    assert jobs.succeeded(None) is None


def test_each_of_several_services_deploys_its_own() -> None:
    """What runs nobody's image is everybody's."""
    cache = WEB.replace("shop/web:1", "cache:7").replace("web", "cache")
    objects = parse("---".join([WEB, INVENTORY, cache]))
    web = manifests.found_in(objects, spec(image="shop/web:1", others=("shop/inventory:1",)))
    assert names(web.objects) == ["Deployment/web", "Deployment/cache"]
    by_name = manifests.found_in(objects, spec(others=("inventory",)))
    assert by_name == web
    alone = manifests.found_in(objects, spec(image="shop/web:1"))
    assert len(alone.objects) == 3


def test_image_that_only_an_operator_is_told() -> None:
    text = "{apiVersion: x.example/v1, kind: App, metadata: {name: a}, spec: {image: 'shop/web:1'}}"
    loaded = manifests.found_in(parse(text), spec(image="shop/web:1"))
    assert list(loaded.containers()) == []
    assert Deployed.of(loaded, spec(image="shop/web:1", namespace="shop")).namespaces == {"shop"}
    with pytest.raises(ManifestError, match=r"image-not-used"):
        manifests.found_in(parse(text), spec(image="shop/web:2"))


class Cluster:
    """Objects by kind, as the API server lists them: without kind."""

    def __init__(self, **objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    def list(self, _: str, kind: str, namespace: str | None = None, *__: str) -> Any:
        return [
            obj
            for obj in self.objects.get(kind, [])
            if namespace in (None, obj["metadata"]["namespace"])
        ]


def live(
    name: str, owner: str = "", pod: bool = False, image: str = "shop/web:1"
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "labels": {"app": "web"}}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": "x", "controller": True}]
    containers = {"containers": [{"name": "web", "image": image}]}
    spec = containers if pod else {"template": {"metadata": metadata, "spec": containers}}
    return {"metadata": metadata, "spec": spec}


def test_workloads_are_found_by_their_image() -> None:
    service = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    entry = {"app.kubernetes.io/managed-by": "pytest-kindcov"}
    cluster: Any = Cluster(
        Deployment=[live("web"), live("db", image="postgres:17")],
        ReplicaSet=[live("web-1", "Deployment")],
        Pod=[live("web-1-a", "ReplicaSet", pod=True), live("app-0", "App", pod=True)],
        Service=[
            {"metadata": {"name": "web", "namespace": "shop"}, "spec": service},
            {"metadata": {"name": "e", "namespace": "shop", "labels": entry}, "spec": service},
        ],
    )
    objects = found.workloads(cluster, "docker.io/shop/web:1", [None])
    assert names(objects) == ["Deployment/web", "Pod/app-0", "Service/web"]
    assert found.workloads(cluster, "docker.io/shop/web:1", ["other"]) == []
    target = port_target(manifests.Manifests(objects, "shop/web:1"), spec(port=80))
    assert target == Entry("shop", {"app": "web"}, {"TCP": 8080})


SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  clusterIP: None
  ports:
    - {name: metrics, port: 9153}
    - {name: dns-udp, port: 53, protocol: UDP, targetPort: dns}
    - {name: dns-tcp, port: 53, targetPort: 1053}
    - {name: sctp, port: 7, protocol: SCTP}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {ports: [{port: 5432}]}
"""


@pytest.mark.parametrize(
    ("port", "targets"),
    [
        (53, {"TCP": 1053, "UDP": "dns"}),
        (9153, {"TCP": 9153}),
        (7, {"TCP": 7}),
        (5432, {"TCP": 5432}),
        (None, None),
    ],
)
def test_protocols_of_a_port(port: int | None, targets: dict[str, Any] | None) -> None:
    its = spec(image="shop/web:1", port=port)
    entry = port_target(manifests.found_in(parse(WEB + SERVICE), its), its)
    assert (entry.targets if entry else None) == targets
    assert entry is None or list(entry.targets) == list(targets or ())  # TCP is first


def test_port_that_only_a_container_declares() -> None:
    text = WEB.replace('"shop/web:1"', '"shop/web:1", ports: [{containerPort: 53, protocol: UDP}]')
    its = spec(image="shop/web:1", port=53)
    entry = port_target(manifests.found_in(parse(text), its), its)
    assert entry == Entry("default", {"app": "web"}, {"UDP": 53})


def test_handle_crosses_to_workers() -> None:
    service = GoService(
        "dns", "shop", "10.0.0.1", 30053, protocols=("TCP", "UDP"), image="docker.io/x/dns:1",
        workloads=(("shop", "Deployment", "dns"),),
    )  # fmt: skip
    assert GoService.from_dict(json.loads(json.dumps(service.to_dict()))) == service


def test_spec_crosses_to_the_controller() -> None:
    its = spec(chart="c", values=("a.yaml", {"b": {"c": [1, None]}}), others=("x:1",))
    again = ServiceSpec.from_json(its.to_json())
    assert again == its
    assert again.key == its.key


# Functions.


def deploys_itself(target: Target) -> None:
    assert target.env["IMAGE"] == target.image
    assert target.env["NAMESPACE"] == "shop"
    assert target.env["KUBECONFIG"] == "/nowhere"


def gives_text(target: Target) -> str:
    return WEB.replace("name: web}\nspec", f"name: web, namespace: {target.namespace}}}\nspec")


def gives_objects(_: Target) -> Any:
    return (yaml.safe_load(text) for text in (WEB, INVENTORY))


def gives_one(_: Target) -> Any:
    return yaml.safe_load(WEB)


def gives_nonsense(_: Target) -> Any:
    return [1]


def runs_make(_: Target) -> None:
    code = "import sys; print('no rule'); sys.exit(2)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def called(function: Any) -> list[dict[str, Any]] | None:
    return callables.call(spec(call=callables.reference(function)), TARGET)


def test_function_gives_manifests_or_deploys() -> None:
    assert called(deploys_itself) is None
    assert [obj["metadata"]["namespace"] for obj in called(gives_text) or []] == ["shop"]
    assert names(called(gives_objects) or []) == ["Deployment/web", "Deployment/inventory"]
    assert names(called(gives_one) or []) == ["Deployment/web"]


def test_function_that_fails_says_why() -> None:
    with pytest.raises(ManifestError, match=r"(?s)manifests=runs_make failed.*no rule"):
        called(runs_make)
    with pytest.raises(ManifestError, match="not an object but int"):
        called(gives_nonsense)


class Deploying:
    def method(self, target: Target) -> None:
        """Cannot be found by its name."""


@pytest.mark.parametrize("function", [lambda _: None, Deploying().method, print, Deploying])
def test_function_must_be_found_by_its_name(function: Any) -> None:
    with pytest.raises(ManifestError, match="function-not-found"):
        callables.reference(function)


def test_function_is_found_in_another_process(tmp_path: Path) -> None:
    """xdist's controller has not imported the conftest, nor what that imports beside it."""
    (tmp_path / "helper.py").write_text(f"TEXT = {WEB!r}\n")
    (tmp_path / "conftest.py").write_text(
        "from helper import TEXT\n\ndef deploy(target):\n    return TEXT\n"
    )
    script = (
        "from pathlib import Path\n"
        "from pytest_kindcov.service import callables\n"
        "from pytest_kindcov.service.spec import ServiceSpec\n"
        f"spec = ServiceSpec('/', package='./web', call={str(tmp_path / 'conftest.py')!r}"
        " + '::deploy')\n"
        "target = callables.Target('web', 'i', 'shop', Path('/'))\n"
        "for _ in range(2):\n    print(callables.call(spec, target)[0]['kind'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["Deployment", "Deployment"]


# Charts, with a helm that tells how it was called; a real one is in tests/cluster.


@pytest.fixture
def chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tool = tmp_path / "bin/helm"
    tool.parent.mkdir()
    tool.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        "files = [a for b, a in zip(sys.argv, sys.argv[1:]) if b == '--values']\n"
        "data = {'args': ' '.join(sys.argv[1:5]), 'values': [open(f).read() for f in files]}\n"
        "print(json.dumps({'apiVersion': 'v1', 'kind': 'ConfigMap',"
        " 'metadata': {'name': 'a'}, 'data': data}))\n"
    )
    tool.chmod(0o755)
    (tmp_path / "charts/shop").mkdir(parents=True)
    (tmp_path / "values.yaml").write_text("a: 1\n")
    monkeypatch.setenv("KINDCOV_HELM", str(tool))
    return tmp_path


def read(root: Path, **values: Any) -> Any:
    its = spec(directory=str(root), chart="charts/shop", **values)
    return sources.read(its, rootdir=root, scratch=root, kubectl=list)


def test_chart_is_rendered(chart: Path) -> None:
    (obj,) = read(chart, values=("values.yaml", {"b": {"c": True}}), namespace="ns")
    assert obj["data"]["args"] == f"template shop {chart}/charts/shop --namespace"
    assert obj["data"]["values"] == ["a: 1\n", '{"b": {"c": true}}']
    (written,) = chart.glob("*.values1.json")
    assert written.stat().st_mode & 0o777 == 0o600
    (obj,) = read(chart, release="mine")
    assert obj["data"]["args"] == f"template mine {chart}/charts/shop --namespace"


def test_chart_that_fails_says_why(chart: Path) -> None:
    helm_program = chart / "bin/helm"
    helm_program.write_text("#!/bin/sh\necho 'Error: nil pointer at web.yaml:3' >&2; exit 1\n")
    with pytest.raises(ManifestError, match=r"(?s)chart-not-rendered.*nil pointer.*helm template"):
        read(chart)
    helm_program.write_text(
        "#!/bin/sh\necho 'Error: found in Chart.yaml, but missing in charts/ directory: db' >&2\n"
        "exit 1\n"
    )
    with pytest.raises(ManifestError, match=r"chart-dependencies-missing(.|\n)*dependency build"):
        read(chart)


def test_missing_helm(chart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDCOV_HELM", "no-such-helm")
    with pytest.raises(ToolNotFound, match=r"helm-missing(.|\n)*go install"):
        read(chart)


@pytest.mark.parametrize(
    ("path", "name"),
    [("charts/shop", "shop"), ("charts/shop/", "shop"), ("shop-1.2.tgz", "shop-1.2"), (".", "web")],
)
def test_release_bears_the_charts_name(path: str, name: str) -> None:
    assert helm.release(spec(chart=path)) == name
