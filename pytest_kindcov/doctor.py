"""`kindcov doctor`: whether a cluster can be made here, and what dead runs have left."""

from __future__ import annotations

import re
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov._run import run
from pytest_kindcov._text import Secrets, clean
from pytest_kindcov.cluster import orphans, preflight
from pytest_kindcov.cluster.engine import OWN_NODE_IMAGE, Engine, detect
from pytest_kindcov.cluster.preflight import FAIL, OK, WARN, Check
from pytest_kindcov.errors import CommandError, KindCovError, ToolNotFound
from pytest_kindcov.report import place

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindcov.cluster.owners import Owner

_CALL = 30.0  # seconds
_IMAGE = 60.0
_OLDEST_KIND = (0, 30)
_SYSTEMD_WITHOUT_V1 = 256
"""The version of systemd from which on it refuses cgroup v1."""
# docker has address ranges for some 30 networks.
_NETWORKS = 25


@dataclass(frozen=True)
class Doctor:
    """What is looked at.

    Args:
        engine: `docker`, `podman` or `auto`.
        node_image: its name; empty: the one that a run would take.
        kind_bin: path of kind; empty: the one on PATH.
        kind_config: kind's config file; None for none.
        directory: of coverage data and reports.

    """

    engine: str = "auto"
    node_image: str = ""
    kind_bin: str = ""
    kind_config: Path | None = None
    directory: Path = Path(".kindcov")

    def examine(self, say: Callable[[str], None]) -> tuple[bool, list[Engine]]:
        """Look at everything, and say each thing as it is found.

        Returns:
            Whether a cluster can be made, as far as can be seen; and the engines that answer, the
            one that a run would take first.

        """
        checks: list[Check] = []

        def note(*found: Check) -> None:
            for check in found:
                checks.append(check)
                say("\n".join(lines(check)))

        engines = self._engines(note)
        note(self._kind(), _go(), _proxy(), self._writable())
        if engines:
            engine = engines[0]
            image, kubernetes = self._image(engine, note)
            note(
                *preflight.host(
                    engine, kubernetes or preflight.kubernetes_of(image), self.kind_config
                )
            )
            note(*_networks(engine))
        for engine in engines:
            note(*left(engine))
        note(*map(_not_given_back, orphans.borrowed_by_api()))
        return preflight.worst(checks) != FAIL, engines

    def _engines(self, note: Callable[[Check], None]) -> list[Engine]:
        """The engines that answer; others are of interest only if none does."""
        try:
            first = detect(self.engine)
        except ToolNotFound as error:
            line = " ".join([error.what, *error.cause.splitlines()])
            note(Check("engine", FAIL, line, error.remedy, error.slug))
            return []
        rootless = re.search(r"^\s*rootless(: true)?\s*$", first.info, re.MULTILINE)
        note(Check("engine", OK, f"{_version(first.name)}{', rootless' if rootless else ''}"))
        found = [first]
        for name in {"docker", "podman"} - {first.name}:
            try:
                found.append(detect(name))
            except ToolNotFound:
                continue
        return found

    def _kind(self) -> Check:
        program = self.kind_bin or "kind"
        remedy = "install kind 0.30 or newer (`go install sigs.k8s.io/kind@latest`), or name it:"
        remedy += " --kind-bin"
        if shutil.which(program) is None:
            return Check("kind", FAIL, f"{program} was not found", remedy, "kind-missing")
        try:
            text = run([program, "version"], timeout=_CALL).text
        except KindCovError as error:
            return Check("kind", FAIL, error.headline, remedy, "kind-missing")
        match = re.search(r"v(\d+)\.(\d+)", text)
        if match and (int(match[1]), int(match[2])) < _OLDEST_KIND:
            return Check("kind", WARN, text, remedy, "kind-old")
        return Check("kind", OK, text)

    def _writable(self) -> Check:
        if place.writable(self.directory):
            return Check("directory", OK, f"{self.directory} can be written")
        remedy = "mend its permissions, or name another: --dir"
        line = f"{self.directory} cannot be written"
        return Check("directory", FAIL, line, remedy, "directory-not-writable")

    def _image(
        self, engine: Engine, note: Callable[[Check], None]
    ) -> tuple[str, tuple[int, int] | None]:
        """The node image that a run would take, and its Kubernetes version."""
        remedy = "`python3 nodeimage/build.py` of this project builds one without a registry; or"
        remedy += " load one and name it: --node-image NAME:TAG"
        try:
            image = self.node_image or next(iter(engine.image_names(OWN_NODE_IMAGE)), "")
            if not image:
                line = "none is here: kind pulls its own, which needs a registry"
                note(Check("node image", WARN, line, remedy, "node-image-missing"))
                return "", None
            if not engine.has_image(image):
                line = f"{image} is not in {engine.name}'s store: kind would pull it"
                note(Check("node image", WARN, line, remedy, "node-image-missing"))
                return image, None
            script = "cat /kind/version && uname -m && systemctl --version"
            args = ["run", "--rm", "--network=none", "--entrypoint", "sh", image, "-c", script]
            text = run([engine.name, *args], timeout=_IMAGE).text
        except CommandError as error:
            told = error.output or error.cause
            wrong = "exec format error" in told or "does not match" in told
            slug = "wrong-architecture" if wrong else "node-image-unusable"
            line = f"{self.node_image or OWN_NODE_IMAGE}: {_last(told)}"
            note(Check("node image", FAIL, line, remedy, slug))
            return self.node_image, None
        kubernetes = re.search(r"^v(\d+)\.(\d+)\.\d+", text)
        if kubernetes is None:
            line = f"{image} is no node image: it has no version in /kind/version"
            note(Check("node image", FAIL, line, remedy, "node-image-unusable"))
            return image, None
        systemd = re.search(r"^systemd (\d+)", text, re.MULTILINE)
        note(Check("node image", OK, f"{image}, Kubernetes {kubernetes[0]}, {engine.arch}"))
        if (
            systemd
            and int(systemd[1]) >= _SYSTEMD_WITHOUT_V1
            and preflight.cgroup(engine.info) == "1"
        ):
            line = f"the host has v1, which the node image's systemd {systemd[1]} refuses"
            remedy = "a node image of Kubernetes 1.34, or boot the host with cgroup v2"
            note(Check("cgroup", FAIL, line, remedy, "systemd-refuses-cgroup-v1"))
        return image, (int(kubernetes[1]), int(kubernetes[2]))


