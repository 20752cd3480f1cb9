"""What a run changes on a cluster that is not its own, so that it can be given back as it was.

Each thing is noted before it is changed, also in a file: should the run be killed, another one, or
`kindcov doctor --remove`, gives the cluster back.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.api import Outdated, UnknownKind, title
from pytest_kindcov.errors import ClusterError, KindCovError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.cluster.node import Node

# Seconds. A namespace takes five after its objects; a pod its grace period.
_GONE = 60.0
_LOOK = 0.2
_TRIES = 20
_VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")
# Groups of Kubernetes itself, besides those that end with .k8s.io.
_OWN_GROUPS = ("", "apps", "batch", "autoscaling", "policy")

Entry = dict[str, Any]
"""`object` (apiVersion, kind, name, namespace) or `image` (node, reference), and what was `before`:
the whole object (`sets`: names of a Deployment's ReplicaSets), or the image's id; None and "" where
there was nothing."""


class Ledger:
    """The notes of one run. For several threads at once.

    Args:
        path: the file.
        entries: what is noted already.

    """

    def __init__(self, path: Path, entries: Sequence[Entry] = ()) -> None:
        self._path = path
        self._entries = list(entries)
        self._known = {_identity(entry) for entry in entries}
        self._lock = threading.Lock()
        self._write("")  # from now on the cluster is to be given back

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """The ledger of a run that was killed; a last line that is cut off was not yet acted on."""
        entries = []
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    entries.append(json.loads(line))
        return cls(path, entries)

    def applying(self, api: Api, obj: Object, namespace: str) -> None:
        """An object is about to be applied."""
        metadata = obj["metadata"]
        named = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": metadata["name"],
            "namespace": namespace,
        }
        with self._lock:
            if _identity({"object": named}) in self._known:
                return
            before = api.get(obj["apiVersion"], obj["kind"], metadata["name"], namespace)
            sets = [] if before is None else [its["name"] for its in _sets(api, before)]
            self._note({"object": named, "before": before, "sets": sets})

    def loading(self, node: Node, reference: str, before: str) -> None:
        """An image is about to be loaded into a node where its name stood for another, or none."""
        with self._lock:
            entry = {"image": {"node": node.name, "reference": reference}, "before": before}
            if _identity(entry) not in self._known:
                self._note(entry)

    def give_back(self, api: Api, nodes: Sequence[Node]) -> list[str]:
        """Make everything what it was: images first, for the pods that come back run them.

        Returns:
            What could not be given back, and why.

        """
        problems: list[str] = []
        by_name = {node.name: node for node in nodes}
        for entry in self._entries:
            image = entry.get("image")
            if image and image["node"] in by_name:
                with _noted(problems, f"image {image['reference']} on {image['node']}"):
                    by_name[image["node"]].restore(image["reference"], entry["before"])
        objects = [entry for entry in reversed(self._entries) if "object" in entry]
        for entry in objects:
            if entry["before"] is not None:
                with _noted(problems, _title(entry)):
                    _put_back(api, entry)
        for entry in objects:
            if entry["before"] is not None:
                with _noted(problems, _title(entry)):
                    _forget_sets(api, entry)
        new = [entry for entry in objects if entry["before"] is None]
        # Their controllers must still run, to end what has finalizers.
        own = [entry for entry in new if _is_custom(entry["object"])]
        for part in (own, [entry for entry in new if entry not in own]):
            problems += _remove(api, part)
        return problems

    def _note(self, entry: Entry) -> None:
        self._known.add(_identity(entry))
        self._entries.append(entry)
        self._write(json.dumps(entry, default=str) + "\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # then nobody can give it back in this run's stead
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with open(os.open(self._path, flags, 0o600), "a") as file:  # noqa: PTH123
                file.write(text)

    def close(self) -> None:
        """Forget it: the cluster was given back."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def _identity(entry: Entry) -> tuple[str, ...]:
    image = entry.get("image")
    if image:
        return "image", image["node"], image["reference"]
    named = entry["object"]
    group = named["apiVersion"].rpartition("/")[0]
    return group, named["kind"], named["namespace"], named["name"]


def _title(entry: Entry) -> str:
    named = entry["object"]
    return title({"kind": named["kind"], "metadata": named})


def _is_custom(named: Object) -> bool:
    group = named["apiVersion"].rpartition("/")[0]
    own = group in _OWN_GROUPS or group.endswith(".k8s.io")
    return named["kind"] == "CustomResourceDefinition" or not own


@contextlib.contextmanager
def _noted(problems: list[str], what: str) -> Any:
    """Go on with the next thing after an error, and say which was not given back."""
    try:
        yield
    except KindCovError as error:
        problems.append(f"{what} was not given back as it was: {error.headline}")


def _get(api: Api, named: Object) -> Object | None:
    return api.get(named["apiVersion"], named["kind"], named["name"], named["namespace"])


def _put_back(api: Api, entry: Entry) -> None:
    """Make an object what it was; the pods of one that did not change run our image: they go."""
    before, named = entry["before"], entry["object"]
    now = _get(api, named)
    if now is not None and named["kind"] in ("Pod", "Job"):
        _delete(api, named)
        _wait_gone(api, [named])
        now = None
    if now is None:
        api.create(_plain(before))
        api.own(before)
        return
    _replace(api, before, now)
    api.own(before)
    spec = before.get("spec") or {}
    selector = (spec.get("selector") or {}).get("matchLabels")
    if selector and spec.get("template") and spec["template"] == now["spec"].get("template"):
        for pod in api.list("v1", "Pod", named["namespace"], _selector(selector)):
            api.delete("v1", "Pod", pod["metadata"]["name"], named["namespace"])


def _replace(api: Api, before: Object, now: Object) -> None:
    """Replace an object; controllers write to it as well, such as its status."""
    for left in reversed(range(_TRIES)):
        version = now["metadata"]["resourceVersion"]
        try:
            api.replace({**before, "metadata": {**before["metadata"], "resourceVersion": version}})
        except Outdated:
            metadata = before["metadata"]
            where = metadata["name"], metadata.get("namespace") or ""
            again = api.get(before["apiVersion"], before["kind"], *where)
            if not left or again is None:
                raise
            now = again
        else:
            return


def _sets(api: Api, obj: Object) -> list[Object]:
    """The metadata of a Deployment's ReplicaSets: one for each shape that it had."""
    if obj["kind"] != "Deployment":
        return []
    return [
        each["metadata"] | {"pods": each["spec"].get("replicas") or each["status"].get("replicas")}
        for each in api.list("apps/v1", "ReplicaSet", obj["metadata"]["namespace"])
        if any(
            owner["uid"] == obj["metadata"]["uid"]
            for owner in each["metadata"].get("ownerReferences") or []
        )
    ]


def _forget_sets(api: Api, entry: Entry) -> None:
    """Remove the ReplicaSets of a Deployment's shapes in between, as soon as they are empty."""

    def forgotten() -> bool:
        now = _get(api, entry["object"])
        ours = (
            [each for each in _sets(api, now) if each["name"] not in entry["sets"]] if now else []
        )
        for each in ours:
            if not each["pods"]:
                api.delete("apps/v1", "ReplicaSet", each["name"], each["namespace"])
        return not ours

    wait_until(
        forgotten,
        what="the end of the pods that ran meanwhile",
        timeout=_GONE,
        interval=_LOOK,
        slug="old-pod-stays",
        error=ClusterError,
    )


def _plain(obj: Object) -> Object:
    """An object without what the API server gave it."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _VOLATILE}
    plain = {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}
    spec = plain.get("spec")
    if obj["kind"] == "Pod" and spec:
        plain["spec"] = {key: value for key, value in spec.items() if key != "nodeName"}
    if obj["kind"] == "Job" and spec and not spec.get("manualSelector"):
        drop = ("controller-uid", "batch.kubernetes.io/controller-uid")
        template = spec["template"]
        labels = (template.get("metadata") or {}).get("labels") or {}
        kept = {key: value for key, value in labels.items() if key not in drop}
        named = {**(template.get("metadata") or {}), "labels": kept}
        plain["spec"] = {key: value for key, value in spec.items() if key != "selector"} | {
            "template": {**template, "metadata": named}
        }
        metadata["labels"] = {
            key: value for key, value in (metadata.get("labels") or {}).items() if key not in drop
        }
    return plain


def _selector(labels: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _delete(api: Api, named: Object) -> None:
    api.delete(named["apiVersion"], named["kind"], named["name"], named["namespace"])


def _remove(api: Api, entries: Sequence[Entry]) -> list[str]:
    """Delete objects, and wait until they are gone."""
    problems: list[str] = []
    deleted = []
    for entry in entries:
        with _noted(problems, _title(entry)):
            _delete(api, entry["object"])
            deleted.append(entry["object"])
    return problems + [
        f"{_title({'object': named})} was deleted, but is not gone yet"
        for named in _wait_gone(api, deleted)
    ]


def _wait_gone(api: Api, objects: Sequence[Object]) -> list[Object]:
    """Wait until objects are gone; those that are not."""
    deadline = time.monotonic() + _GONE
    left = list(objects)
    while True:
        left = [named for named in left if _is_there(api, named)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(_LOOK)


def _is_there(api: Api, named: Object) -> bool:
    try:
        return _get(api, named) is not None
    except UnknownKind:
        return False  # its definition is gone
