"""Services that come to the cluster in every way; copied, it is a `conftest.py`."""

from __future__ import annotations

from typing import Any

from kubernetes import client, config, utils

from pytest_kindcov import Target, go_service

many = go_service(
    "./shapes", name="many", manifests="many.yaml", image="registry.example/many:latest", port=8080
)
digest = go_service("./shapes", name="digest", manifests="digest.yaml", port=8080, per_worker=True)
operator = go_service("./operator", manifests=["crd.yaml", "operator.yaml"])
made = go_service(
    "./shapes",
    name="made",
    manifests=["crd.yaml", "made.yaml"],
    image="registry.example/made:dev",
    port=80,
)


def pod(target: Target) -> dict[str, Any]:
    """A Deployment as an object."""
    labels = {"app": target.service}
    container = {
        "name": "shapes",
        "image": target.image,
        "command": ["/opt/shapes"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": target.service, "namespace": target.namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def deploy(target: Target) -> None:
    """What a team's own tool does."""
    obj = pod(target)
    del obj["spec"]["template"]["spec"]["containers"][0]["command"]
    with config.new_client_from_config(str(target.kubeconfig)) as api:
        utils.create_from_dict(api, obj)
        ports = [client.V1ServicePort(port=80, target_port=8080)]
        spec = client.V1ServiceSpec(selector={"app": target.service}, ports=ports)
        service = client.V1Service(metadata=client.V1ObjectMeta(name=target.service), spec=spec)
        client.CoreV1Api(api).create_namespaced_service(target.namespace, service)


given = go_service("./shapes", name="given", manifests=pod, namespace="given", port=8080)
tool = go_service("./shapes", name="tool", manifests=deploy, namespace="tool", port=80)
