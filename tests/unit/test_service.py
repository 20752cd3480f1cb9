"""From what a conftest says to a program, an image and manifests."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_kindcov.errors import BuildError, ManifestError
from pytest_kindcov.service import build, dockerfile, image, manifests, programs
from pytest_kindcov.service.forward import Entry, listening_ports, port_target
from pytest_kindcov.service.goservice import GoService
from pytest_kindcov.service.spec import ServiceSpec

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec:
      initContainers:
        - {name: migrate, image: "web", command: [/app/web, migrate]}
      containers:
        - name: web
          image: docker.io/library/web:latest
          env: [{name: A, value: old}, {name: B, value: kept}]
        - {name: proxy, image: "proxy:1"}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}, {name: admin, port: 9000}]
"""


def spec(directory: Path, **values: Any) -> ServiceSpec:
    return ServiceSpec(directory=str(directory), **values)


def load(service: ServiceSpec, root: Path) -> manifests.Manifests:
    return manifests.load(service, rootdir=root, scratch=root, kubectl=lambda: ["kubectl"])


@pytest.mark.parametrize(
    ("package", "title"),
    [
        ("./cmd/orders", "orders"),
        ("./cmd/orders/", "orders"),
        ("./cmd/orders/main.go", "orders"),
        ("example.com/tools/agent/v2", "agent"),
        ("./v2", "v2"),
    ],
)
def test_title(tmp_path: Path, package: str, title: str) -> None:
    assert spec(tmp_path, package=package).title == title


def test_title_of_root_package_and_image(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    assert spec(tmp_path / "shop", package=".").title == "shop"
    assert spec(tmp_path, image="registry.example:5000/team/shop:1@sha256:ab").title == "shop"
    assert spec(tmp_path, package=".", name="mine").title == "mine"


def test_spec_survives_the_way_to_the_controller(tmp_path: Path) -> None:
    one = spec(tmp_path, package="./x", manifests=("a", "b"), env={"K": "V"}, port=1)
    assert ServiceSpec.from_json(one.to_json()) == one
    assert ServiceSpec.from_json(one.to_json()).key == one.key
    assert spec(tmp_path, package="./y").key != one.key


def test_paths_are_found_upwards(tmp_path: Path) -> None:
    (tmp_path / "cmd" / "orders").mkdir(parents=True)
    below = tmp_path / "tests" / "e2e"
    below.mkdir(parents=True)
    assert spec(below).find("./cmd/orders", tmp_path) == tmp_path / "cmd" / "orders"
    with pytest.raises(ManifestError) as caught:
        spec(below, package="./cmd/ordesr").find("./cmd/ordesr", tmp_path)
    assert "did you mean cmd/orders?" in str(caught.value)
    assert str(below) in caught.value.cause


def test_path_above_the_root_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    root = tmp_path / "repo"
    root.mkdir()
    with pytest.raises(ManifestError):
        spec(root).find("deploy", root)


def test_url_needs_a_port() -> None:
    assert GoService("a", "b", "10.0.0.1", 30000).url == "http://10.0.0.1:30000"
    with pytest.raises(ManifestError, match="has no URL"):
        _ = GoService("a", "b", "", 0).url


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("orders", "docker.io/library/orders:latest"),
        ("orders:dev", "docker.io/library/orders:dev"),
        ("team/orders", "docker.io/team/orders:latest"),
        ("docker.io/orders:1", "docker.io/library/orders:1"),
        ("localhost/orders", "localhost/orders:latest"),
        ("localhost:5000/orders", "localhost:5000/orders:latest"),
        ("registry.example/a/b:c", "registry.example/a/b:c"),
        ("registry.example/a@sha256:00", "registry.example/a@sha256:00"),
    ],
)
def test_full_name(short: str, full: str) -> None:
    assert image.full_name(short) == full
    assert image.full_name(full) == full


