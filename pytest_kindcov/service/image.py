"""A container image around one static program, without Dockerfile, engine or registry."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NONROOT = 65532
"""The user of distroless images, which services are commonly run as."""

# Programs in an empty image have no certificates of their own; the usual places on a host.
_CERTIFICATES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/cert.pem"),
)


def full_name(reference: str) -> str:
    """An image reference as containerd stores it: `orders` is `docker.io/library/orders:latest`."""
    name, at, digest = reference.partition("@")
    host, slash, rest = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not (host == "localhost" or re.search(r"[.:]", host)):
        name = f"docker.io/{name}"
    elif host == "docker.io" and "/" not in rest:
        name = f"docker.io/library/{rest}"
    if not at and ":" not in name.rpartition("/")[2]:
        name += ":latest"
    return name + at + digest


def last_name(reference: str) -> str:
    """The last part of an image's name, without tag and digest: `orders`."""
    return reference.rpartition("/")[2].partition("@")[0].partition(":")[0]


def write_archive(
    archive: Path,
    *,
    program: Path,
    reference: str,
    name: str,
    arch: str,
    extra_paths: Iterable[str] = (),
    user: int = 0,
) -> str:
    """Write a docker archive (`docker load`, `ctr images import`) of one layer.

    Args:
        archive: the file to write.
        program: the static program; its place in the image is `/NAME`, which is the entry point.
        reference: the image's name.
        name: the program's name.
        arch: such as `amd64`.
        extra_paths: absolute paths at which manifests expect the program (`command:`).
        user: the user the image runs as.

    Returns:
        The digest of its config, `sha256:…`: equal for equal images.

    """
    layer = archive.with_suffix(".layer")
    try:
        with tarfile.open(layer, "w") as tar:
            _fill(tar, program, [f"/{name}", f"/usr/local/bin/{name}", *extra_paths])
        with layer.open("rb") as file:
            diff_id = hashlib.file_digest(file, "sha256").hexdigest()
        config = {
            "architecture": arch,
            "os": "linux",
            "config": {
                "Entrypoint": [f"/{name}"],
                "User": str(user) if user else "",
                "WorkingDir": "/",
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
            "history": [{"created_by": "pytest-kindcov"}],
        }
        text = json.dumps(config).encode()
        digest = hashlib.sha256(text).hexdigest()
        config_name = f"{digest}.json"
        index = [
            {
                "Config": config_name,
                "RepoTags": [full_name(reference)],
                "Layers": [f"{diff_id}/layer.tar"],
            }
        ]
        with tarfile.open(archive, "w") as tar:
            tar.add(layer, f"{diff_id}/layer.tar", filter=_plain)
            _add_bytes(tar, config_name, text)
            _add_bytes(tar, "manifest.json", json.dumps(index).encode())
    finally:
        layer.unlink(missing_ok=True)
    return f"sha256:{digest}"


def _fill(tar: tarfile.TarFile, program: Path, places: list[str]) -> None:
    made: set[str] = set()

    def directory(path: str, mode: int = 0o755) -> None:
        for parent in [*reversed(Path(path).parents), Path(path)]:
            entry = str(parent).strip("/")
            if entry and entry not in made and entry != ".":
                info = tarfile.TarInfo(entry)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                if str(parent) == path:
                    info.mode = mode
                tar.addfile(info)
                made.add(entry)

    directory("/tmp", 0o1777)  # noqa: S108 (inside the image)
    first = ""
    for place in dict.fromkeys(str(Path("/", place)).strip("/") for place in places):
        directory(str(Path("/", place).parent))
        info = tarfile.TarInfo(place)
        info.mode = 0o755
        if first:
            info.type, info.linkname = tarfile.LNKTYPE, first
            tar.addfile(info)
        else:
            first = place
            info.size = program.stat().st_size
            with program.open("rb") as file:
                tar.addfile(info, file)
    directory("/etc/ssl/certs")
    certificates = next((path for path in _CERTIFICATES if path.exists()), None)
    if certificates:
        _add_bytes(tar, "etc/ssl/certs/ca-certificates.crt", certificates.read_bytes())
    users = f"root:x:0:0:root:/:\nnonroot:x:{NONROOT}:{NONROOT}:nonroot:/:\n"
    _add_bytes(tar, "etc/passwd", users.encode())


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info
