"""The Kubernetes API of a cluster: plain dictionaries in and out, a deadline on every request."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_kindcov.cluster.bridge import Connection
    from pytest_kindcov.cluster.execute import Executed

Object = dict[str, Any]
"""A Kubernetes object as its manifest shows it."""

FIELD_MANAGER = "pytest-kindcov"
# Seconds to connect, and for an answer; an answer takes milliseconds.
_DEADLINE = (5, 30)


class Api:
    """A client of one cluster.

    Args:
        kubeconfig: path of the kubeconfig.
        cache: file for what the API server says of its kinds; the library's default is in /tmp.

    """

    def __init__(self, kubeconfig: Path, cache: Path) -> None:
        # 0.9 s to import, measured; this is why the module is imported where it is used.
        from kubernetes import client, config
        from kubernetes.dynamic import DynamicClient

        # As new_client_from_config does, but the client's key is not written into /tmp, where it
        # would stay when the run is killed.
        settings = type.__call__(client.Configuration)
        config.load_kube_config(
            str(kubeconfig), client_configuration=settings, temp_file_path=str(cache.parent)
        )
        self.noting: Callable[[Object, str], None] | None = None
        """Called before an object is applied, with the namespace it goes to ("" for none)."""
        self._http = client.ApiClient(configuration=settings)
        self._client = DynamicClient(self._http, cache_file=str(cache))

    def apply(self, obj: Object, namespace: str | None = None) -> Object:
        """Server-side apply; conflicts are forced, the cluster being made for this run.

        Raises:
            ClusterError: the API server refused the object.

        """
        resource = self._resource(obj["apiVersion"], obj["kind"])
        where = obj["metadata"].get("namespace") or namespace or "default"
        self.note(obj, namespace)
        return self._call(
            f"cannot apply {title(obj)}",
            lambda: self._client.server_side_apply(
                resource,
                body=obj,
                name=obj["metadata"]["name"],
                namespace=where if resource.namespaced else None,
                field_manager=FIELD_MANAGER,
                force_conflicts=True,
                _request_timeout=_DEADLINE,
            ),
        )

    def patch(self, api_version: str, kind: str, name: str, namespace: str, body: Object) -> Object:
        """Merge a part into an object, and return the whole.

        Raises:
            ClusterError: the API server refused it.

        """
        self.note({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}, namespace)
        resource = self._resource(api_version, kind)
        return self._call(
            f"cannot change {kind} {namespace}/{name}",
            lambda: self._client.patch(
                resource,
                body=body,
                name=name,
                namespace=namespace,
                content_type="application/merge-patch+json",
                _request_timeout=_DEADLINE,
            ),
        )

    def note(self, obj: Object, namespace: str | None = None) -> None:
        """Have an object noted that is about to be changed."""
        if self.noting is not None:
            where = obj["metadata"].get("namespace") or namespace or "default"
            self.noting(obj, where if self.namespaced(obj) else "")

    def get(self, api_version: str, kind: str, name: str, namespace: str) -> Object | None:
        """One object, or None where there is none."""
        resource = self._resource(api_version, kind)
        try:
            with _told(f"cannot read {kind} {namespace}/{name}"):
                result: Object = self._client.get(
                    resource, name=name, namespace=namespace, _request_timeout=_DEADLINE
                ).to_dict()
                return result
        except Absent:
            return None

    def list(
        self, api_version: str, kind: str, namespace: str | None = None, selector: str = ""
    ) -> list[Object]:
        """All objects of a kind, of one namespace or all."""
        resource = self._resource(api_version, kind)
        answer = self._call(
            f"cannot list {kind}",
            lambda: self._client.get(
                resource,
                namespace=namespace,
                label_selector=selector or None,
                _request_timeout=_DEADLINE,
            ),
        )
        items: list[Object] = answer["items"]
        return items

    def create(self, obj: Object) -> Object:
        """Create an object that is not there.

        Raises:
            ClusterError: the API server refused it.

        """
        resource = self._resource(obj["apiVersion"], obj["kind"])
        return self._call(
            f"cannot create {title(obj)}",
            lambda: self._client.create(
                resource,
                body=obj,
                namespace=obj["metadata"].get("namespace"),
                _request_timeout=_DEADLINE,
            ),
        )

    def replace(self, obj: Object) -> Object:
        """Make an object what it was.

        Raises:
            Outdated: it is not of the version that `obj` names.
            ClusterError: the API server refused it.

        """
        resource = self._resource(obj["apiVersion"], obj["kind"])
        return self._call(
            f"cannot put back {title(obj)}",
            lambda: self._client.replace(
                resource,
                body=obj,
                namespace=obj["metadata"].get("namespace"),
                _request_timeout=_DEADLINE,
            ),
        )

    def own(self, obj: Object) -> Object:
        """Let each field of an object be whose it was: else whoever applies it next is refused.

        Raises:
            ClusterError: the API server refused it.

        """
        resource = self._resource(obj["apiVersion"], obj["kind"])
        metadata = obj["metadata"]
        return self._call(
            f"cannot put back the managers of {title(obj)}",
            lambda: self._client.patch(
                resource,
                body={"metadata": {"managedFields": metadata.get("managedFields") or [{}]}},
                name=metadata["name"],
                namespace=metadata.get("namespace"),
                content_type="application/merge-patch+json",
                _request_timeout=_DEADLINE,
            ),
        )

    def delete(
        self, api_version: str, kind: str, name: str, namespace: str, *, grace: int | None = None
    ) -> None:
        """Delete an object, and then what it owns; fine if it is gone.

        Args:
            api_version: of its kind.
            kind: such as `Pod`.
            name: its name.
            namespace: its namespace; "" for a cluster-wide one.
            grace: seconds for a pod to end; default: its own. 0: it is not waited for.

        """
        resource = self._resource(api_version, kind)
        options: Object = {"propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        with contextlib.suppress(Absent), _told(f"cannot delete {kind} {namespace}/{name}"):
            self._client.delete(
                resource,
                name=name,
                namespace=namespace or None,
                body=options,
                _request_timeout=_DEADLINE,
            )

    def raw(self, path: str) -> bytes:
        """What the API server answers to a GET of a path, such as a kubelet's metrics.

        Raises:
            ClusterError: it refused, or did not answer.

        """
        with _told(f"cannot read {path}"):
            data: bytes = self._client.request(
                "get",
                path,
                serialize=False,
                header_params={"Accept": "*/*"},
                _request_timeout=_DEADLINE,
            ).data
        return data

    def namespaced(self, obj: Object) -> bool:
        """Whether objects of this kind live in a namespace."""
        return bool(self._resource(obj["apiVersion"], obj["kind"]).namespaced)

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        lines: int | None = 20,
    ) -> str:
        """The last lines of a container's log (None: all); empty when there is none."""
        from kubernetes.client import CoreV1Api
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            text: str = CoreV1Api(self._http).read_namespaced_pod_log(
                pod,
                namespace,
                container=container,
                previous=previous,
                _request_timeout=_DEADLINE,
                **({} if lines is None else {"tail_lines": lines}),
            )
        except (ApiException, HTTPError):
            return ""
        return text or ""

    def execute(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float
    ) -> Executed:
        """Run a command in a container.

        Raises:
            ClusterError: it could not be started, or ran longer than `timeout` seconds.

        """
        from pytest_kindcov.cluster import execute

        where = namespace, pod, container
        return execute.run(self._http.configuration, where, command, timeout)

    def forward(self, namespace: str, pod: str, port: int) -> socket.socket:
        """A connection to a port of a pod.

        Raises:
            ClusterError: the API server refused it.

        """
        from pytest_kindcov.cluster import execute

        return execute.forward(self._http.configuration, namespace, pod, port)

    def fetch(
        self, where: tuple[str, str, str], command: Sequence[str], *, limit: int, timeout: float
    ) -> bytes:
        """What a command in a container prints, whatever its exit code; see `bridge.fetch`.

        Raises:
            ClusterError: it could not be run, or ran longer than `timeout` seconds.

        """
        from websocket import WebSocketException

        from pytest_kindcov.cluster import bridge

        try:
            return bridge.fetch(self.connection(), where, command, limit=limit, timeout=timeout)
        except (OSError, WebSocketException) as error:
            raise ClusterError(
                f"cannot run {command[0]} in {'/'.join(where)}",
                cause=str(error),
                remedy="is the program in the image?",
                slug="exec-refused",
            ) from error

    def connection(self) -> Connection:
        """How the API server is reached, as this client does it; a token is a fresh one."""
        from pytest_kindcov.cluster.bridge import Connection

        made = self._http.configuration
        token = made.auth_settings().get("BearerToken") or {}
        return Connection(
            server=made.host,
            authority=made.ssl_ca_cert or "",
            verify=bool(made.verify_ssl),
            server_name=made.tls_server_name or "",
            certificate=made.cert_file or "",
            key=made.key_file or "",
            authorization=token.get("value") or "",
            proxy=made.proxy or "",
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _resource(self, api_version: str, kind: str) -> Any:
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            with _told(f"cannot look up {kind}"):
                return self._client.resources.get(api_version=api_version, kind=kind)
        except ResourceNotFoundError as error:
            raise UnknownKind(
                f"the cluster knows no {kind} of {api_version}",
                remedy="is its CustomResourceDefinition among the manifests?",
            ) from error

    def _call(self, what: str, call: Any) -> Object:
        with _told(what):
            result: Object = call().to_dict()
        return result


def import_ahead(*, low: bool) -> None:
    """Import the client, which takes a second, in a thread of its own while others wait.

    Args:
        low: at low priority, which Linux has for each thread: kind's bootstrap goes first.

    """
    if low and sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    import kubernetes.dynamic  # noqa: F401


class Absent(ClusterError):
    """There is no such object."""


class Present(ClusterError):
    """There is such an object already."""


class Outdated(ClusterError):
    """Somebody changed the object since it was read."""


class UnknownKind(ClusterError):
    """The API server does not serve this kind (yet)."""

    slug = "resource-unknown"


def title(obj: Object) -> str:
    """An object as one names it: `Deployment orders/orders`."""
    metadata = obj.get("metadata") or {}
    name = "/".join(filter(None, [metadata.get("namespace"), metadata.get("name", "?")]))
    return f"{obj.get('kind', 'object')} {name}"


def container_statuses(pod: Object) -> list[Object]:
    """Statuses of a pod's init containers and containers, as far as the kubelet has said any."""
    status = pod.get("status") or {}
    return [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Errors of the client as ours; `what` cannot be done then."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise refused(what, error) from error
    except HTTPError as error:
        raise ClusterError(
            what,
            cause=str(error),
            remedy="is the node running, and the engine?",
            slug="api-unreachable",
        ) from error


def refused(what: str, error: Any, slug: str = "api-refused") -> ClusterError:
    """What the API server said when it refused something."""
    try:
        told = json.loads(error.body)
        message, reason = str(told["message"]), told.get("reason")
    except (TypeError, ValueError, KeyError):
        message, reason = str(error.reason or error), ""
    kind = {404: Absent}.get(error.status, ClusterError)
    kind = {"AlreadyExists": Present, "Conflict": Outdated}.get(reason, kind)
    return kind(what, cause=message, slug=slug)
