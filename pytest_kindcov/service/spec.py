"""What a conftest says of a service, and the handle that its tests get."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kindcov.errors import ManifestError
from pytest_kindcov.service.image import last_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class ServiceSpec:
    """One `go_service(...)`, as plain values: it crosses from xdist workers to the controller."""

    directory: str
    """Directory of the conftest; relative paths are looked up from here upwards."""
    package: str = ""
    manifests: tuple[str, ...] = ()
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

    def to_json(self) -> str:
        """The spec as JSON text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ServiceSpec:
        """The spec that `to_json` wrote."""
        values = json.loads(text)
        for name in ("manifests", "coverpkg", "build_flags"):
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


class Coverage(Protocol):
    """What ran so far."""

    @property
    def statements(self) -> int:
        """How many there are."""

    @property
    def covered(self) -> int:
        """How many of them were run."""

    @property
    def percent(self) -> str:
        """Such as `83.6%`."""

    @property
    def packages(self) -> Sequence[Any]:
        """By package: `name`, `statements`, `covered`, `percent`."""


@dataclass(frozen=True)
class GoService:
    """A running service, as tests see it."""

    name: str
    namespace: str
    """Where its pods are; with `per_worker` the worker's own, such as `shop-gw0`."""
    host: str
    """Address to connect to; empty when no port was given."""
    port: int
    scheme: str = "http"
    worker: str = ""
    """The xdist worker whose own instance this is; empty for one that all share."""
    live: Callable[[str, str], Coverage] | None = field(default=None, compare=False, repr=False)
    """Tells what a service (name, namespace) ran so far; None without coverage."""

    def coverage(self) -> Coverage:
        """What the service ran so far, in statements by package.

        Raises:
            ManifestError: the run is without coverage.

        """
        if self.live is None:
            raise ManifestError(
                f"service {self.name} has no coverage",
                remedy="run pytest with --kind-coverage",
                slug="coverage-off",
            )
        return self.live(self.name, self.namespace)

    @property
    def url(self) -> str:
        """Base URL without a trailing slash, such as `http://10.89.0.5:30211`.

        It stays the same when pods are restarted or replaced.
        """
        if not self.host:
            raise ManifestError(
                f"service {self.name} has no URL",
                cause="no port was given, and no Service of its manifests names just one",
                remedy="say go_service(..., port=...)",
                slug="service-without-port",
            )
        return f"{self.scheme}://{self.host}:{self.port}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the way to the workers."""
        names = ("name", "namespace", "host", "port", "scheme", "worker")
        return {name: getattr(self, name) for name in names}
