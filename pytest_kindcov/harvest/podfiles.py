"""Coverage files where nodes cannot be reached: through the sidecars that `service.patching` adds.

A pod's files go with it, so they are taken while it ends, whoever ends it: all pods are watched.
"""

from __future__ import annotations

import io
import json
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pytest_kindcov.cluster.api import container_statuses
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.harvest import files
from pytest_kindcov.service.image import full_name
from pytest_kindcov.service.patching import BASE, CONTAINERS, DONE, ENDED, LABEL, SIDECAR, STATE

if TYPE_CHECKING:
    from pytest_kindcov.cluster.api import Api, Object

# Seconds. A sidecar stays for what is left of the grace period, 15 s at least.
_INTERVAL = 1.0
_FETCH = 60.0
_MAX_ARCHIVE = files.MAX_FILE + (16 << 20)
# The state first: if it says that all have ended, what comes behind it is whole.
_ARCHIVE = f"cd {BASE} && tar -cf - {STATE} [0-9]*"
_RELEASE = f": > {BASE}/{DONE}"


class PodFiles:
    """Reads the files of all pods that have the sidecar, from now on.

    Args:
        api: the cluster.

    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], files.Container] = {}
        """By pod's uid and container's name."""
        self._read: set[str] = set()
        self._ended: set[str] = set()
        self._present: set[str] = set()
        self._restarts: dict[tuple[str, str], int] = {}
        self._problems: list[str] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kindcov-files", daemon=True)
        self._thread.start()

    def collect(self) -> files.Collected:
        """What all pods left until now, those that are gone included."""
        self._look(everything=True)
        with self._lock:
            own = list(self._found.items())
            earlier = [self._earlier(key, container) for key, container in own]
            found = [*(container for _, container in own), *earlier]
            return files.Collected(found, list(self._problems))

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        self._thread.join(timeout=_FETCH)

    def _watch(self) -> None:
        while not self._closed.wait(_INTERVAL):
            self._look(everything=False)

    def _earlier(self, key: tuple[str, str], container: files.Container) -> files.Container:
        """What stands for instances of a container that were killed before it was restarted.

        All have one directory; so fewer files than instances say it, and nothing but the start of
        a program is known of it then. Without such a loss it has no files.
        """
        over = key[0] in self._ended or key[0] not in self._present
        instances = self._restarts.get(key, 0) + over
        written = sum(bool(files.COUNTERS.fullmatch(name)) for name in container.files)
        lost = 0 < written < instances
        return files.Container(
            id=f"{key[0]}/{key[1]}",
            node=container.node,
            namespace=container.namespace,
            pod=container.pod,
            name=f"{container.name}, before a restart",
            files={
                name: content
                for name, content in container.files.items()
                if lost and files.META.fullmatch(name)
            },
        )

    def _look(self, *, everything: bool) -> None:
        """Read the pods that end, those that were never read, or all."""
        try:
            pods = self._api.list("v1", "Pod", None, LABEL)
        except KindCovError:
            return  # it is asked again soon
        with self._lock:
            self._present = {pod["metadata"]["uid"] for pod in pods}
            for pod in pods:
                for status in container_statuses(pod):
                    key = pod["metadata"]["uid"], status["name"]
                    self._restarts[key] = max(
                        self._restarts.get(key, 0), status.get("restartCount", 0)
                    )
        wanted = [
            pod
            for pod in pods
            if pod["metadata"]["uid"] not in self._ended
            and _names(pod)
            and _sidecar_runs(pod)
            and (everything or pod["metadata"]["uid"] not in self._read or _may_end(pod))
        ]
        if wanted:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(self._take, wanted))

    def _take(self, pod: Object) -> None:
        metadata = pod["metadata"]
        where = metadata["namespace"], metadata["name"], SIDECAR
        try:
            command = ["sh", "-c", _ARCHIVE]
            archive = self._api.fetch(where, command, limit=_MAX_ARCHIVE, timeout=_FETCH)
            if self._keep(pod, archive):
                self._api.fetch(where, ["sh", "-c", _RELEASE], limit=1, timeout=_FETCH)
        except KindCovError:
            return  # it is gone, or not yet there: the next look shows it

    def _keep(self, pod: Object, archive: bytes) -> bool:
        """Take a pod's files; whether all its containers have ended."""
        metadata = pod["metadata"]
        identities = {
            status["name"]: str(status.get("containerID") or "").rpartition("/")[2]
            for status in container_statuses(pod)
        }
        images = {
            each["name"]: full_name(str(each["image"]))
            for kind in ("initContainers", "containers")
            for each in pod["spec"].get(kind) or []
        }
        names = _names(pod)
        with self._lock:
            own = [
                self._found.setdefault(
                    (metadata["uid"], name),
                    files.Container(
                        id="",
                        node=pod["spec"].get("nodeName", ""),
                        namespace=metadata["namespace"],
                        pod=metadata["name"],
                        name=name,
                        image=images.get(name, ""),
                    ),
                )
                for name in names
            ]
            for container in own:
                container.id = identities.get(container.name) or container.id
            ended = _unpack(archive, own, self._problems)
            self._read.add(metadata["uid"])
            if ended:
                self._ended.add(metadata["uid"])
        return ended


def _unpack(archive: bytes, containers: list[files.Container], problems: list[str]) -> bool:
    """Take the files of a pod's containers, nothing trusted; whether it says that they ended."""
    ended = False
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                ended = ended or member.name == ENDED
                number, _, name = member.name.partition("/")
                if not (files.META.fullmatch(name) or files.COUNTERS.fullmatch(name)):
                    continue
                if not number.isdigit() or int(number) >= len(containers):
                    continue
                container = containers[int(number)]
                if not member.isreg() or member.size > files.MAX_FILE:
                    problem = f"{container.title}: {name} is not a coverage file, skipped"
                    problems += [problem] if problem not in problems else []
                elif name in container.files or len(container.files) < files.MAX_FILES:
                    content = tar.extractfile(member)
                    container.files[name] = content.read() if content else b""
                else:
                    problem = f"{container.title}: files skipped, more than is plausible"
                    problems += [problem] if problem not in problems else []
    except (tarfile.TarError, EOFError):
        return False  # cut off: it changed while it was read
    return ended


def _names(pod: Object) -> list[str]:
    """The containers whose files there are; none for a pod that is not as we made it."""
    try:
        names = json.loads(pod["metadata"]["annotations"][CONTAINERS])
    except (KeyError, TypeError, ValueError):
        return []
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else []


def _sidecar_runs(pod: Object) -> bool:
    return any(
        status["name"] == SIDECAR and "running" in (status.get("state") or {})
        for status in container_statuses(pod)
    )


def _may_end(pod: Object) -> bool:
    doomed = "deletionTimestamp" in pod["metadata"]
    return doomed or pod["spec"]["restartPolicy"] != "Always"