def test_archive(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF program")
    archive = tmp_path / "image.tar"
    image.write_archive(
        archive,
        program=program,
        reference="web",
        name="web",
        arch="arm64",
        extra_paths=["/app/web"],
        user=65532,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "program"]
    with tarfile.open(archive) as tar:
        (entry,) = json.loads(_read(tar, "manifest.json"))
        config = json.loads(_read(tar, entry["Config"]))
        layer = tar.extractfile(entry["Layers"][0])
        with tarfile.open(fileobj=layer) as files:
            assert _read(files, "web") == _read(files, "app/web") == program.read_bytes()
            assert files.getmember("tmp").mode == 0o1777
            assert files.getmember("web").mode == 0o755
    assert entry["RepoTags"] == ["docker.io/library/web:latest"]
    assert config["architecture"] == "arm64"
    assert config["config"]["User"] == "65532"
    assert config["config"]["Entrypoint"] == ["/web"]


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def test_manifests_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "all.yaml").write_text(DEPLOYMENT)
    (tmp_path / "deploy" / "README.md").write_text("not a manifest: {")
    service = spec(tmp_path, package="./web", manifests=("deploy",), image="web", env={"A": "new"})
    loaded = load(service, tmp_path)
    assert [container["name"] for _, _, container in loaded.containers()] == ["migrate", "web"]
    assert loaded.program_paths() == ["/app/web"]
    manifests.prepare(loaded, service)
    web = loaded.objects[0]["spec"]["template"]["spec"]["containers"][0]
    assert web["imagePullPolicy"] == "IfNotPresent"
    assert {item["name"]: item["value"] for item in web["env"]} == {"A": "new", "B": "kept"}
    proxy = loaded.objects[0]["spec"]["template"]["spec"]["containers"][1]
    assert "imagePullPolicy" not in proxy
    assert "env" not in proxy


def test_manifest_errors(tmp_path: Path) -> None:
    def fails(text: str, **values: Any) -> str:
        (tmp_path / "m.yaml").write_text(text)
        with pytest.raises(ManifestError) as caught:
            load(spec(tmp_path, package="./web", manifests=("m.yaml",), **values), tmp_path)
        return str(caught.value)

    assert "line 1, column" in fails("a: [")
    assert "no apiVersion" in fails("kind: Pod\nmetadata: {name: x}")
    assert "no metadata.name" in fails("apiVersion: v1\nkind: Pod")
    assert "not an object but str" in fails("hello")
    assert "no object in" in fails("---\n")
    wrong = fails(DEPLOYMENT, image="wbe")
    assert "no manifest uses the image wbe" in wrong
    assert "docker.io/library/web:latest, proxy:1, web" in wrong
    assert "which image" in fails(DEPLOYMENT, name="shop")
    # A container, a label and a part of another image's name are not the image `api`.
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: api, labels: {app: api}}\n"
    pod += 'spec: {containers: [{name: api, image: "corp.example/api-proxy:1"}]}'
    assert "no manifest uses the image api" in fails(pod, image="api")


def test_lists_and_only_image(tmp_path: Path) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "one:1"}]},
    }
    (tmp_path / "m.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod]})
    )
    loaded = load(spec(tmp_path, package="./x", manifests=("m.json",)), tmp_path)
    assert loaded.image == "one:1"


