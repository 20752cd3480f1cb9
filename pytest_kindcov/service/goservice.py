"""The handle of a running service, as tests get it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pytest_kindcov.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.execute import Executed

T = TypeVar("T")

_PLAIN = (
    "name",
    "namespace",
    "host",
    "port",
    "scheme",
    "worker",
    "protocols",
    "image",
    "workloads",
)


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
    """A running service, as tests see it.

    What its methods do to pods is the test's own doing: they return when it is done, and what the
    pods ran until their end stands under the test.
    """

    name: str
    namespace: str
    """Where its pods are; with `per_worker` the worker's own, such as `shop-gw0`."""
    host: str
    """Address to connect to; empty when no port was given."""
    port: int
    """Of `host`, for all of `protocols`."""
    scheme: str = "http"
    worker: str = ""
    """The xdist worker whose own instance this is; empty for one that all share."""
    protocols: tuple[str, ...] = ("TCP",)
    """Those of the port, of `TCP` and `UDP`, as the Service of its manifests says."""
    image: str = ""
    """Full name of the image that its containers run."""
    workloads: tuple[tuple[str, str, str], ...] = ()
    """Namespace, kind and name of each workload that runs the image."""
    live: Callable[[str, str], Coverage] | None = field(default=None, compare=False, repr=False)
    """Tells what a service (name, namespace) ran so far; None without coverage."""
    connect: Callable[[], Api] | None = field(default=None, compare=False, repr=False)
    """Gives a client of the cluster."""

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

    def restart(self, *, timeout: float = 120.0) -> None:
        """End all its pods gracefully, and wait until as many new ones are ready and answer.

        They answer at `url`. Other programs of the cluster reach them by their Service within a
        second: wait for what these do.

        Raises:
            DeployError: a pod has no controller that makes it anew, or they were not ready within
                `timeout` seconds.

        """
        from pytest_kindcov.service import control

        control.restart(self._api(), self, timeout)

    def scale(self, replicas: int, *, workload: str = "", timeout: float = 120.0) -> None:
        """Have so many pods, and wait until there are just these, ready.

        Args:
            replicas: how many; 0 ends all of them.
            workload: name of the Deployment, StatefulSet or ReplicaSet, where there are several.
            timeout: seconds.

        Raises:
            DeployError: it has no such workload, or it took longer.

        """
        from pytest_kindcov.service import control

        control.scale(self._api(), self, replicas, workload, timeout)

    def logs(self, *, tail: int | None = None, container: str = "", previous: bool = False) -> str:
        """What its containers logged, the oldest pod first.

        Where there are several containers each line begins with `[POD/CONTAINER] `.

        Args:
            tail: so many last lines of each; default: all.
            container: of this name; default: those that run the service's image.
            previous: of the containers' runs before the last restart.

        """
        from pytest_kindcov.service import control

        return control.logs(self._api(), self, tail, container, previous)

    def exec(
        self,
        command: Sequence[str],
        *,
        container: str = "",
        timeout: float = 30.0,
        check: bool = True,
    ) -> Executed:
        """Run a command in the oldest ready pod; there is no shell but the image's.

        Args:
            command: the program and its arguments.
            container: default: the first that runs the service's image.
            timeout: seconds.
            check: whether an exit code other than 0 raises.

        Returns:
            `stdout`, `stderr` and `code`.

        Raises:
            DeployError: no pod is ready, the program is not in the image, it failed, or it ran
                longer than `timeout`.

        """
        from pytest_kindcov.service import control

        return control.execute(self._api(), self, command, container, timeout, check=check)

    def wait(
        self,
        condition: Callable[[], T | None],
        *,
        timeout: float = 30.0,
        interval: float = 0.1,
        what: str = "",
    ) -> T:
        """Call `condition` until it returns something true, and return that.

        An exception counts as not yet: `orders.wait(lambda: paid(orders.url))`.

        Args:
            condition: what is waited for; it should end by itself.
            timeout: seconds.
            interval: seconds between two calls.
            what: in words, for the error.

        Raises:
            DeployError: not within `timeout`; shows what `condition` gave last, and what the pods
                do.

        """
        from pytest_kindcov.service import control

        return control.wait(
            self._api(), self, condition, timeout=timeout, interval=interval, what=what
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the way to the workers."""
        return {name: getattr(self, name) for name in _PLAIN}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GoService:
        """The handle that `to_dict` wrote."""
        workloads = tuple((str(a), str(b), str(c)) for a, b, c in values["workloads"])
        return cls(**{**values, "protocols": tuple(values["protocols"]), "workloads": workloads})

    def _api(self) -> Api:
        if self.connect is None:
            raise ManifestError(
                f"service {self.name} is not on a cluster",
                remedy="take it as a fixture that go_service(...) made",
                slug="service-without-cluster",
            )
        return self.connect()
