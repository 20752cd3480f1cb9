"""One context of the user's kubeconfigs, as a kubeconfig of its own: theirs are never changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from pytest_kindcov.errors import ClusterError

_KINDS = ("contexts", "clusters", "users")
# Paths in a kubeconfig count from its own directory.
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def places(named: str = "") -> str:
    """The user's kubeconfigs: absolute paths, parted as KUBECONFIG parts them.

    Args:
        named: the one that was named for this run, if any.

    """
    paths = named or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return os.pathsep.join(
        str(Path(path).expanduser().absolute()) for path in paths.split(os.pathsep) if path
    )


def extract(context: str, paths: str, target: Path) -> None:
    """Write a kubeconfig that has just one context, with mode 0600.

    Args:
        context: its name.
        paths: of `places`; the first that has a name counts.
        target: the file.

    Raises:
        ClusterError: there is no such context, or a file cannot be read.

    """
    found: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    for text in filter(None, paths.split(os.pathsep)):
        for kind, name, values in _entries(Path(text)):
            found[kind].setdefault(name, values)
    chosen = found["contexts"].get(context)
    if chosen is None:
        raise ClusterError(
            f"there is no context {context}",
            cause=f"{paths} has " + (", ".join(sorted(found["contexts"])) or "none"),
            remedy="name one of these, or another kubeconfig in KUBECONFIG",
            slug="context-missing",
        )
    lacking = [
        f"{kind[:-1]} {chosen.get(kind[:-1])}"
        for kind in ("clusters", "users")
        if chosen.get(kind[:-1]) not in found[kind]
    ]
    if lacking:
        raise _unreadable(paths, f"its context {context} names {' and '.join(lacking)}, not there")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [{"name": context, "context": chosen}],
    } | {
        kind: [{"name": chosen[kind[:-1]], kind[:-1]: found[kind][chosen[kind[:-1]]]}]
        for kind in ("clusters", "users")
    }
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
        yaml.safe_dump(config, file)


def _entries(path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Kind, name and values of all that a kubeconfig has; none where there is no file."""
    try:
        config = yaml.safe_load(path.read_text()) or {}
        return [
            (kind, entry["name"], _absolute(entry.get(kind[:-1]) or {}, path.parent))
            for kind in _KINDS
            for entry in config.get(kind) or []
        ]
    except FileNotFoundError:
        return []
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(str(path), " ".join(str(error).split())[:200]) from error


def _absolute(values: dict[str, Any], directory: Path) -> dict[str, Any]:
    values = values | {key: str(directory / values[key]) for key in _PATHS if values.get(key)}
    plugin = values.get("exec")
    if plugin and os.sep in plugin.get("command", ""):  # else it is on PATH
        values["exec"] = plugin | {"command": str(directory / plugin["command"])}
    return values


def _unreadable(paths: str, cause: str) -> ClusterError:
    return ClusterError(
        f"the kubeconfig {paths} cannot be used",
        cause=cause,
        remedy="does `kubectl config view` read it?",
        slug="kubeconfig-unusable",
    )
