"""One node of the cluster: commands, files and archives, by way of the engine's exec."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

from pytest_kindcov._run import Output, run

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_kindcov.cluster.engine import Engine

T = TypeVar("T")

# Seconds. One exec takes 0.1 to 0.2 s; a busy engine was seen to need several.
_EXEC = 60.0
# An image of 1 GB was seen to take 15 s.
_LOAD = 300.0

IMPORT = ["ctr", "-n", "k8s.io", "images", "import", "--digests", "--snapshotter=overlayfs", "-"]
"""Reads an image archive from standard input into the node's store."""

# The CRI plugin gives each image a second name, by its id. crictl tells it too, but not all nodes
# have that. An image without one is told by its manifest's digest.
_IMAGE_ID = """
set -o pipefail
ctr -n k8s.io images ls | awk -v name="$1" '
  NR > 1 && $1 == name {digest = $3}
  NR > 1 && $1 ~ /^sha256:[0-9a-f]+$/ {ids[$3] = $1}
  END {if (digest != "") print (ids[digest] != "" ? ids[digest] : digest)}
'
"""
# An import also gives the content a name of its own, and the CRI plugin one by its id: where no
# other name of the content is left they go too.
_RESTORE = """
set -e
images() { ctr -n k8s.io images "$@"; }
names() { images ls | awk -v digest="$1" 'NR > 1 && $3 == digest {print $1}'; }
digest=$(images ls | awk -v name="$1" 'NR > 1 && $1 == name {print $3}')
if [ -n "$2" ]; then images tag --force "$2" "$1"; elif [ -n "$digest" ]; then images rm "$1"; fi
[ -n "$digest" ] || exit 0
if names "$digest" | grep -qvE '^(import-.*@)?sha256:[0-9a-f]{64}$'; then exit 0; fi
names "$digest" | while read -r name; do images rm "$name"; done
"""
# Seconds. The CRI plugin follows containerd's store by its events: until then pods get what a name
# stood for before, or it is pulled.
_SEEN = 10.0


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

    def load(self, archive: Path) -> None:
        """Load a docker archive into the node's store."""
        with archive.open("rb") as stream:
            self.run(IMPORT, stdin=stream, timeout=_LOAD)

    def image_id(self, reference: str) -> str:
        """The id of an image in the node's store, as the engine's; empty where there is none."""
        return self.script(_IMAGE_ID, reference).text.strip()

    def restore(self, reference: str, image_id: str) -> None:
        """Let an image's name stand again for what it stood for; "": for nothing."""
        self.script(_RESTORE, reference, image_id)
        self.wait_image(reference, image_id)

    def wait_image(self, reference: str, image_id: str) -> None:
        """Wait until pods get an image for its name; not for long, engines may count otherwise."""
        deadline = time.monotonic() + _SEEN
        while self.image_id(reference) != image_id and time.monotonic() < deadline:
            time.sleep(0.1)

    def rename(self, source: str, target: str) -> None:
        """Rename an image of the node's store.

        With both names left, containerd reports either for a container, whichever a pod asked for.
        """
        self.run(["ctr", "-n", "k8s.io", "images", "tag", "--force", source, target])
        self.run(["ctr", "-n", "k8s.io", "images", "rm", source])


def on_all(nodes: Sequence[Node], act: Callable[[Node], T]) -> list[T]:
    """Do something on all nodes at once; the first error is raised when all are done."""
    if not nodes:
        return []
    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(act, nodes))
