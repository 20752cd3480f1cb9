"""A port of 127.0.0.1 that leads to the pods behind a node port, by way of the API server.

For clusters whose nodes cannot be reached from here. Each connection goes to a pod that is ready
when it is made, so the address stays while pods are replaced.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import TYPE_CHECKING

from pytest_kindcov.errors import ClusterError, KindCovError

if TYPE_CHECKING:
    from pytest_kindcov.cluster.api import Api, Object

_CHUNK = 64 << 10


class Tunnel:
    """Accepts connections until it is closed.

    Args:
        api: the cluster.
        node_port: of a Service.

    Attributes:
        port: of 127.0.0.1.

    Raises:
        ClusterError: no Service has this node port.

    """

    def __init__(self, api: Api, node_port: int) -> None:
        self._api = api
        self._service, self._name = _service(api, node_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="kindcov-tunnel", daemon=True).start()

    def close(self) -> None:
        """Accept nothing more; what is connected goes on until either side ends it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(ours,), name="kindcov-connection", daemon=True
            ).start()

    def _serve(self, ours: socket.socket) -> None:
        """Connect one client; a pod that is not there closes it, as a port of its own would."""
        with ours:
            try:
                pod, port = self._target()
                theirs = self._api.forward(self._service["metadata"]["namespace"], pod, port)
            except KindCovError:
                return
            with theirs:
                back = threading.Thread(target=_pump, args=(theirs, ours), daemon=True)
                back.start()
                _pump(ours, theirs)
                back.join()

    def _target(self) -> tuple[str, int]:
        """A ready pod of the Service, and its port."""
        metadata = self._service["metadata"]
        found = [
            (endpoint["targetRef"]["name"], int(port["port"]))
            for piece in self._api.list(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                metadata["namespace"],
                f"kubernetes.io/service-name={metadata['name']}",
            )
            for port in piece.get("ports") or []
            if (port.get("name") or "") == self._name
            for endpoint in piece.get("endpoints") or []
            if (endpoint.get("conditions") or {}).get("ready") is not False
            if (endpoint.get("targetRef") or {}).get("kind") == "Pod"
        ]
        if not found:
            raise ClusterError("no pod of the service is ready", slug="service-not-reachable")
        return random.choice(found)  # noqa: S311 (as kube-proxy does)


def _service(api: Api, node_port: int) -> tuple[Object, str]:
    for service in api.list("v1", "Service"):
        for port in (service.get("spec") or {}).get("ports") or []:
            if port.get("nodePort") == node_port and (port.get("protocol") or "TCP") == "TCP":
                return service, port.get("name") or ""
    raise ClusterError(
        f"no Service has the node port {node_port}",
        cause="it was removed meanwhile",
        slug="service-not-reachable",
    )


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until it ends; then nothing can come back either."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