def left(engine: Engine) -> list[Check]:
    """What dead runs left in an engine."""
    try:
        found = orphans.find(engine, engine.clusters())
    except KindCovError as error:
        return [Check("orphans", WARN, error.headline, "is the engine busy?", "engine-busy")]
    checks = []
    for orphan in found.orphans:
        name = orphan.owner.cluster
        remedy = f"`kindcov harvest --cluster {name}` saves its coverage, " if orphan.nodes else ""
        remedy += "`kindcov doctor --remove` removes it"
        checks.append(Check("orphans", WARN, str(orphan), remedy, "orphan"))
    checks += map(_not_given_back, found.borrowed)
    for name in found.unknown:
        line = f"cluster {name} ({engine.name}): its run is not known on this machine"
        remedy = f"if nobody uses it: `kind delete cluster --name {name}`"
        checks.append(Check("orphans", WARN, line, remedy, "cluster-unknown"))
    checks += [
        Check("kept", OK, f"cluster {owner.cluster} ({engine.name}), from {owner.project}")
        for owner in found.kept
    ]
    return checks or [Check("orphans", OK, f"{engine.name}: none")]


def _not_given_back(owner: Owner) -> Check:
    line = f"cluster {owner.cluster} ({owner.engine}) was not given back by {owner}"
    remedy = f"`kindcov harvest --cluster {owner.cluster}` saves its coverage,"
    remedy += " `kindcov doctor --remove` gives it back as it was before"
    return Check("orphans", WARN, line, remedy, "cluster-not-given-back")


def remove(engines: list[Engine], tell: Callable[[str], None], kind: Path | None = None) -> bool:
    """Remove what dead runs left, and give back what they used; whether all of it could be."""
    from pytest_kindcov.session.borrowed import restore_dead

    whole = True

    def give_back(owner: Owner, engine: Engine | None) -> None:
        nonlocal whole
        name = f"cluster {owner.cluster}"
        try:
            problems = restore_dead(owner, engine, kind)
        except KindCovError as error:
            problems = [f"{name} could not be given back: {error.headline}"]
        whole = whole and not problems
        tell("\n".join(problems) or f"gave back {name}, of {owner}")

    for owner in orphans.borrowed_by_api():
        give_back(owner, None)
    for engine in engines:
        found = orphans.find(engine, engine.clusters())
        for owner in found.borrowed:
            give_back(owner, engine)
        for orphan in found.orphans:
            try:
                orphans.remove(orphan, engine)
                tell(f"removed {orphan}")
            except KindCovError as error:
                whole = False
                tell(f"could not remove {orphan}: {error.headline}")
    return whole


def lines(check: Check) -> list[str]:
    """A check as it is printed."""
    name = f" [{check.slug}]" if check.slug and check.level != OK else ""
    line = f"{check.level:<5} {check.name}: {check.line}{name}"
    remedy = [f"      remedy: {check.remedy}"] if check.remedy and check.level != OK else []
    return [Secrets().hide(clean(text)) for text in [line, *remedy]]


def _go() -> Check:
    if shutil.which("go") is None:
        line = "go was not found: services cannot be built, only images be taken as they are"
        return Check("go", WARN, line, "install Go, or put it on PATH", "go-missing")
    try:
        return Check("go", OK, run(["go", "version"], timeout=_CALL).text)
    except KindCovError as error:
        return Check("go", WARN, error.headline, "install Go, or put it on PATH", "go-missing")


def _proxy() -> Check:
    proxies = {
        key: value for key, value in urllib.request.getproxies().items() if key in ("http", "https")
    }
    if not proxies:
        return Check("proxy", OK, "none")
    if urllib.request.proxy_bypass("127.0.0.1"):
        return Check("proxy", OK, "set, and not for 127.0.0.1")
    remedy = "NO_PROXY=127.0.0.1,localhost,.svc,10.96.0.0/16,10.244.0.0/16"
    line = f"{', '.join(sorted(proxies))} also for 127.0.0.1, where the API server is"
    return Check("proxy", WARN, line, remedy, "proxy-in-the-way")


def _networks(engine: Engine) -> list[Check]:
    if engine.name != "docker":
        return []
    names = run([engine.name, "network", "ls", "--format", "{{.Name}}"], timeout=_CALL).text.split()
    if "kind" not in names and len(names) >= _NETWORKS:
        line = f"docker has {len(names)} networks, and address ranges for some 30"
        return [Check("networks", WARN, line, "`docker network prune`", "address-pools-exhausted")]
    return []


def _version(program: str) -> str:
    try:
        return run([program, "--version"], timeout=_CALL).text
    except KindCovError:
        return program


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it does not run"])[-1][:300]
