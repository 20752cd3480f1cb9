"""Build a Kind node image from Debian packages and Go modules: no image registry is needed.

    python3 nodeimage/build.py [--engine podman|docker] [--print-tag]

The last line of stdout is the image's reference; progress goes to stderr. The reference names the
hash of everything that goes in: when the engine has it, there is nothing to do. See README.md here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _assemble import assemble
from _stages import HERE, KUBERNETES, SUITE, Cache, arch, digest, programs, remove, rootfs
from _steps import BuildError, locked, run, say

NAME = "localhost/kindcov-node"


def reference() -> str:
    """Name the image that the present inputs make."""
    inputs = [HERE / p for p in ("build.py", "_steps.py", "_stages.py", "_assemble.py")]
    trees = [HERE / p for p in ("node", "coredns", "rootfs")]
    return f"{NAME}:{KUBERNETES}-{digest(SUITE, arch(), *inputs, *trees)}"


def find_engine(wanted: str | None) -> str:
    """Return the path of the engine's command: the wanted one, or the first that answers.

    Raises:
        BuildError: none answers.

    """
    tried: list[str] = []
    for name in [wanted] if wanted else ["docker", "podman"]:
        path = shutil.which(name)
        if path is None:
            tried.append(f"{name}: not installed")
            continue
        try:
            probe = subprocess.run(
                [path, "info"], capture_output=True, text=True, timeout=60, check=False
            )
        except subprocess.TimeoutExpired:
            tried.append(f"{name} info: no answer in 60 s")
            continue
        if probe.returncode == 0:
            return path
        last = (probe.stderr.strip().splitlines() or ["no message"])[-1]
        tried.append(f"{name} info: exit code {probe.returncode}: {last}")
    listed = "\n  ".join(tried)
    raise BuildError(f"no container engine answers:\n  {listed}\nremedy: start one of them")


def has_image(engine: str, ref: str) -> bool:
    """Tell whether the engine's storage has the image."""
    command = [engine, "image", "inspect", ref]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def load(engine: str, cache: Cache, tree: Path, ref: str) -> None:
    """Make an image of a directory tree in the engine's storage.

    Raises:
        BuildError: the engine refuses it.

    """
    changes = [
        'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]',
        "ENV container=docker",  # tells systemd that it is in a container, under whichever engine
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "STOPSIGNAL SIGRTMIN+3",  # systemd's signal for an orderly halt
    ]
    tar = cache.tmp("image.tar")
    run(
        "pack the image",
        ["tar", "--numeric-owner", "--xattrs", "-C", str(tree), "-cf", str(tar), "."],
        log=cache.log("pack"),
        deadline=300,
    )
    try:
        run(
            f"import into {Path(engine).name}",
            [engine, "import", *(a for c in changes for a in ("--change", c)), str(tar), ref],
            log=cache.log("import"),
            deadline=600,
            remedy="look for free space: the image takes about 0.5 GB, twice during the import",
        )
    finally:
        remove(tar)


def build(engine: str, ref: str) -> None:
    """Build the image unless the engine has it, and tag it `latest`.

    Raises:
        BuildError: a step fails, or this is not root.

    """
    if os.geteuid() != 0:
        raise BuildError(
            "debootstrap and chroot need root\nremedy: run as root (sudo), or build on another "
            "machine and move the image with `podman save` and `docker load`"
        )
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Cache(base / "kindcov" / "nodeimage")
    with locked(cache.root / "lock"):
        if not has_image(engine, ref):
            # One waits for the network, the other for the processor.
            with ThreadPoolExecutor(2) as pool:
                system, compiled = pool.submit(rootfs, cache), pool.submit(programs, cache)
                parts = system.result(), compiled.result()
            tree = assemble(cache, *parts)
            load(engine, cache, tree, ref)
            remove(tree)
        run("tag", [engine, "tag", ref, f"{NAME}:latest"], log=cache.log("tag"), deadline=60)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the Kind node image from packages.")
    parser.add_argument(
        "--engine", choices=["podman", "docker"], help="default: the one that answers"
    )
    parser.add_argument("--print-tag", action="store_true", help="only print the reference")
    args = parser.parse_args()
    try:
        ref = reference()
        if not args.print_tag:
            engine = find_engine(args.engine)
            if has_image(engine, ref):
                say(f"{ref} is there already")
            else:
                build(engine, ref)
    except BuildError as e:
        sys.stderr.write(f"error: {e}\n")
        return 1
    print(ref)
    return 0


if __name__ == "__main__":
    sys.exit(main())
