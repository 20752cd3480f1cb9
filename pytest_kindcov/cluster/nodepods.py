"""A privileged pod on each node of a cluster that is reached by its API alone.

Their namespace is also the lock: nobody else, from whichever machine, has one of its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import time
from typing import TYPE_CHECKING

import yaml

from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.api import FIELD_MANAGER, Api, Present, container_statuses
from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from pytest_kindcov.cluster.api import Object

NAMESPACE = "kindcov"
CONTAINER = "shell"
_LABEL = "app.kubernetes.io/managed-by"
_RUN = "kindcov/run"
_BY = "kindcov/by"
# Seconds. A pod whose image is there runs after one or two; a namespace goes in some six.
_RUNS = 120.0
_GONE = 90.0
_ACCOUNT = 30.0
# Seconds after which a node ends the pod by itself, should the run be killed and never given back.
_BOUND = 12 * 3600
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The node's own programs and what they are linked with; where a node has no such directory one
# would be made, so only these, which all have.
_SYSTEM = {"amd64": ("/usr", "/bin", "/lib", "/lib64")}
_SYSTEM_ELSEWHERE = ("/usr", "/bin", "/lib")
_HOPELESS = (
    "ErrImageNeverPull",
    "ImageInspectError",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
)

Rule = tuple[str, str, tuple[str, ...]]
"""API group, resource, verbs."""
# What a run needs besides the objects of the manifests.
_RIGHTS: tuple[Rule, ...] = (
    ("", "nodes", ("get", "list")),
    ("", "namespaces", ("get", "patch", "update")),
    ("", "pods", ("get", "list", "delete")),
    ("", "pods/exec", ("get", "create")),
    ("", "pods/portforward", ("get", "create")),
    ("", "pods/log", ("get",)),
    ("", "services", ("get", "list", "create", "patch", "delete")),
    ("", "serviceaccounts", ("get",)),
    ("", "events", ("list",)),
    ("discovery.k8s.io", "endpointslices", ("list",)),
)


# What it needs to reach nodes.
_NODE_RIGHTS: tuple[Rule, ...] = (
    ("", "namespaces", ("create", "delete")),
    ("", "pods", ("create",)),
    ("", "nodes/proxy", ("get",)),
)


def role() -> str:
    """The ClusterRole that a run needs, as YAML, without what its manifests hold."""
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
        for group, resource, verbs in (*_RIGHTS, *_NODE_RIGHTS)
    ]
    obj = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "kindcov"},
        "rules": rules,
    }
    return yaml.safe_dump(obj, default_flow_style=None, sort_keys=False, width=100).rstrip()


class Refused(ClusterError):
    """The API server refuses a privileged pod."""

    slug = "node-pod-refused"


def check_rights(api: Api, *, without_nodes: bool) -> str:
    """Ask the API server whether it will let us, before anything is made.

    Args:
        api: the cluster.
        without_nodes: whether it will do if nodes cannot be reached.

    Returns:
        What is missing to reach them; empty for nothing.

    Raises:
        ClusterError: it will not let us; says all that is missing.

    """
    missing, of_nodes = _missing(api, _RIGHTS), _missing(api, _NODE_RIGHTS)
    if without_nodes and not missing:
        return ", ".join(of_nodes)
    missing += of_nodes
    if missing:
        raise ClusterError(
            "the cluster does not let us do what a run needs",
            cause="missing, in all namespaces: " + ", ".join(missing),
            remedy="bind this role to the user of the kubeconfig, and the same verbs and `update`"
            f" on what the manifests hold:\n{role()}",
            slug="rights-missing",
        )
    return ""


def _missing(api: Api, rules: Sequence[Rule]) -> list[str]:
    return [
        f"{verb} {resource}" + (f" ({group})" if group else "")
        for group, resource, verbs in rules
        for verb in verbs
        if not _may(api, group, resource, verb)
    ]


def _may(api: Api, group: str, resource: str, verb: str) -> bool:
    name, _, part = resource.partition("/")
    wanted = {"group": group, "resource": name, "subresource": part, "verb": verb}
    review = api.create(
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {"resourceAttributes": wanted},
        }
    )
    return bool((review.get("status") or {}).get("allowed"))


def pod_name(node: str) -> str:
    """Name of the pod on a node: nodes' names may be longer than names of pods."""
    return f"node-{hashlib.sha256(node.encode()).hexdigest()[:12]}"