def test_of_several_images_the_namesake_is_the_services(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(DEPLOYMENT)
    loaded = load(spec(tmp_path, package="./web", manifests=("m.yaml",)), tmp_path)
    assert loaded.image == "web"


@pytest.mark.parametrize(
    ("image", "applied"),
    [("web", "web:dev"), ("corp.example:5000/web:1", "corp.example:5000/web:1")],
)
def test_image_by_digest(tmp_path: Path, image: str, applied: str) -> None:
    """No build here has that digest: kept, the kubelet would never find the image."""
    fixed = f"{image}@sha256:{'0' * 64}"
    (tmp_path / "m.yaml").write_text(DEPLOYMENT.replace("docker.io/library/web:latest", fixed))
    built = spec(tmp_path, package="./web", manifests=("m.yaml",), image=fixed)
    loaded = load(built, tmp_path)
    assert loaded.image == applied
    assert [container["image"] for _, _, container in loaded.containers()] == [applied]
    present = replace(built, package="")
    assert load(present, tmp_path).image == present.image


def test_generated_manifests_are_restricted(tmp_path: Path) -> None:
    loaded = load(spec(tmp_path, package="./web", port=8080), tmp_path)
    assert [obj["kind"] for obj in loaded.objects] == ["Deployment", "Service"]
    pod = loaded.objects[0]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert list(loaded.containers())


@pytest.mark.parametrize(
    ("port", "target"), [(80, "http"), (9000, 9000), (8080, 8080), (None, None)]
)
def test_target_port(tmp_path: Path, port: int | None, target: Any) -> None:
    (tmp_path / "m.yaml").write_text(DEPLOYMENT)
    service = spec(tmp_path, package="./web", manifests=("m.yaml",), image="web", port=port)
    found = port_target(load(service, tmp_path), service)
    assert (found.target if found else None) == target
    if found:
        assert found.namespace == "shop"


def test_single_port_is_inferred(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(DEPLOYMENT.replace(", {name: admin, port: 9000}", ""))
    service = spec(tmp_path, package="./web", manifests=("m.yaml",), image="web")
    found = port_target(load(service, tmp_path), service)
    assert found == Entry("shop", {"app": "web"}, {"TCP": "http"})


def test_listening_ports() -> None:
    own = Path("/proc/self/net/tcp").read_text()
    header = own.splitlines()[0]
    rows = "0: 0100007F:1F90 00000000:0000 0A 0\n1: 00000000:0050 00000000:0000 01 0"
    assert listening_ports(f"{header}\n{rows}") == [8080]


def test_instrumented_dockerfile() -> None:
    text = (
        "FROM golang:1.26 AS build\n# FROM nowhere\nENV CGO_ENABLED=0 \\\n    GOFLAGS=-mod=vendor\n"
        "RUN go build -o /x ./cmd/x\nfrom scratch\nCOPY --from=build /x /x\n"
    )
    lines = dockerfile.instrumented(text).splitlines()
    flag = 'ENV GOFLAGS="${GOFLAGS} -cover -covermode=atomic"'
    assert [index for index, line in enumerate(lines) if line == flag] == [1, 5, 8]
    assert [line for line in lines if line != flag] == text.splitlines()


# Real Go from here on.


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module with a program in a directory, one in the root, and one library."""
    root = tmp_path_factory.mktemp("module")
    (root / "go.mod").write_text("module example.com/m\n\ngo 1.23\n")
    (root / "main.go").write_text("package main\n\nfunc main() {}\n")
    _write(root / "lib/lib.go", "package lib\n\nfunc F() int { return 1 }\n")
    _write(
        root / "cmd/web/main.go",
        'package main\n\nimport "example.com/m/lib"\n\nfunc main() { println(lib.F()) }\n',
    )
    _write(root / "cmd/bad/main.go", "package main\n\nfunc main() { x := 1; undefined() }\n")
    return root


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _build(service: ServiceSpec, root: Path, output: Path, **values: Any) -> build.Program:
    return build.build(
        service, rootdir=root, output=output, arch="amd64", **{"coverage": True, **values}
    )


def _packages(program: Path, tmp_path: Path) -> set[str]:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    subprocess.run([program], env={**os.environ, "GOCOVERDIR": str(data)}, check=True)
    command = ["go", "tool", "covdata", "pkglist", f"-i={data}"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_build_covers_the_module(module: Path, tmp_path: Path) -> None:
    output = tmp_path / "web"
    program = _build(spec(module / "cmd", package="./cmd/web"), module, output)
    assert program.import_path == "example.com/m/cmd/web"
    assert program.module_dir == module
    assert _packages(output, tmp_path) == {"example.com/m/cmd/web", "example.com/m/lib"}


def test_unchanged_program_is_not_linked_again(tmp_path: Path) -> None:
    """Go takes it as it is: bytes behind its end are there still. Any change makes a new one."""
    _write(tmp_path / "m/go.mod", "module example.com/m\n\ngo 1.23\n")
    _write(tmp_path / "m/main.go", 'package main\n\nfunc main() { println("one") }\n')
    kept, scratch = tmp_path / "kept", tmp_path / "scratch"
    kept.mkdir()
    scratch.mkdir()
    mark = b"as it was"

    def built(marked: bool, **values: Any) -> str:
        with programs.earlier(scratch / "program", lambda: kept, "m"):
            service = spec(tmp_path / "m", package=".", **values)
            _build(service, tmp_path / "m", scratch / "program")
            content = (scratch / "program").read_bytes()
            assert content.endswith(mark) is marked
            said = subprocess.run(
                [scratch / "program"],
                capture_output=True,
                env={"GOCOVERDIR": str(kept)},
                check=True,
            )
            (scratch / "program").write_bytes(content.removesuffix(mark) + mark)
        assert not list(scratch.iterdir())
        return said.stderr.decode().strip()

    assert built(marked=False) == "one"
    assert built(marked=True) == "one"
    _write(tmp_path / "m/main.go", 'package main\n\nfunc main() { println("two") }\n')
    assert built(marked=False) == "two"
    assert built(marked=True) == "two"
    assert built(marked=False, build_flags=("-ldflags=-X main.x=1",)) == "two"


def test_program_with_c_is_linked_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go does not see that a C library changed (`go help cache`)."""
    monkeypatch.delenv("CGO_ENABLED", raising=False)
    assert build.is_pure(spec(tmp_path))
    assert not build.is_pure(spec(tmp_path, build_env={"CGO_ENABLED": "1"}))
    monkeypatch.setenv("CGO_ENABLED", "1")
    assert not build.is_pure(spec(tmp_path))
    assert build.is_pure(spec(tmp_path, build_env={"CGO_ENABLED": "0"}))


def test_program_of_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is copied, whole or not at all."""
    program, kept = tmp_path / "program", tmp_path / "kept"
    kept.mkdir()

    def far(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "rename", far)
    with programs.earlier(program, lambda: kept, "m"):
        program.write_bytes(b"built")
    assert [path.name for path in kept.iterdir()] == ["m"]
    with programs.earlier(program, lambda: kept, "m"):
        assert program.read_bytes() == b"built"
    assert [path.name for path in kept.iterdir()] == ["m"]

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(shutil.move, "__defaults__", (full,))
    with programs.earlier(program, lambda: kept, "m"):
        assert not program.exists()
        program.write_bytes(b"built")
    assert [path.name for path in kept.iterdir()] == ["m"]
    assert (kept / "m").read_bytes() == b"built"
    assert not program.exists()


def test_program_that_cannot_be_kept(tmp_path: Path) -> None:
    """No room, no permission, or no place at all: it is built, and that is all."""
    program = tmp_path / "program"

    def refused() -> Path:
        raise OSError("no")

    nowhere = tmp_path / "nowhere"
    for place in (None, refused, lambda: nowhere):
        with programs.earlier(program, place, "m"):
            assert not program.exists()
            program.write_bytes(b"built")
        assert not list(tmp_path.iterdir())
    with (
        pytest.raises(BuildError),
        programs.earlier(program, lambda: tmp_path, "m"),
    ):
        program.write_bytes(b"half")
        raise BuildError("does not compile")
    assert [path.name for path in tmp_path.iterdir()] == ["program"]


def test_build_without_coverage_and_root_package(module: Path, tmp_path: Path) -> None:
    output = tmp_path / "m"
    program = _build(spec(module, package="."), module, output, coverage=False)
    assert program.import_path == "example.com/m"
    assert not build.emits(output)


@pytest.mark.parametrize(
    "values", [{"coverpkg": ("./lib",)}, {"build_flags": ("-coverpkg", "./lib", "-tags=x")}]
)
def test_main_package_is_always_covered(
    module: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    output = tmp_path / "web"
    _build(spec(module, package="./cmd/web", **values), module, output)
    assert _packages(output, tmp_path) == {"example.com/m/cmd/web", "example.com/m/lib"}


def test_users_flags_are_left_alone(module: Path, tmp_path: Path) -> None:
    output = tmp_path / "web"
    flags = ("-trimpath", "-ldflags=-s -w -extldflags '-static'", "-covermode=count")
    _build(spec(module, package="./cmd/web", build_flags=flags), module, output)
    assert _packages(output, tmp_path)


def test_silent_zero_is_refused_at_build(module: Path, tmp_path: Path) -> None:
    service = spec(
        module, package="./cmd/web", build_env={"GOFLAGS": "-coverpkg=example.com/m/lib"}
    )
    with pytest.raises(BuildError) as caught:
        _build(service, module, tmp_path / "web")
    assert "GOFLAGS=-coverpkg=example.com/m/lib" in caught.value.cause


def test_build_errors(module: Path, tmp_path: Path) -> None:
    def fails(package: str, **values: Any) -> str:
        with pytest.raises((BuildError, ManifestError)) as caught:
            _build(spec(module, package=package, **values), module, tmp_path / "out")
        return str(caught.value)

    broken = fails("./cmd/bad")
    assert "declared and not used: x" in broken
    assert "undefined: undefined" in broken
    assert "not main" in fails("./lib")
    assert "did you mean cmd/web?" in fails("./cmd/wbe")
    assert "does not know the package example.com/none" in fails("example.com/none")
    assert "must not hold -o" in fails("./cmd/web", build_flags=("-o=x",))


def test_directory_without_a_dot(module: Path, tmp_path: Path) -> None:
    """`cmd/web`, as most people write it; Go itself would look for it in its library."""
    (module / "tests" / "e2e").mkdir(parents=True)
    service = spec(module / "tests" / "e2e", package="cmd/web")
    assert service.directory_of_package(module) == module / "cmd/web"
    assert _build(service, module, tmp_path / "out").import_path.endswith("/cmd/web")
    assert spec(module, package="example.com/none").directory_of_package(module) is None


def test_dynamic_program_is_refused(module: Path, tmp_path: Path) -> None:
    source = '#include <stdio.h>\nint main(void) { puts("x"); return 0; }\n'
    (tmp_path / "c.c").write_text(source)
    subprocess.run(["cc", "-o", tmp_path / "dynamic", tmp_path / "c.c"], check=True)
    subprocess.run(["cc", "-static", "-o", tmp_path / "static", tmp_path / "c.c"], check=True)
    assert build.needs_loader(tmp_path / "dynamic")
    assert not build.needs_loader(tmp_path / "static")
    assert not build.needs_loader(tmp_path / "c.c")


def test_workspace(tmp_path: Path) -> None:
    (tmp_path / "go.work").write_text("go 1.23\n\nuse (\n\t./app\n\t./shared\n)\n")
    _write(tmp_path / "app/go.mod", "module example.com/app\n\ngo 1.23\n")
    _write(tmp_path / "shared/go.mod", "module example.com/shared\n\ngo 1.23\n")
    _write(tmp_path / "shared/s.go", "package shared\n\nfunc S() int { return 1 }\n")
    _write(
        tmp_path / "app/main.go",
        'package main\n\nimport "example.com/shared"\n\nfunc main() { println(shared.S()) }\n',
    )
    output = tmp_path / "out"
    _build(spec(tmp_path, package="./app"), tmp_path, output)
    assert _packages(output, tmp_path) == {"example.com/app", "example.com/shared"}


def test_main_package_of_another_module(tmp_path: Path) -> None:
    """A vendored tool: Go alone would cover only its main package."""
    _write(
        tmp_path / "repo/go.mod",
        "module example.com/repo\n\ngo 1.24\n\nrequire example.com/dep v0.0.0\n\n"
        "replace example.com/dep => ../dep\n\ntool example.com/dep/cmd/tool\n",
    )
    _write(tmp_path / "dep/go.mod", "module example.com/dep\n\ngo 1.23\n")
    _write(tmp_path / "dep/lib/l.go", "package lib\n\nfunc L() int { return 1 }\n")
    _write(
        tmp_path / "dep/cmd/tool/main.go",
        'package main\n\nimport "example.com/dep/lib"\n\nfunc main() { println(lib.L()) }\n',
    )
    output = tmp_path / "out"
    repo = tmp_path / "repo"
    _build(spec(repo, package="example.com/dep/cmd/tool"), repo, output)
    assert _packages(output, tmp_path) == {"example.com/dep/cmd/tool", "example.com/dep/lib"}
