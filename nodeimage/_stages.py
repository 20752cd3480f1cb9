"""The stages before assembly: Debian's root file system and the Go programs, kept by content."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from _steps import BuildError, run, say

HERE = Path(__file__).resolve().parent
KUBERNETES = "v1.34.4"
SUITE = "bookworm"
"""The last Debian whose systemd (252) boots on cgroup v1 as well as v2."""

PACKAGES = [
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "dbus",
    "ethtool",
    "iproute2",
    "iptables",
    "jq",
    "kmod",
    "libseccomp2",
    "mount",
    "nftables",
    "procps",
    "runc",
    "socat",
    "systemd",
    "systemd-sysv",
    "util-linux",
]

# Not needed in a node.
TRIM = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/i18n",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/share/zsh",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log/apt",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
    "usr/bin/containerd-shim",
    "usr/bin/containerd-shim-runc-v1",
    "usr/lib/systemd/catalog",
    "usr/lib/udev/hwdb.d",
    "usr/lib/udev/hwdb.bin",
    "etc/machine-id",
    "etc/hostname",
    "etc/resolv.conf",
]

PROGRAMS = ("node", "pause", "coredns")


@dataclass(frozen=True)
class Cache:
    """Where stages are kept: `<name>-<key>` when finished, `tmp-…` before that."""

    root: Path

    def tmp(self, name: str) -> Path:
        """Give a fresh path for unfinished work; what an interrupted build left goes."""
        path = self.root / f"tmp-{name}"
        remove(path)
        return path

    def log(self, name: str) -> Path:
        """Give the path of a step's log."""
        return self.root / f"{name}.log"

    def prune(self, name: str, keep: Path) -> None:
        """Remove older results of the same stage."""
        for old in self.root.glob(f"{name}-*"):
            if old != keep:
                remove(old)


def remove(path: Path) -> None:
    """Remove a file or a tree, present or not."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest(*parts: str | Path) -> str:
    """Hash texts and files (directories: every file's path, mode and bytes), as 12 hex digits."""
    h = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            h.update(f"s{len(part)}:{part}".encode())
            continue
        files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
        for f in files:
            data = f.read_bytes()
            executable = bool(f.stat().st_mode & 0o100)
            h.update(f"f{f.relative_to(HERE)}:{executable}:{len(data)}:".encode())
            h.update(data)
    return h.hexdigest()[:12]


def arch() -> str:
    """Debian's and Go's name of this machine's architecture.

    Raises:
        BuildError: neither amd64 nor arm64.

    """
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    if platform.machine() not in names:
        raise BuildError(f"no node image for {platform.machine()}: only {', '.join(names)}")
    return names[platform.machine()]


def _sources(text: str, deb822: bool) -> list[tuple[str, list[str]]]:
    """Read (address, suites) pairs out of one apt sources file."""
    found: list[tuple[str, list[str]]] = []
    if not deb822:
        for line in text.splitlines():
            m = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", line)
            if m:
                found.append((m[1], [m[2]]))
        return found
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        joined = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {
            k.strip().lower(): v.split()
            for k, colon, v in (line.partition(":") for line in joined.splitlines())
            if colon
        }
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            found += [(uri, fields.get("suites", [])) for uri in fields.get("uris", [])]
    return found


def mirror() -> str:
    """Find the Debian mirror that this machine's apt uses; KINDCOV_DEBIAN_MIRROR wins.

    Raises:
        BuildError: apt knows no Debian mirror (another distribution) and the variable is not set.

    """
    if given := os.environ.get("KINDCOV_DEBIAN_MIRROR"):
        return given
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    entries = [
        entry
        for f in files
        if f.suffix in (".list", ".sources") and f.is_file()
        for entry in _sources(f.read_text(errors="replace"), f.suffix == ".sources")
    ]
    exact = [uri for uri, suites in entries if SUITE in suites]
    # Another release of Debian: the main archive of one has them all.
    debian = [uri for uri, _ in entries if re.search(r"/debian/?$", uri)]
    for uri in exact + debian:
        if uri.startswith(("http", "file", "copy")):
            return uri
    raise BuildError(
        "no Debian mirror in this machine's apt sources\n"
        f"remedy: set KINDCOV_DEBIAN_MIRROR to the address of one that has {SUITE}"
    )


def rootfs(cache: Cache) -> Path:
    """Make the root file system of Debian packages; return it as a tar file.

    Raises:
        BuildError: not root, no debootstrap, no mirror, or debootstrap fails.

    """
    done = cache.root / f"rootfs-{digest(SUITE, arch(), *PACKAGES, *TRIM)}.tar"
    if done.exists():
        say("Debian root file system: kept from an earlier build")
        return done
    if shutil.which("debootstrap") is None:
        raise BuildError("debootstrap is not installed\nremedy: apt-get install debootstrap")
    tree = cache.tmp("rootfs")
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    run(
        "Debian root file system",
        [*command, SUITE, str(tree), mirror()],
        log=cache.log("debootstrap"),
        deadline=1200,
        remedy="check that the mirror can be reached (apt-get update) and, off Debian, that "
        "debian-archive-keyring is installed",
    )
    for path in TRIM:
        remove(tree / path)
    tar = cache.tmp("rootfs.tar")
    run(
        "keep the root file system",
        ["tar", "--numeric-owner", "--xattrs", "-C", str(tree), "-cf", str(tar), "."],
        log=cache.log("tar"),
        deadline=300,
    )
    remove(tree)
    tar.rename(done)
    cache.prune("rootfs", done)
    return done


def _version_flags() -> str:
    """Linker flags without which kubeadm believes it is v0.0.0."""
    major, minor = KUBERNETES.removeprefix("v").split(".")[:2]
    values = f"gitVersion={KUBERNETES} gitMajor={major} gitMinor={minor} gitTreeState=clean"
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {p}.{value}" for p in packages for value in values.split())


def programs(cache: Cache) -> Path:
    """Compile the Go programs; return the directory that holds them.

    Raises:
        BuildError: no Go, or a build fails.

    """
    go = os.environ.get("KINDCOV_GO") or shutil.which("go")
    if not go:
        raise BuildError(
            "no Go on PATH\nremedy: install Go 1.24 or newer, or set KINDCOV_GO to its go command"
        )
    # In the system's directory: the version asked for is that of this command, not of some go.mod.
    version = run(
        "find Go", [go, "env", "GOVERSION"], log=cache.log("go-version"), deadline=60, cwd=Path("/")
    )
    flags = f"-s -w {_version_flags()}"
    key = digest(version.strip(), arch(), flags, HERE / "node", HERE / "coredns")
    done = cache.root / f"programs-{key}"
    if done.exists():
        say("Go programs: kept from an earlier build")
        return done
    out = cache.tmp("programs")
    out.mkdir()
    # Own GOFLAGS: a -mod=vendor or -race of the user's shell is meant for other code. GOPROXY & co
    # stay the user's.
    env = os.environ | {
        "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off",
        "GOOS": "linux", "GOARCH": arch(),
    }  # fmt: skip
    for module, packages in (("node", [".", "./pause"]), ("coredns", ["."])):
        run(
            f"compile {module}",
            [go, "build", "-trimpath", "-ldflags", flags, "-o", f"{out}/", *packages],
            log=cache.log(f"go-{module}"),
            deadline=3600,
            remedy="check that Go's module proxy can be reached (go env GOPROXY); what is compiled "
            "is kept",
            env=env,
            cwd=HERE / module,
        )
    out.rename(done)
    cache.prune("programs", done)
    return done