class NodePods:
    """The pods of one run.

    Args:
        api: the cluster.
        run: what tells this run, or the dead one in whose stead it acts, from others.
        cancel: when set, waiting is given up.

    """

    def __init__(self, api: Api, run: str, cancel: threading.Event | None = None) -> None:
        self._api = api
        self._run = run
        self._cancel = cancel

    def start(self, nodes: Sequence[Object]) -> None:
        """Start a pod on each node, when the namespace is ours.

        Args:
            nodes: as the API server lists them.

        Raises:
            Refused: the API server refuses such pods.
            ClusterError: one does not run.

        """
        for pod in self._pods():
            self._api.delete("v1", "Pod", pod["metadata"]["name"], NAMESPACE, grace=0)
        wait_until(
            lambda: not self._pods(),
            what="the pods of an earlier run being gone",
            timeout=_GONE,
            cancel=self._cancel,
            slug="old-pod-stays",
            error=ClusterError,
        )
        wait_until(
            lambda: self._api.get("v1", "ServiceAccount", "default", NAMESPACE),
            what=f"ServiceAccount {NAMESPACE}/default",
            timeout=_ACCOUNT,
            slug="service-account-missing",
            cancel=self._cancel,
            error=ClusterError,
        )
        for node in nodes:
            self._create(node)
        self._wait({pod_name(node["metadata"]["name"]) for node in nodes})

    def close(self) -> None:
        """Remove the pods with their namespace, and wait until they are gone.

        Raises:
            ClusterError: they are not, in time.

        """
        self._api.delete("v1", "Namespace", NAMESPACE, "")
        wait_until(
            lambda: self._namespace() is None,
            what=f"namespace {NAMESPACE} being gone",
            timeout=_GONE,
            interval=0.2,
            remedy=f"`kubectl get namespace {NAMESPACE} -o yaml` says what it waits for",
            slug="node-pods-stay",
            error=ClusterError,
        )

    def take(self) -> None:
        """Make the namespace, or take that of the dead run in whose stead this one acts.

        Raises:
            ClusterError: another run has it.

        """
        by = f"process {os.getpid()} of {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M')}"
        wanted: Object = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": NAMESPACE,
                "labels": {
                    _LABEL: FIELD_MANAGER,
                    "pod-security.kubernetes.io/enforce": "privileged",
                },
                "annotations": {_RUN: self._run, _BY: by},
            },
        }

        def taken() -> bool:
            with contextlib.suppress(Present):
                self._api.create(wanted)
                return True
            there = self._namespace()
            if there is None or there["metadata"].get("deletionTimestamp"):
                return False
            notes = there["metadata"].get("annotations") or {}
            if notes.get(_RUN) != self._run:
                raise ClusterError(
                    "the cluster is in use",
                    cause=f"it has a namespace {NAMESPACE}, of {notes.get(_BY) or 'somebody'}",
                    remedy="wait until that run is over. If it is dead, `kindcov doctor --remove`"
                    " on its machine gives the cluster back as it was; where nothing is known of it"
                    f" there, `kubectl delete namespace {NAMESPACE}`",
                    slug="cluster-in-use",
                )
            return True

        wait_until(
            taken,
            what=f"namespace {NAMESPACE} of an earlier run being gone",
            timeout=_GONE,
            cancel=self._cancel,
            slug="node-pods-stay",
            error=ClusterError,
        )

    def _namespace(self) -> Object | None:
        return self._api.get("v1", "Namespace", NAMESPACE, "")

    def _pods(self) -> list[Object]:
        return self._api.list("v1", "Pod", NAMESPACE)

    def _create(self, node: Object) -> None:
        name = node["metadata"]["name"]
        try:
            self._api.create(_pod(node))
        except ClusterError as error:
            if error.slug != "api-refused":
                raise
            raise Refused(
                f"node {name}: no privileged pod can be made there",
                cause=error.cause,
                remedy=f"exempt the namespace {NAMESPACE} from what refuses it; or name an image"
                " that has sh and tar, by which coverage is read without the nodes:"
                " --kind-coverage-sidecar",
            ) from error

    def _wait(self, names: set[str]) -> None:
        seen: list[Object] = []

        def running() -> bool:
            seen[:] = [pod for pod in self._pods() if pod["metadata"]["name"] in names]
            for pod in seen:
                if _is_hopeless(pod):
                    raise _does_not_run(pod)
            return {pod["metadata"]["name"] for pod in seen if _runs(pod)} == names

        wait_until(
            running,
            what="the pods by which nodes are reached",
            timeout=_RUNS,
            interval=0.2,
            state=lambda: "\n".join(_state(pod) for pod in seen if not _runs(pod)),
            cancel=self._cancel,
            slug="node-pod-failed",
            error=ClusterError,
        )


