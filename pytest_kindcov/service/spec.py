"""What a conftest says of a service."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_kindcov.errors import ManifestError
from pytest_kindcov.service.image import last_name


@dataclass(frozen=True)
class ServiceSpec:
    """One `go_service(...)`, as plain values: it crosses from xdist workers to the controller."""

    directory: str
    """Directory of the conftest; relative paths are looked up from here upwards."""
    package: str = ""
    manifests: tuple[str, ...] = ()
    chart: str = ""
    """A Helm chart: a directory, or a packed one."""
    values: tuple[str | dict[str, Any], ...] = ()
    """The chart's: files and values, the later over the earlier."""
    release: str = ""
    """The chart's release; default: the chart's name."""
    call: str = ""
    """`FILE::NAME` of a function that gives the manifests, or deploys by itself."""
    image: str = ""
    port: int | None = None
    name: str = ""
    namespace: str = ""
    coverpkg: tuple[str, ...] = ()
    build_flags: tuple[str, ...] = ()
    build_env: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    dockerfile: str = ""
    timeout: float = 120.0
    """Seconds for the rollout."""
    per_worker: bool = False
    """Whether each xdist worker gets an instance of its own."""
    worker: str = ""
    """The xdist worker whose instance this is, such as `gw0`; empty for one that all share."""
    others: tuple[str, ...] = ()
    """Images, else names, of other services that have the same manifests: what is theirs."""

    def for_worker(self, worker: str) -> ServiceSpec:
        """The spec of a worker's own instance; the spec itself when all workers share one."""
        return replace(self, worker=worker) if self.per_worker else self

    @property
    def key(self) -> str:
        """Identity of the service within the run: equal specs are one service."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """The service's name: given, or the last element of its package, or its image's."""
        if self.name:
            return self.name
        if self.package:
            parts = [p for p in self.package.removesuffix("/").split("/") if p not in ("", ".")]
            if parts and parts[-1].endswith(".go"):
                parts.pop()
            if parts and _is_major(parts[-1]) and len(parts) > 1:
                parts.pop()
            if parts and parts[-1] != "..":
                return parts[-1]
            return Path(self.directory, self.package).resolve().name
        return last_name(self.image) or "service"

    @property
    def label(self) -> str:
        """The title, with the worker whose instance it is: `orders (gw0)`."""
        return f"{self.title} ({self.worker})" if self.worker else self.title

    @property
    def home(self) -> str:
        """The namespace of objects that name none."""
        return self.namespace or "default"

    @property
    def source(self) -> tuple[object, ...]:
        """Where its manifests are from: equal for services that share them."""
        return (
            self.directory,
            self.manifests,
            self.chart,
            self.release,
            self.call,
            self.namespace,
            self.per_worker,
        )

    def to_json(self) -> str:
        """The spec as JSON text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ServiceSpec:
        """The spec that `to_json` wrote."""
        values = json.loads(text)
        for name in ("manifests", "values", "coverpkg", "build_flags", "others"):
            values[name] = tuple(values[name])
        return cls(**values)

    def directory_of_package(self, rootdir: Path) -> Path | None:
        """The directory that `package` names; None for an import path.

        Go wants `./` before a directory. People leave it out, so what is a directory of Go files
        from here is taken as that: import paths begin with a host name, which none is.

        Raises:
            ManifestError: it begins as a directory does, and there is none.

        """
        if self.package.startswith((".", "/")):
            found = self.find(self.package, rootdir)
            return found if found.is_dir() else found.parent
        with contextlib.suppress(ManifestError):
            found = self.find(self.package, rootdir)
            if found.is_dir() and any(found.glob("*.go")):
                return found
        return None

    def find(self, path: str, rootdir: Path) -> Path:
        """Find a file or directory of the repository.

        It is looked up from the conftest's directory upwards to the root directory, as a conftest
        in `tests/e2e/` names `./cmd/orders` of the repository.

        Args:
            path: absolute, or relative to one of these directories.
            rootdir: pytest's root directory; the search ends there.

        Raises:
            ManifestError: with the directories that were searched.

        """
        start = Path(self.directory)
        if Path(path).is_absolute():
            places = [Path("/")]
        elif rootdir in (start, *start.parents):
            places = [p for p in (start, *start.parents) if p == rootdir or rootdir in p.parents]
        else:
            places = [start]
        for place in places:
            if (place / path).exists():
                return (place / path).resolve()
        raise ManifestError(
            f"service {self.title}: {path} does not exist",
            cause="looked in " + ", ".join(str(place) for place in places),
            remedy=_near(path, places) or "correct the path in go_service(...)",
            slug="path-missing",
        )


def _near(path: str, places: list[Path]) -> str:
    import difflib

    wanted = Path(path)
    for place in places:
        parent = (place / wanted).parent
        if parent.is_dir():
            names = [entry.name for entry in parent.iterdir()]
            close = difflib.get_close_matches(wanted.name, names, n=1)
            if close:
                return f"did you mean {Path(path).parent / close[0]}?"
    return ""


def _is_major(part: str) -> bool:
    return part.startswith("v") and part[1:].isdigit()
