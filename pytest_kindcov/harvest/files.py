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
_NOT_ONE = "is not a coverage file, skipped"
_IDENTITY = re.compile(r"[0-9a-f]{64}")

# Bounds for what an untrusted pod may leave. The meta file of a 57 MB Kubernetes controller is
# 0.6 MB, its counter file 0.1 MB.
MAX_FILE = 64 << 20
MAX_FILES = 20_000
"""Of one container."""
MAX_TOTAL = 1 << 30
"""Bytes of one node."""
_MAX_METAS = 64
# Bytes that must be free on a node for its programs to have been able to write theirs.
_MIN_ROOM = 1 << 16
_FULL = "no-room"
_MAX_ARCHIVE = MAX_TOTAL + (64 << 20)
_COPY = 300.0

# Only what we take is put into the archive, each container's up to a bound, and those that left
# least come first: one that left too much costs nobody else's. Nor its own: of its counter files
# the newest come first, and a program writes its own when it ends. A second name of a file is a
# file. GNU tar exits with 1 when a file changes while it is read, which a running pod may do, and
# dies of SIGPIPE (141) when there is more than we take. What is left out goes to standard error.
_ARCHIVE = rf"""
cd {BASE}/containers 2> /dev/null || exit 0
(($(df --output=avail -B1 . | tail -n 1) > {_MIN_ROOM})) || echo {_FULL} >&2
chosen() {{ find "$1/data" -maxdepth 1 -regextype posix-extended -regex ".*/($2)" "${{@:3}}"; }}
small='-type f -size -{MAX_FILE}c'
meta='covmeta\.[0-9a-f]{{32}}'
counters='covcounters\.[0-9a-f]{{32}}\.[0-9]{{1,10}}\.[0-9]{{1,20}}'
for id in $(du -sb -- * 2> /dev/null | sort -n | cut -f 2); do
  [[ $id =~ ^[0-9a-f]{{64}}$ ]] || continue
  printf '%s\0' "$id/state.json"
  chosen "$id" "$meta" $small -print0 | head -z -n {_MAX_METAS}
  chosen "$id" "$counters" $small -printf '%T@ %p\0' | sort -z -n -r |
    head -z -n {MAX_FILES + 1} | cut -z -d ' ' -f 2-
  chosen "$id" "$meta|$counters" ! '(' $small ')' -printf '%p\n' | head -n 5 >&2
done | tar --null --hard-dereference --ignore-failed-read --no-recursion -cf - -T - 2> /dev/null |
  head -c {_MAX_ARCHIVE}
case "${{PIPESTATUS[1]}}" in 0 | 1 | 2 | 141) ;; *) exit 1 ;; esac
"""


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
    errors: dict[str, HarvestError] = field(default_factory=dict)
    """By node, why not all of it can be there."""


def collect(nodes: list[Node]) -> Collected:
    """Copy the coverage files of all containers off all nodes, at once."""
    parts = on_all(nodes, _collect)
    return Collected(
        [container for part in parts for container in part.containers],
        [problem for part in parts for problem in part.problems],
        {node: error for part in parts for node, error in part.errors.items()},
    )


def _collect(node: Node) -> Collected:
    try:
        answer = node.script(_ARCHIVE, timeout=_COPY)
        archive, left_out = answer.stdout, answer.stderr
    except CommandError:
        try:
            if node.engine.is_running(node.name):
                raise
            archive = node.engine.copy_out(node.name, f"{BASE}/containers", _MAX_ARCHIVE, _COPY)
            left_out = b""
        except CommandError as error:
            why = HarvestError(
                f"the coverage files of node {node.name} cannot be read",
                cause=str(error),
                remedy="what its programs ran until they were last read counts; files that they"
                " wrote since are missing. Is the node there, and does the engine answer?",
                slug="node-not-readable",
            )
            return Collected([], [], {node.name: why})
    found = unpack(archive, node.name)
    by_id = {container.id: container for container in found.containers}
    for path in left_out.decode(errors="replace").splitlines():
        if path == _FULL:
            found.errors[node.name] = HarvestError(
                f"the disk of node {node.name} is full: programs could not write their coverage",
                cause=f"{BASE} on it has no room; what they ran until they were last read counts",
                remedy="make room for the engine's volumes; a container that left too much there is"
                " named above",
                slug="disk-full",
            )
        identity, _, name = path.partition("/data/")
        if identity in by_id:
            found.problems.append(f"{by_id[identity].title}: {name} {_NOT_ONE}")
    return found


def unpack(archive: bytes, node: str) -> Collected:
    """Read a node's archive. Only regular files with the names that Go gives them are taken."""
    found: dict[str, Container] = {}
    problems: list[str] = []
    total = 0
    counts: dict[str, int] = {}
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
            total += member.size
            counts[container.id] = counts.get(container.id, 0) + 1
            if not member.isreg() or member.size > MAX_FILE:
                problems.append(f"{container.title}: {name} {_NOT_ONE}")
            elif counts[container.id] > MAX_FILES or total > MAX_TOTAL:
                problem = f"{container.title}: files skipped, more than is plausible"
                problems += [problem] if problem not in problems else []
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
