"""A command in a container, or a connection to a pod, by way of the API server."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindcov.cluster import api
from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

_CONNECT = (5, 30)  # seconds to connect, and for an answer


@dataclass(frozen=True)
class Executed:
    """A command that ended in a container."""

    stdout: str
    stderr: str
    code: int
    """Its exit code."""


def run(
    configuration: Any, where: tuple[str, str, str], command: Sequence[str], timeout: float
) -> Executed:
    """Run a command to its end.

    Args:
        configuration: of a client.
        where: namespace, pod and container.
        command: the program and its arguments.
        timeout: seconds.

    Raises:
        ClusterError: it could not be started, or ran longer.

    """
    from kubernetes import client
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream import stream
    from kubernetes.stream.ws_client import ERROR_CHANNEL

    namespace, pod, container = where
    # A client of its own: `stream` changes it while it connects.
    core = client.CoreV1Api(client.ApiClient(configuration=configuration))
    try:
        session = stream(
            core.connect_get_namespaced_pod_exec,
            pod,
            namespace,
            container=container,
            command=list(command),
            stdout=True,
            stderr=True,
            _preload_content=False,
            _request_timeout=_CONNECT,
        )
    except ApiException as error:
        raise api.refused(f"cannot run {command[0]}", error, "exec-refused") from error
    deadline = time.monotonic() + timeout
    try:
        while session.is_open() and time.monotonic() < deadline:
            session.update(timeout=1)
        if session.is_open():
            raise ClusterError(
                f"{command[0]} did not end",
                cause=f"it ran for {timeout:.0f} s, and goes on",
                remedy="give it longer with timeout=",
                slug="exec-timeout",
            )
        status = json.loads(session.read_channel(ERROR_CHANNEL) or "{}")
        done = Executed(session.read_stdout(), session.read_stderr(), _exit_code(status))
    finally:
        session.close()
    if done.code < 0:
        raise ClusterError(
            f"cannot run {command[0]}",
            cause=str(status.get("message") or "the connection ended"),
            remedy="is the program in the image?",
            slug="exec-refused",
        )
    return done


def forward(configuration: Any, namespace: str, pod: str, port: int) -> socket.socket:
    """A connection to a TCP port of a pod.

    Raises:
        ClusterError: the API server refused it, or does not answer.

    """
    from kubernetes import client
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream import portforward

    core = client.CoreV1Api(client.ApiClient(configuration=configuration))
    try:
        made = portforward(
            core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port)
        )
    except ApiException as error:
        raise api.refused(f"cannot connect to {namespace}/{pod}", error, "exec-refused") from error
    # The library's own class is only for clients that set TCP's options.
    connection: socket.socket = made.socket(port)._socket
    return connection


def _exit_code(status: dict[str, Any]) -> int:
    """The exit code that the API server tells of a command; -1 when it did not run."""
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    return -1
