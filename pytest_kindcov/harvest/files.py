"""Coverage files, from the nodes into memory: one directory per container, nothing trusted."""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindcov.cluster.node import Node, on_all
from pytest_kindcov.errors import CommandError, HarvestError
from pytest_kindcov.harvest.inject import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindcov.cluster.node import Node

META = re.compile(r"covmeta\.[0-9a-f]{32}")
COUNTERS = re.compile(r"covcounters\.[0-9a-f]{32}\.[0-9]{1,10}\.[0-9]{1,20}")
_IDENTITY = re.compile(r"[0-9a-f]{64}")

# Bounds for what an untrusted pod may leave. The meta file of a 57 MB Kubernetes controller is
# 0.6 MB, its counter file 0.1 MB.
MAX_FILE = 64 << 20
MAX_FILES = 20_000
MAX_TOTAL = 1 << 30
_MAX_ARCHIVE = MAX_TOTAL + (64 << 20)
_COPY = 300.0


@dataclass
class Container:
    """What one container left: its identity and its coverage files."""

    id: str
    node: str
    namespace: str = ""
    pod: str = ""
    name: str = ""
    image: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Name to content, coverage files only."""

    @property
    def title(self) -> str:
        """As one names it."""
        return f"{self.namespace}/{self.pod} ({self.name})"

    @property
    def has_meta(self) -> bool:
        """Whether an instrumented program started."""
        return any(META.fullmatch(name) for name in self.files)

    @property
    def has_counters(self) -> bool:
        """Whether an instrumented program ended and wrote its counters."""
        return any(COUNTERS.fullmatch(name) for name in self.files)


@dataclass(frozen=True)
class Collected:
    """What all nodes held."""

    containers: list[Container]
    problems: list[str]
    """What was left out, and why."""


def collect(nodes: list[Node]) -> Collected:
    """Copy the coverage files of all containers off all nodes, at once."""
    parts = on_all(nodes, _collect)
    return Collected(
        [container for part in parts for container in part.containers],
        [problem for part in parts for problem in part.problems],
    )


def _collect(node: Node) -> Collected:
    try:
        # GNU tar exits with 1 when a file changes while it is read, which a running pod may do,
        # and dies of SIGPIPE (141) when there is more than we take.
        archive = node.script(
            f"cd {BASE}/containers 2>/dev/null || exit 0; tar -cf - . | head -c {_MAX_ARCHIVE};"
            ' case "${PIPESTATUS[0]}" in 0 | 1 | 141) ;; *) exit 1 ;; esac',
            timeout=_COPY,
        ).stdout
    except CommandError as error:
        try:
            if node.engine.is_running(node.name):
                raise
            archive = node.engine.copy_out(node.name, f"{BASE}/containers", _MAX_ARCHIVE, _COPY)
        except CommandError as last:
            raise HarvestError(
                f"cannot read the coverage data of node {node.name}",
                cause=str(last),
                slug="node-not-readable",
            ) from error
    return unpack(archive, node.name)


def unpack(archive: bytes, node: str) -> Collected:
    """Read a node's archive. Only regular files with the names that Go gives them are taken."""
    found: dict[str, Container] = {}
    problems: list[str] = []
    total = count = 0
    if not archive:
        return Collected([], [])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in _members(tar, node, problems):
            parts = member.name.removeprefix("./").removeprefix("containers/").split("/")
            if not _IDENTITY.fullmatch(parts[0]):
                continue
            container = found.setdefault(parts[0], Container(parts[0], node))
            name = parts[-1]
            if len(parts) == 2 and name == "state.json" and member.isreg():
                identify(container, _content(tar, member))
            if len(parts) != 3 or not (META.fullmatch(name) or COUNTERS.fullmatch(name)):
                continue
            count += 1
            total += member.size
            if not member.isreg() or member.size > MAX_FILE:
                problems.append(f"{container.title}: {name} is not a coverage file, skipped")
            elif count > MAX_FILES or total > MAX_TOTAL:
                problems.append(f"{container.title}: {name} skipped, more data than is plausible")
            else:
                container.files[name] = _content(tar, member)
    return Collected(list(found.values()), problems)


def _members(tar: tarfile.TarFile, node: str, problems: list[str]) -> Iterator[tarfile.TarInfo]:
    try:
        yield from tar
    except (tarfile.TarError, EOFError) as error:
        problems.append(f"node {node}: its coverage data is cut off ({error})")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def identify(container: Container, state: bytes) -> None:
    """Take a container's names from containerd's CRI annotations, which runc.sh saved."""
    try:
        notes = json.loads(state)["annotations"]
    except (ValueError, KeyError, TypeError):
        return
    container.namespace = str(notes.get("io.kubernetes.cri.sandbox-namespace", ""))
    container.pod = str(notes.get("io.kubernetes.cri.sandbox-name", ""))
    container.name = str(notes.get("io.kubernetes.cri.container-name", ""))
    container.image = str(notes.get("io.kubernetes.cri.image-name", ""))
