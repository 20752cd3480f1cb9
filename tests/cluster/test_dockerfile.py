"""A service with a Dockerfile of its own: the same file, the same manifests, and its coverage."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from harness import ONE_ENGINE, ROOT, Runner

# No base image can be pulled everywhere: the Go toolchain comes with the build context.
DOCKERFILE = """
FROM scratch AS build
LABEL kindcov-test=1
COPY go /usr/local/go
WORKDIR /tmp
ENV PATH=/usr/local/go/bin CGO_ENABLED=0 GOCACHE=/tmp/cache GOPATH=/tmp/go \\
    GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
COPY src /src
WORKDIR /src
RUN ["/usr/local/go/bin/go", "build", "-ldflags=-s -w", "-o", "/orders", "./cmd/orders"]

FROM scratch
LABEL kindcov-test=1
COPY --from=build /orders /app/orders
USER 65532
ENTRYPOINT ["/app/orders"]
"""
CONFTEST = """
from pytest_kindcov import go_service
orders = go_service(
    dockerfile="build/Dockerfile", manifests="src/deploy", image="registry.example/orders:dev",
    port=8080, name="orders",
)
"""


@ONE_ENGINE
def test_dockerfile(runner: Runner, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    ignored = shutil.ignore_patterns(".*", "conftest.py", "tests", "pytest.ini")
    shutil.copytree(ROOT / "examples/orders", repository / "src", ignore=ignored)
    shutil.copytree(ROOT / "examples/orders/tests", repository / "tests")
    (repository / "build").mkdir()
    (repository / "build/Dockerfile").write_text(DOCKERFILE)
    (repository / "conftest.py").write_text(CONFTEST)
    (repository / "pytest.ini").write_text("[pytest]\n")
    command = ["go", "env", "GOROOT"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    root = Path(answer.stdout.strip())
    for part in ("bin", "src", "pkg", "VERSION", "go.env"):
        source = root / part
        if source.is_dir():
            shutil.copytree(source, repository / "go" / part, symlinks=True)
        elif source.exists():
            shutil.copy(source, repository / "go" / part)
    try:
        run = runner(repository, "--kind-coverage", timeout=580)
        assert run.code == 0
        assert "example.com/orders/internal/store" in run.output
        assert float(run.total().rstrip("%")) > 50
        assert runner.left_behind() == []
        assert "orders" not in runner.engine.run("images", "--format", "{{.Repository}}")
    finally:
        runner.engine.run("image", "prune", "-f", "--filter", "label=kindcov-test")