def _pod(node: Object) -> Object:
    """A pod that sleeps, in which the node's own programs run as on the node."""
    info = node["status"]["nodeInfo"]
    paths = _SYSTEM.get(info["architecture"], _SYSTEM_ELSEWHERE)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(node["metadata"]["name"]),
            "namespace": NAMESPACE,
            "labels": {_LABEL: FIELD_MANAGER},
        },
        "spec": {
            "nodeName": node["metadata"]["name"],  # past the scheduler: also where it is cordoned
            "hostPID": True,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _BOUND,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": CONTAINER,
                    "image": _image(node),
                    "imagePullPolicy": "Never",
                    "command": ["/usr/bin/sleep", "infinity"],
                    "env": [{"name": "PATH", "value": _PATH}],
                    "securityContext": {"privileged": True},
                    "volumeMounts": [
                        {"name": path[1:], "mountPath": path, "readOnly": True} for path in paths
                    ],
                }
            ],
            "volumes": [{"name": path[1:], "hostPath": {"path": path}} for path in paths],
        },
    }


def _image(node: Object) -> str:
    """An image that the node has: any will do, its own programs are not run."""
    name = node["metadata"]["name"]
    sizes: dict[str, Object] = {
        next((each for each in image["names"] if "@" not in each), image["names"][0]): image
        for image in (node.get("status") or {}).get("images") or []
        if image.get("names")
    }
    if not sizes:
        raise ClusterError(
            f"node {name} tells of no image that it has",
            cause="the pod by which it is reached runs one that is there: nothing is pulled",
            remedy="a kubelet with --node-status-max-images=0 tells none: give it another value",
            slug="node-pod-failed",
        )
    # The smallest is the sandbox's, as a rule; it is never collected while there are pods.
    return min(sizes, key=lambda each: ("/pause" not in each, sizes[each].get("sizeBytes", 0)))


def _runs(pod: Object) -> bool:
    return bool((pod.get("status") or {}).get("phase") == "Running") and all(
        "running" in (status.get("state") or {}) for status in container_statuses(pod)
    )


def _waiting(pod: Object) -> Object:
    for status in container_statuses(pod):
        state: Object = status.get("state") or {}
        found: Object = state.get("waiting") or state.get("terminated") or {}
        if found:
            return found
    return {}


def _is_hopeless(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Failed", "Succeeded") or _waiting(pod).get("reason") in _HOPELESS


def _state(pod: Object) -> str:
    status, waiting = pod.get("status") or {}, _waiting(pod)
    told = [status.get("phase"), status.get("reason"), status.get("message")]
    told += [waiting.get("reason"), waiting.get("message")]
    return f"node {pod['spec'].get('nodeName')}: " + " ".join(str(word) for word in told if word)


def _does_not_run(pod: Object) -> ClusterError:
    return ClusterError(
        f"node {pod['spec'].get('nodeName')}: the pod by which it is reached does not run",
        cause=_state(pod),
        remedy="it runs the node's own /usr/bin/sleep, privileged: the cause is the kubelet's own",
        slug="node-pod-failed",
    )
