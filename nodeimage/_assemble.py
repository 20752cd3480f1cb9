"""From the two stages to the node's directory tree: configuration, links, preloaded images."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

from _stages import HERE, KUBERNETES, Cache, arch, remove
from _steps import BuildError, run

if TYPE_CHECKING:
    from pathlib import Path

NODE_LINKS = ("kubeadm", "kubectl", "kubelet")
IMAGE_LINKS = [
    "etcd",
    "kindcov-cni",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
]
IMAGES = {
    f"registry.k8s.io/kube-apiserver:{KUBERNETES}": "kube-apiserver",
    f"registry.k8s.io/kube-controller-manager:{KUBERNETES}": "kube-controller-manager",
    f"registry.k8s.io/kube-scheduler:{KUBERNETES}": "kube-scheduler",
    f"registry.k8s.io/kube-proxy:{KUBERNETES}": "kube-proxy",
    "registry.k8s.io/etcd:3.6.5-0": "etcd",
    "registry.k8s.io/coredns/coredns:v1.12.1": "coredns",
    "registry.k8s.io/pause:3.10.1": "pause",
    f"localhost/kindcov/cni:{KUBERNETES}": "kindcov-cni",
}
"""Reference -> program: what `kubeadm config images list` names, and the network agent."""

CNI_PLUGINS = ("bandwidth", "bridge", "host-local", "loopback", "portmap", "ptp", "tuning")
"""What the node's own network needs, and what other pod networks expect to be there."""

# Units that a container has no use for; some would fight the host for devices, clock or network.
MASKED = [
    "console-getty.service",
    "container-getty@.service",
    "getty.target",
    "getty@.service",
    "systemd-logind.service",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "dev-hugepages.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
    "systemd-pcrphase.service",
    "nftables.service",
    "systemd-firstboot.service",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-binfmt.service",
]

# Runs in a chroot with its own mounts and processes; all of both ends with it. Unpacking needs no
# overlay mount: the one layer has no parent. oci spec without rlimits: those of the node apply,
# which a locked-down machine may not raise.
_PRELOAD = r"""
set -eu
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
ctr oci spec | jq 'del(.process.rlimits)' > /etc/containerd/cri-base.json
printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' > /run/build.toml
containerd --config /run/build.toml --log-level warn &
i=0
until ctr --connect-timeout 1s version >/dev/null 2>&1; do
  i=$((i + 1)); [ $i -lt 100 ] || { echo "containerd does not answer"; exit 1; }
  sleep 0.1
done
ctr -n k8s.io images import --snapshotter overlayfs /images.tar
for ref in $(ctr -n k8s.io images ls -q); do
  ctr -n k8s.io images label "$ref" io.cri-containerd.pinned=pinned >/dev/null
done
ctr -n k8s.io images ls -q
kill %1
wait
"""


