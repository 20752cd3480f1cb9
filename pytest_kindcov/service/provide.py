"""A service, from its spec to its URL; the building goes on while the cluster is being made."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_kindcov._wait import wait_until
from pytest_kindcov.cluster.node import Node, on_all
from pytest_kindcov.errors import CommandError, DeployError
from pytest_kindcov.service import (
    build,
    callables,
    deploy,
    dockerfile,
    forward,
    found,
    hooks,
    image,
    jobs,
    manifests,
    patching,
    programs,
    rollout,
    sources,
    workers,
)
from pytest_kindcov.service.once import Claims, Once

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.cluster.engine import Engine
    from pytest_kindcov.cluster.kind import KindCluster
    from pytest_kindcov.service.goservice import GoService
    from pytest_kindcov.service.manifests import Manifests
    from pytest_kindcov.service.spec import ServiceSpec


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
    deploying: Callable[[deploy.Deployed], None]
    """Called before anything of a service is applied."""
    tell: Callable[[str], None]
    phase: Callable[[str, float], None]
    """Told of what ends, by name, and when it began (`time.monotonic`)."""
    cancel: threading.Event
    kept: Callable[[], Path] | None = None
    """The directory in which programs stay between runs; without it they do not."""
    once: Once = field(default_factory=Once)
    claims: Claims = field(default_factory=Claims)

    def provide(self, spec: ServiceSpec) -> tuple[GoService, deploy.Deployed]:
        """Build, load and deploy a service, or a worker's instance, and wait until it answers.

        What instances have in common is done once: the build, the loading, cluster-wide objects.

        Returns:
            The handle, and what the harvest knows of it.

        Raises:
            KindCovError: what is wrong with it.

        """
        # Everybody's manifests are one worker's; each instance changes a copy.
        loaded = copy.deepcopy(
            self.once(
                f"manifests {replace(spec, worker='').key}",
                lambda: manifests.load(
                    spec, rootdir=self.rootdir, scratch=self.scratch, kubectl=self._kubectl
                ),
            )
        )
        self._provide_image(spec, loaded)
        cluster = self.cluster()
        begin = time.monotonic()
        api = self.api()
        if spec.call:
            loaded, spec = self._call(api, loaded, spec)
        elif spec.worker:
            loaded, shared, spec = workers.move(loaded, spec, api.namespaced)
            deploy.apply(
                api, shared, replace(spec, namespace=""), once=self.once, cancel=self.cancel
            )
        manifests.prepare(loaded, spec)
        if cluster.sidecar and self.coverage:
            patching.patch(loaded, spec, cluster.sidecar)
        deployed = deploy.Deployed.of(loaded, spec)
        self._claim(spec, loaded, deployed)
        self.deploying(deployed)
        phases = hooks.phases(loaded.objects)
        workloads = self._install(api, phases, spec)
        if not deployed.workloads:
            self._wait_ready(api, workloads, spec)
            loaded = self._found(api, loaded, spec)
            workloads = deploy.workloads(loaded.objects, spec.home)
            deployed = deploy.Deployed.of(loaded, spec)
        ports = cluster.forwarded if forward.port_target(loaded, spec) else ()
        # Old pods' addresses stay in kube-proxy's rules for a while, and lead nowhere: none may get
        # there. On a new cluster there are none, and the address is made while the pods come up.
        renewed = cluster.ledger is not None
        port = 0 if renewed else forward.expose(api, loaded, spec, ports)
        host = cluster.engine.address(cluster.entry.name)  # asked while the pods come up
        self._wait_ready(api, workloads, spec)
        port = forward.expose(api, loaded, spec, ports) if renewed else port
        for hook in phases.after:
            self._run(api, hook, spec)
        service = replace(
            forward.connect(
                api,
                cluster.nodes,
                loaded,
                spec,
                (host, port),
                entry=cluster.entry,
                cancel=self.cancel,
            ),
            image=deployed.image,
            workloads=deployed.workloads,
        )
        self.tell(f"{spec.label}: deployed in {time.monotonic() - begin:.1f} s")
        self.phase(f"deploy {spec.label}", begin)
        return service, deployed

    def _install(self, api: Api, phases: hooks.Phases, spec: ServiceSpec) -> list[deploy.Workload]:
        """Apply a service's objects, and before them what is to run first."""
        if phases.before:
            kinds = ("Namespace", "CustomResourceDefinition")
            first = [obj for obj in phases.main if obj["kind"] in kinds]
            deploy.apply(api, first, spec, once=self.once, cancel=self.cancel)
        for hook in phases.before:
            self._run(api, hook, spec)
        return deploy.apply(
            api,
            phases.main,
            spec,
            once=self.once,
            renew=self.cluster().ledger is not None,
            cancel=self.cancel,
        )

    def _run(self, api: Api, hook: Object, spec: ServiceSpec) -> None:
        """Run a hook, once for all services of its chart."""
        self.once(
            f"hook {spec.home} {deploy.text_of(hook)}",
            lambda: jobs.run(api, hook, spec, cancel=self.cancel),
        )

    def _wait_ready(self, api: Api, workloads: list[deploy.Workload], spec: ServiceSpec) -> None:
        rollout.wait_ready(
            api, workloads, service=spec.title, timeout=spec.timeout, cancel=self.cancel
        )

    def _call(
        self, api: Api, loaded: Manifests, spec: ServiceSpec
    ) -> tuple[Manifests, ServiceSpec]:
        """Have the user's function deploy a service, or give its manifests."""
        namespace = workers.instance_name(spec.home, spec.worker) if spec.worker else spec.home
        spec = replace(spec, namespace=namespace, image=loaded.image)
        deploy.apply(api, [], spec, once=self.once)
        self.deploying(deploy.Deployed.of(loaded, spec))
        target = callables.Target(
            spec.title, loaded.image, namespace, self.cluster().kubeconfig_path, spec.worker
        )
        objects = callables.call(spec, target)
        if objects is None:
            return loaded, spec
        loaded = manifests.found_in(objects, spec)
        self._provide_image(spec, loaded)  # anew, where they want the program elsewhere in it
        return loaded, spec

    def _found(self, api: Api, loaded: Manifests, spec: ServiceSpec) -> Manifests:
        """Wait for workloads of the image that no manifest names, and add them."""
        wanted = image.full_name(loaded.image)
        places: list[str | None] = [spec.home] if spec.worker else [None]

        def state() -> str:
            pods = api.list("v1", "Pod", spec.home)
            used = sorted(
                {str(c.get("image")) for pod in pods for c in manifests.all_containers(pod)}
            )
            return f"the pods of namespace {spec.home} run " + (", ".join(used) or "no image")

        live = wait_until(
            lambda: found.workloads(api, wanted, places),
            what=f"service {spec.title}: a workload that runs {loaded.image}",
            timeout=spec.timeout,
            interval=0.2,
            state=state,
            remedy="what makes it must run just this image: its own log may say why it does not",
            slug="workload-not-made",
            cancel=self.cancel,
            error=DeployError,
        )
        return replace(loaded, objects=[*loaded.objects, *live])

    def _provide_image(self, spec: ServiceSpec, loaded: Manifests) -> None:
        """Build the image and load it into the nodes, once for all that need the same."""
        reference = image.full_name(loaded.image)
        program = _program(spec, self.rootdir)
        if spec.package or spec.dockerfile:
            self.claims.claim(
                f"the image {reference}",
                program,
                spec.title,
                cause="they build different programs under one name",
                remedy="give each an image name of its own, in its manifests and in image=",
            )
        shape: list[object] = [program, reference]
        if spec.package and not spec.dockerfile:
            shape += [spec.title, loaded.program_paths(), loaded.needs_nonroot()]

        def make() -> None:
            begin = time.monotonic()
            load = self._build(spec, loaded, reference)
            if spec.package or spec.dockerfile:
                self.tell(f"{spec.title}: built in {time.monotonic() - begin:.1f} s")
                self.phase(f"build {spec.title}", begin)
            begin = time.monotonic()
            load()
            self.phase(f"load {spec.title}", begin)

        self.once(f"image {json.dumps(shape)}", make)

    def _claim(self, spec: ServiceSpec, loaded: Manifests, deployed: deploy.Deployed) -> None:
        """Take namespaces, workloads and the entry: one service must not change another's."""
        for namespace in sorted(deployed.namespaces):
            self.claims.claim(
                f"namespace {namespace}",
                spec.worker,
                spec.label,
                cause="with per_worker=True a worker's namespaces are its own",
                remedy="give one of them another namespace",
            )
        for obj, _ in manifests.templates(loaded.objects):
            where = obj["metadata"].get("namespace") or spec.home
            self.claims.claim(
                f"{obj['kind']} {where}/{obj['metadata']['name']}",
                deploy.text_of(obj),
                spec.title,
                cause="each would change what the other applied",
                remedy="let only one of them have it among its manifests, or give one namespace=",
            )
        target = forward.port_target(loaded, spec)
        if target is not None:
            self.claims.claim(
                f"the address {target.namespace}/{forward.entry_name(spec)}",
                target,
                spec.title,
                cause="they have one name, and lead to different ports or pods",
                remedy="give one of them a name of its own: go_service(..., name=...)",
            )

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
            archive, image_id = self._archive(spec, loaded)
            return lambda: self._load_archive(archive, reference, image_id)
        return lambda: self._load_present(reference, spec)

    def _archive(self, spec: ServiceSpec, loaded: Manifests) -> tuple[Path, str]:
        """The image as an archive, and its id."""
        arch = self.engine().arch
        program = self.scratch / f"{spec.key}.program"
        name = f"{_digest(_source(spec, self.rootdir))}-{arch}{'-cover' * self.coverage}"
        # Go does not see changes of C libraries (`go help cache`): then it links each time.
        place = self.kept if build.is_pure(spec) else None
        archive = self.scratch / f"{spec.key}.tar"
        with programs.earlier(program, place, name):
            build.build(
                spec,
                rootdir=self.rootdir,
                output=program,
                arch=arch,
                coverage=self.coverage,
                cancel=self.cancel,
            )
            image_id = image.write_archive(
                archive,
                program=program,
                reference=loaded.image,
                name=spec.title,
                arch=arch,
                extra_paths=loaded.program_paths(),
                user=image.NONROOT if loaded.needs_nonroot() else 0,
            )
        return archive, image_id

    def _load_archive(self, archive: Path, reference: str, image_id: str) -> None:
        """Load an archive, into most nodes while kind still waits for Kubernetes."""
        early = self.booted()
        try:
            on_all(early, lambda node: node.load(archive))
        except CommandError:
            early = []  # kind may restart containerd: it is loaded again
        late = [node for node in self._lacking(reference, image_id) if node not in early]
        on_all(late, lambda node: node.load(archive))
        self._wait_image(late, reference, image_id)
        archive.unlink()

    def _load_built(self, built: str, reference: str) -> None:
        cluster = self.cluster()
        image_id = cluster.engine.image_id(built)
        lacking = self._lacking(reference, image_id)
        cluster.load_docker_image(built, lacking)
        on_all(lacking, lambda node: node.rename(built, reference))
        self._wait_image(lacking, reference, image_id)
        cluster.engine.untag(built)

    def _load_present(self, reference: str, spec: ServiceSpec) -> None:
        """Load an image that the engine has; others are on the nodes, or the kubelet pulls them."""
        cluster = self.cluster()
        image_id = "" if cluster.refusal else cluster.engine.image_id(reference)
        if image_id:
            arch, wanted = cluster.engine.image_arch(reference), cluster.engine.arch
            if arch and wanted and arch != wanted:
                raise DeployError(
                    f"service {spec.title}: its image is for another processor",
                    cause=f"{reference} is for {arch}, and the nodes are {wanted}",
                    remedy=f"build or pull it with --platform linux/{wanted}",
                    slug="wrong-architecture",
                )
            lacking = self._lacking(reference, image_id)
            cluster.load_docker_image(reference, lacking)
            self._wait_image(lacking, reference, image_id)

    def _wait_image(self, nodes: list[Node], reference: str, image_id: str) -> None:
        """On a cluster that is not new: its nodes may have had another image of that name."""
        if not self.cluster().created:
            on_all(nodes, lambda node: node.wait_image(reference, image_id))

    def _lacking(self, reference: str, image_id: str) -> list[Node]:
        """The nodes that have another image of that name, or none: noted if it must be put back.

        Raises:
            DeployError: nodes cannot be reached.

        """
        cluster = self.cluster()
        if cluster.refusal:
            raise DeployError(
                f"the image {reference} cannot be brought to the nodes of cluster {cluster.name}",
                cause=f"no privileged pod can be made there: {cluster.refusal}",
                remedy="build it with `go build -cover`, push it to a registry that the cluster"
                " reaches, and name it alone: go_service(image=...)",
                slug="image-not-delivered",
            )
        if cluster.created:
            return cluster.nodes
        found = on_all(cluster.nodes, lambda node: node.image_id(reference))
        lacking = [pair for pair in zip(cluster.nodes, found, strict=True) if pair[1] != image_id]
        if cluster.ledger is not None:
            for node, before in lacking:
                cluster.ledger.loading(node, reference, before)
        return [node for node, _ in lacking]

    def _kubectl(self) -> list[str]:
        """The host's kubectl; without one, the node's serves as soon as the cluster is there."""
        own = sources.host_kubectl(self.kubectl)
        if own:
            return own
        cluster = self.cluster()
        cluster.ensure_kubectl()
        return [str(cluster.kubectl_path)]


def _source(spec: ServiceSpec, rootdir: Path) -> list[str]:
    """What a service's program is made from.

    Paths count as what they lead to from the conftest, so that two conftests can name one package.
    """
    if spec.dockerfile:
        return [str(spec.find(spec.dockerfile, rootdir)), spec.dockerfile]
    if spec.package:
        directory = spec.directory_of_package(rootdir)
        return [str(directory)] if directory else [spec.package, spec.directory]
    return []


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _program(spec: ServiceSpec, rootdir: Path) -> list[object]:
    """What a service's program depends on: equal for all that can share one build."""
    source = _source(spec, rootdir)
    return [*source, spec.coverpkg, spec.build_flags, sorted(spec.build_env.items())]
