"""A command on a node, by way of the API server and a privileged pod there, as a local process.

Standard input, output and error are the command's, and so is the exit code: what takes an engine's
`exec -i` takes `python -m pytest_kindcov.cluster.bridge`. The client of `kubernetes` is not for it:
it keeps all output in memory, and it takes a second to import, which each command would cost.
"""

from __future__ import annotations

import json
import os
import select
import ssl
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websocket import WebSocket

# With version 5 (Kubernetes 1.30) the end of one stream can be told.
PROTOCOL = "v5.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_CONNECT = 30.0  # seconds
_CHUNK = 32 << 10  # the API server's own; a larger one could block while it waits for us to read
FAILED = 125
"""Exit code when the command was not run, as of docker and podman."""

_LAUNCH = """
IFS= read -r -d '' count; words=()
while ((count--)); do IFS= read -r -d '' word; words+=("$word"); done
exec "${words[@]}"
"""
# In all namespaces of the node's first process but that of control groups: what runs there belongs
# to the pod, and ends with it. The command comes by standard input: in the address of the request
# it would be logged, and some proxies cut that.
_NAMESPACES = ["--mount", "--uts", "--ipc", "--net", "--pid"]
_ENTER = ["nsenter", "--target=1", *_NAMESPACES, "--", "bash", "-c", _LAUNCH]


def sent(command: Sequence[str]) -> bytes:
    """A command as what is started on the node reads it from its standard input."""
    return b"".join(word.encode() + b"\0" for word in (str(len(command)), *command))


