"""One node of the cluster: commands, files and archives, by way of the engine's exec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from pytest_kindcov._run import Output, run

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from pytest_kindcov.cluster.engine import Engine

# Seconds. One exec takes 0.1 to 0.2 s; a busy engine was seen to need several.
_EXEC = 60.0


@dataclass(frozen=True)
class Node:
    """A node container. Commands run as root in it."""

    name: str
    engine: Engine

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes | IO[bytes] | None = None,
        timeout: float = _EXEC,
        cancel: threading.Event | None = None,
    ) -> Output:
        """Run a command in the node."""
        args = self.engine.exec_args(self.name, command)
        return run(args, stdin=stdin, timeout=timeout, cancel=cancel)

    def script(self, script: str, *args: str, timeout: float = _EXEC) -> Output:
        """Run a fixed bash script in the node; whatever varies comes as `$1`, `$2`, …."""
        return self.run(["bash", "-c", script, "kindcov", *args], timeout=timeout)
