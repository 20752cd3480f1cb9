"""A service, from its spec to its URL; the building goes on while the cluster is being made."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindcov.cluster.node import Node, on_all
from pytest_kindcov.errors import CommandError
from pytest_kindcov.service import build, deploy, dockerfile, forward, image, manifests

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindcov.cluster.api import Api
    from pytest_kindcov.cluster.engine import Engine
    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.service.manifests import Manifests
    from pytest_kindcov.service.spec import GoService, ServiceSpec


@dataclass(frozen=True)
class Provider:
    """Provides services on one cluster."""

    rootdir: Path
    scratch: Path
    """Private directory for programs and archives."""
    coverage: bool
    kubectl: str
    """Path of kubectl that the user named, or empty."""
    engine: Callable[[], Engine]
    cluster: Callable[[], KindCluster]
    """Waits until the cluster is made."""
    booted: Callable[[], list[Node]]
    """Waits until nodes can take images, well before the cluster is made; may know of none."""
    api: Callable[[], Api]
    tell: Callable[[str], None]
    cancel: threading.Event

    def provide(self, spec: ServiceSpec) -> tuple[GoService, str]:
        """Build, load and deploy a service and wait until it answers.

        Returns:
            The handle, and the full name of its image.

        Raises:
            KindCovError: what is wrong with it.

        """
        begin = time.monotonic()
        loaded = manifests.load(spec, rootdir=self.rootdir, kubectl=self._kubectl)
        reference = image.full_name(loaded.image)
        load = self._build(spec, loaded, reference)
        if spec.package or spec.dockerfile:
            self.tell(f"{spec.title}: built in {time.monotonic() - begin:.1f} s")
        load()
        cluster = self.cluster()
        begin = time.monotonic()
        manifests.prepare(loaded, spec)
        api = self.api()
        workloads = deploy.apply(api, loaded.objects, spec, cancel=self.cancel)
        port = forward.expose(api, loaded, spec, cluster.forwarded)
        deploy.wait_ready(
            api, workloads, service=spec.title, timeout=spec.timeout, cancel=self.cancel
        )
        service = forward.connect(api, cluster.nodes, loaded, spec, port, cancel=self.cancel)
        self.tell(f"{spec.title}: deployed in {time.monotonic() - begin:.1f} s")
        return service, reference

    def _build(self, spec: ServiceSpec, loaded: Manifests, reference: str) -> Callable[[], None]:
        """Build the image and return what loads it into the nodes, waiting for them."""
        if spec.dockerfile:
            built = dockerfile.build(
                spec,
                self.engine(),
                rootdir=self.rootdir,
                scratch=self.scratch,
                coverage=self.coverage,
                cancel=self.cancel,
            )
            return lambda: self._load_built(built, reference)
        if spec.package:
            archive = self._archive(spec, loaded)
            return lambda: self._load_archive(archive)
        return lambda: self._load_present(reference)

    def _archive(self, spec: ServiceSpec, loaded: Manifests) -> Path:
        arch = self.engine().architecture()
        program = self.scratch / f"{spec.key}.program"
        archive = self.scratch / f"{spec.key}.tar"
        build.build(
            spec,
            rootdir=self.rootdir,
            output=program,
            arch=arch,
            coverage=self.coverage,
            cancel=self.cancel,
        )
        image.write_archive(
            archive,
            program=program,
            reference=loaded.image,
            name=spec.title,
            arch=arch,
            extra_paths=loaded.program_paths(),
            user=image.NONROOT if loaded.needs_nonroot() else 0,
        )
        program.unlink()
        return archive

    def _load_archive(self, archive: Path) -> None:
        """Load an archive, into most nodes while kind still waits for Kubernetes."""
        early = self.booted()
        try:
            on_all(early, lambda node: node.load(archive))
        except CommandError:
            early = []  # kind may restart containerd: it is loaded again
        late = [node for node in self.cluster().nodes if node not in early]
        on_all(late, lambda node: node.load(archive))
        archive.unlink()

    def _load_built(self, built: str, reference: str) -> None:
        cluster = self.cluster()
        cluster.load_docker_image(built)
        on_all(cluster.nodes, lambda node: node.rename(built, reference))
        cluster.engine.untag(built)

    def _load_present(self, reference: str) -> None:
        """Load an image that the engine has; others are on the nodes, or the kubelet pulls them."""
        cluster = self.cluster()
        if cluster.engine.has_image(reference):
            cluster.load_docker_image(reference)

    def _kubectl(self) -> list[str]:
        """The host's kubectl; without one, the node's serves as soon as the cluster is there."""
        found = manifests.host_kubectl(self.kubectl)
        if found:
            return found
        cluster = self.cluster()
        cluster.ensure_kubectl()
        return [str(cluster.kubectl_path)]