def _layer(tree: Path, bins: Path, ldd: str) -> bytes:
    """Make the one layer of all images: programs, iptables in both flavours, nft, libraries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        seen: set[str] = set()

        def clean(info: tarfile.TarInfo) -> tarfile.TarInfo:
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            return info

        def parents(name: str) -> None:
            for i in [i for i, c in enumerate(name) if c == "/"]:
                if name[:i] not in seen:
                    seen.add(name[:i])
                    info = tarfile.TarInfo(name[:i])
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(info)

        def add(source: Path, name: str) -> None:
            if name in seen:
                return
            parents(name)
            seen.add(name)
            with source.open("rb") as f:
                info = clean(tar.gettarinfo(arcname=name, fileobj=f))
                # Never a hard link: the same file may be asked for under two names.
                info.type, info.linkname = tarfile.REGTYPE, ""
                info.size = os.fstat(f.fileno()).st_size
                tar.addfile(info, f)

        def link(name: str, target: str) -> None:
            parents(name)
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)

        for program in ("node", "coredns", "pause"):
            add(bins / program, f"usr/local/bin/{program}")
        for name in IMAGE_LINKS:
            link(f"usr/local/bin/{name}", "node")
        for library in sorted(set(re.findall(r"(/\S+) \(0x", ldd))):
            add((tree / library.lstrip("/")).resolve(), library.lstrip("/"))
        for module in sorted(tree.glob("usr/lib/*/xtables/*.so")):
            add(module, str(module.relative_to(tree)))
        for tool in ("xtables-legacy-multi", "xtables-nft-multi", "nft", "conntrack"):
            add(tree / "usr/sbin" / tool, f"usr/sbin/{tool}")
        for flavour, name, suffix in itertools.product(
            ("legacy", "nft"), ("iptables", "ip6tables"), ("", "-save", "-restore")
        ):
            target = f"/usr/sbin/xtables-{flavour}-multi"
            link(f"usr/lib/iptables/{flavour}/{name}{suffix}", target)
        add(tree / "etc/ssl/certs/ca-certificates.crt", "etc/ssl/certs/ca-certificates.crt")
        for name, mode in (("tmp", 0o1777), ("run", 0o755)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
    return buffer.getvalue()


def _archive(layer: bytes, target: Path) -> None:
    """Write an OCI archive of all images over one shared layer."""
    blobs: dict[str, bytes] = {}

    def blob(kind: str, data: bytes) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        blobs[name] = data
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

    def text(value: object) -> bytes:
        return json.dumps(value, sort_keys=True).encode()

    oci = "application/vnd.oci.image"
    # Level 1: the blob is kept beside the unpacked layer and read only by exports.
    packed = blob(f"{oci}.layer.v1.tar+gzip", gzip.compress(layer, 1, mtime=0))
    diff = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    manifests = []
    for reference, program in IMAGES.items():
        config = {
            "architecture": arch(),
            "os": "linux",
            "config": {
                "Entrypoint": [f"/usr/local/bin/{program}"],
                "Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{oci}.manifest.v1+json",
            "config": blob(f"{oci}.config.v1+json", text(config)),
            "layers": [packed],
        }
        entry = blob(f"{oci}.manifest.v1+json", text(manifest))
        manifests.append(entry | {"annotations": {"io.containerd.image.name": reference}})
    with tarfile.open(target, "w") as tar:

        def put(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        put("oci-layout", text({"imageLayoutVersion": "1.0.0"}))
        put("index.json", text({"schemaVersion": 2, "manifests": manifests}))
        for name, data in blobs.items():
            put(f"blobs/sha256/{name}", data)


def _symlink(path: Path, target: str) -> None:
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def assemble(cache: Cache, rootfs: Path, bins: Path) -> Path:
    """Make the node's whole directory tree; the caller removes it.

    Raises:
        BuildError: containerd cannot import the images.

    """
    tree = cache.tmp("tree")
    tree.mkdir()
    run(
        "lay out the node",
        ["tar", "--numeric-owner", "--xattrs", "-C", str(tree), "-xpf", str(rootfs)],
        log=cache.log("untar"),
        deadline=300,
    )
    shutil.copytree(HERE / "rootfs", tree, dirs_exist_ok=True)
    system = tree / "etc/systemd/system"
    for unit in MASKED:
        _symlink(system / unit, "/dev/null")
    for unit in ("containerd.service", "kubelet.service"):
        _symlink(system / "multi-user.target.wants" / unit, f"/etc/systemd/system/{unit}")
    _symlink(system / "default.target", "/lib/systemd/system/multi-user.target")
    for directory in [
        "etc/kubernetes/manifests",
        "etc/containerd/certs.d",
        "etc/cni/net.d",
        "opt/cni/bin",
        "kind",
    ]:
        (tree / directory).mkdir(parents=True, exist_ok=True)
    # Debian's place for plugins is not the one that Kubernetes' tools expect.
    for plugin in (tree / "usr/lib/cni").iterdir():
        if plugin.name in CNI_PLUGINS:
            plugin.rename(tree / "opt/cni/bin" / plugin.name)
        else:
            plugin.unlink()
    (tree / "kind/version").write_text(KUBERNETES + "\n")
    for name in ("machine-id", "hostname", "resolv.conf"):
        (tree / "etc" / name).write_text("")

    tools = ["xtables-legacy-multi", "xtables-nft-multi", "nft", "conntrack"]
    # The modules too: statistic, which spreads a Service over its pods, alone needs libm.
    modules = [f"/{module.relative_to(tree)}" for module in tree.glob("usr/lib/*/xtables/*.so")]
    ldd = run(
        "find the libraries of iptables",
        ["chroot", str(tree), "ldd", *(f"/usr/sbin/{t}" for t in tools), *modules],
        log=cache.log("ldd"),
        deadline=30,
    )
    _archive(_layer(tree, bins, ldd), tree / "images.tar")
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    listed = run(
        "preload the images",
        [
            *unshare,
            "chroot",
            str(tree),
            "bash",
            "-c",
            _PRELOAD,
        ],
        log=cache.log("preload"),
        deadline=300,
        remedy="unshare, mount and chroot need a real root (not a user namespace)",
    )
    if missing := [i for i in IMAGES if i not in listed.split()]:
        raise BuildError(f"containerd did not import {missing}: see {cache.log('preload')}")
    (tree / "images.tar").unlink()

    # The unpacked layer has the program already. Linked instead of copied it is in the node image
    # once (158 MB less).
    snapshots = tree / "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
    (unpacked,) = snapshots.glob("*/fs/usr/local/bin/node")
    (tree / "usr/local/bin/node").hardlink_to(unpacked)
    for name in NODE_LINKS:
        _symlink(tree / "usr/bin" / name, "/usr/local/bin/node")
    return tree
