"""Helm's hooks: what a chart runs before and after it is installed, as `helm install` does.

`pre-install` hooks run before the rest, `post-install` hooks after it is ready; each by weight,
and a Job or a Pod to its end. Those for upgrades, rollbacks, deletion and `helm test` are left
out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kindcov.cluster.api import Object

_HOOK = "helm.sh/hook"
_WEIGHT = "helm.sh/hook-weight"
_POLICY = "helm.sh/hook-delete-policy"
_DEFAULT_POLICY = "before-hook-creation"


@dataclass
class Phases:
    """A service's objects by when they are applied."""

    before: list[Object] = field(default_factory=list)
    main: list[Object] = field(default_factory=list)
    after: list[Object] = field(default_factory=list)


def phases(objects: list[Object]) -> Phases:
    """Sort objects by their hooks; those of one phase by weight, kind and name, as Helm does."""
    found = Phases()
    for obj in objects:
        events = _words(obj, _HOOK)
        if not events or "crd-install" in events:
            found.main.append(obj)
        if "pre-install" in events:
            found.before.append(obj)
        if "post-install" in events:
            found.after.append(obj)
    for hooks in (found.before, found.after):
        hooks.sort(key=lambda obj: (_weight(obj), obj["kind"], obj["metadata"]["name"]))
    return found


def installed(objects: list[Object]) -> list[Object]:
    """The objects without hooks that an installation does not run."""
    found = phases(objects)
    ran = {id(obj) for obj in [*found.before, *found.main, *found.after]}
    return [obj for obj in objects if id(obj) in ran]


def policies(hook: Object) -> set[str]:
    """When a hook's object is deleted, in Helm's words."""
    return _words(hook, _POLICY) or {_DEFAULT_POLICY}


def _words(obj: Object, name: str) -> set[str]:
    text = str((obj["metadata"].get("annotations") or {}).get(name) or "")
    return {word.strip() for word in text.split(",")} - {""}


def _weight(obj: Object) -> int:
    for word in _words(obj, _WEIGHT):
        try:
            return int(word)
        except ValueError:
            break
    return 0
