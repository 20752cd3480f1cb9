"""Calls from xdist's workers to the owner, over a socket of the state directory."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from pytest_kindcov.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

NAME = "live"
# Seconds for an answer: a reading takes milliseconds, and settling up to a minute if asked to.
_DEADLINE = 120.0


class Server:
    """Answers calls, each client in a thread of its own.

    Args:
        directory: private to the run; gets the socket.
        answer: called with the method and its arguments, plain values in and out.

    """

    def __init__(self, directory: Path, answer: Callable[..., Any]) -> None:
        from multiprocessing.connection import Listener

        self._answer = answer
        self._open = contextlib.ExitStack()
        path = self._open.enter_context(_short(directory))
        self._listener = Listener(path, "AF_UNIX", backlog=64)
        threading.Thread(target=self._accept, name="kindcov-wire", daemon=True).start()

    def close(self) -> None:
        """Accept no more clients; those that are connected end with their processes."""
        self._listener.close()
        self._open.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection[Any, Any]) -> None:
        with connection, contextlib.suppress(EOFError, OSError):
            while True:
                method, *arguments = json.loads(connection.recv_bytes())
                try:
                    answer = {"result": self._answer(method, *arguments)}
                except Exception as error:  # the caller gets it
                    answer = {"error": str(error)}
                connection.send_bytes(json.dumps(answer).encode())


class Caller:
    """A worker's end.

    Args:
        directory: of the run.

    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection: Connection[Any, Any] | None = None

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the owner.

        Raises:
            ClusterError: the owner is gone or says why it could not.

        """
        try:
            if self._connection is None:
                from multiprocessing.connection import Client

                with _short(self._directory) as path:
                    self._connection = Client(path, "AF_UNIX")
            self._connection.send_bytes(json.dumps([method, *arguments]).encode())
            if not self._connection.poll(_DEADLINE):
                raise ClusterError(
                    f"no answer to {method} within {_DEADLINE:.0f} s", slug="controller-silent"
                )
            answer = json.loads(self._connection.recv_bytes())
        except (OSError, EOFError) as error:
            raise ClusterError(
                "the run's controller does not answer", cause=str(error), slug="controller-silent"
            ) from error
        if "error" in answer:
            raise ClusterError(f"{method} failed", cause=answer["error"], slug="controller-failed")
        return answer["result"]


@contextlib.contextmanager
def _short(directory: Path) -> Iterator[str]:
    """A path of the socket within the 108 bytes that a socket's address has."""
    path = directory / NAME
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)