@dataclass(frozen=True)
class Connection:
    """How the API server is reached: what the `kubernetes` client made of a kubeconfig.

    Args:
        server: its URL.
        authority: path of the certificates that it is verified by; empty: the system's.
        verify: whether it is verified.
        server_name: that its certificate must be for; empty: the URL's.
        certificate: path of the client's; empty for none.
        key: path of its key.
        authorization: the header; empty for none.
        proxy: URL of the proxy; empty: the environment's.

    """

    server: str
    authority: str = ""
    verify: bool = True
    server_name: str = ""
    certificate: str = ""
    key: str = ""
    authorization: str = ""
    proxy: str = ""

    @classmethod
    def read(cls, path: Path) -> Connection:
        """A connection that was written."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """Write it to a file, atomically, which nobody else can read: it may hold a token."""
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            json.dump(asdict(self), file)
        partial.rename(path)


def connect(
    connection: Connection, where: tuple[str, str, str], command: Sequence[str]
) -> WebSocket:
    """Start a command in a container.

    Args:
        connection: to the API server.
        where: namespace, pod and container.
        command: the program and its arguments.

    Raises:
        WebSocketException: the API server refused.
        OSError: it cannot be reached.

    """
    import websocket

    namespace, pod, container = where
    streams = [(name, "true") for name in ("stdin", "stdout", "stderr")]
    words = [("command", word) for word in command]
    query = urlencode([*streams, ("container", container), *words])
    parts = urlsplit(connection.server)
    base = f"{'ws' if parts.scheme == 'http' else 'wss'}://{parts.netloc}{parts.path.rstrip('/')}"
    tls = {
        "ca_certs": connection.authority,
        "certfile": connection.certificate,
        "keyfile": connection.key,
        "server_hostname": connection.server_name,
    }
    verified = {"cert_reqs": ssl.CERT_REQUIRED if connection.verify else ssl.CERT_NONE}
    proxy = urlsplit(connection.proxy)
    socket: WebSocket = websocket.create_connection(
        f"{base}/api/v1/namespaces/{namespace}/pods/{pod}/exec?{query}",
        timeout=_CONNECT,
        sslopt={**verified, **{name: value for name, value in tls.items() if value}},
        subprotocols=[PROTOCOL],
        header=[f"Authorization: {connection.authorization}"] if connection.authorization else [],
        suppress_origin=True,
        http_proxy_host=proxy.hostname,
        http_proxy_port=proxy.port,
    )
    if socket.getsubprotocol() != PROTOCOL:
        socket.close()
        raise websocket.WebSocketException(
            f"the API server does not know {PROTOCOL}: it is older than Kubernetes 1.30"
        )
    socket.settimeout(None)
    return socket


def fetch(
    connection: Connection,
    where: tuple[str, str, str],
    command: Sequence[str],
    *,
    limit: int,
    timeout: float,
) -> bytes:
    """What a command in a container prints, whatever its exit code.

    Args:
        connection: to the API server.
        where: namespace, pod and container.
        command: the program and its arguments.
        limit: bytes; when there are more, it is left.
        timeout: seconds, for the whole.

    Raises:
        WebSocketException: the API server refused, or said that it could not be run.
        OSError: it cannot be reached, or did not end in time.

    """
    import websocket

    socket = connect(connection, where, command)
    parts, size, status = [], 0, b""
    deadline = time.monotonic() + timeout
    try:
        while size < limit:
            socket.settimeout(max(deadline - time.monotonic(), 0.01))
            code, frame = socket.recv_data(control_frame=True)
            if code == websocket.ABNF.OPCODE_CLOSE:
                break
            if code == websocket.ABNF.OPCODE_BINARY and frame[:1] == bytes([_STDOUT]):
                parts.append(frame[1:])
                size += len(frame) - 1
            elif code == websocket.ABNF.OPCODE_BINARY and frame[:1] == bytes([_STATUS]):
                status += frame[1:]
    except websocket.WebSocketConnectionClosedException:
        pass
    finally:
        socket.shutdown()  # type: ignore[no-untyped-call]
    result, why = _result(status)
    if result == FAILED and size < limit:
        raise websocket.WebSocketException(why)
    return b"".join(parts)[:limit]


def relay(socket: WebSocket, first: bytes) -> int:
    """Pass on what comes from either side until the command ends; its exit code.

    Args:
        socket: of `connect`.
        first: what goes to the command's standard input before ours.

    """
    import websocket

    assert socket.sock is not None
    _send(socket, first)
    wire = socket.sock.fileno()
    poll = select.poll()
    poll.register(wire, select.POLLIN)
    poll.register(0, select.POLLIN)
    status: bytes = b""
    try:
        while True:
            # What TLS has decrypted already, poll does not see.
            ready = [wire] if _pending(socket) else [number for number, _ in poll.poll()]
            if 0 in ready:
                data = os.read(0, _CHUNK)
                if data:
                    _send(socket, data)
                else:
                    poll.unregister(0)
                    socket.send_binary(bytes([_CLOSE, _STDIN]))
            if wire in ready:
                code, frame = socket.recv_data(control_frame=True)
                if code == websocket.ABNF.OPCODE_CLOSE:
                    return _exit_code(status)
                if code == websocket.ABNF.OPCODE_BINARY and frame[1:]:
                    if frame[0] in (_STDOUT, _STDERR):
                        _write(frame[0], frame[1:])
                    elif frame[0] == _STATUS:
                        status += frame[1:]
    except (websocket.WebSocketConnectionClosedException, ConnectionError):
        return _exit_code(status)


def _pending(socket: WebSocket) -> bool:
    return isinstance(socket.sock, ssl.SSLSocket) and socket.sock.pending() > 0


def _send(socket: WebSocket, data: bytes) -> None:
    for start in range(0, len(data), _CHUNK):
        socket.send_binary(bytes([_STDIN]) + data[start : start + _CHUNK])


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _exit_code(status: bytes) -> int:
    """The exit code that the API server tells of a command; says why there is none."""
    code, why = _result(status)
    if why:
        print(why, file=sys.stderr)
    return code


def _result(status: bytes) -> tuple[int, str]:
    """A command's exit code, or why there is none."""
    try:
        told = json.loads(status)
        if told.get("status") == "Success":
            return 0, ""
        for cause in (told.get("details") or {}).get("causes") or []:
            if cause.get("reason") == "ExitCode":
                return int(cause["message"]), ""
        return FAILED, str(told.get("message"))
    except (ValueError, AttributeError, TypeError):
        return FAILED, "the connection ended before the command did"


def main(arguments: Sequence[str]) -> int:
    """Run a command on a node.

    Args:
        arguments: path of a connection; namespace, pod and container of what is privileged, and
            sees the node's processes; then the command.

    """
    import websocket

    path, namespace, pod, container, *command = arguments
    try:
        socket = connect(Connection.read(Path(path)), (namespace, pod, container), _ENTER)
    except websocket.WebSocketBadStatusException as error:
        print(_refusal(error.resp_body) or error, file=sys.stderr)
        return FAILED
    except (OSError, websocket.WebSocketException) as error:
        print(error, file=sys.stderr)
        return FAILED
    try:
        return relay(socket, sent(command))
    finally:
        socket.shutdown()  # type: ignore[no-untyped-call]


def _refusal(body: bytes | None) -> str:
    try:
        return str(json.loads(body or b"")["message"])
    except (ValueError, KeyError, TypeError):
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
