"""Bad input on a real cluster: each ends in one clear error, and nothing is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import ONE_ENGINE

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Runner

GO_MOD = "module example.com/m\n\ngo 1.23\n"
WEB = """package main

import (
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {})
	if os.Getenv("DIE") != "" {
		println("cannot open the database")
		os.Exit(3)
	}
	go http.ListenAndServe(":8080", nil)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}
"""
BROKEN = "package main\n\nfunc main() {\n\tvar unused int\n\tmissing()\n}\n"
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  containers: [{{name: web, image: "{image}"{more}}}]
"""
CONFTEST = """
from pytest_kindcov import go_service

package = go_service("./cmd/wbe", port=8080)
compiles = go_service("./cmd/broken", port=8080)
yaml = go_service("./cmd/web", manifests="invalid.yaml", image="web", port=8080, name="yaml")
image = go_service("./cmd/web", manifests="other.yaml", image="web", port=8080, name="image")
missing = go_service("./cmd/web", manifests="deploy/", image="web", port=8080, name="missing")
schema = go_service("./cmd/web", manifests="schema.yaml", image="schema:1", name="schema")
port = go_service("./cmd/web", manifests="port.yaml", image="port:1", port=9999, name="port")
shell = go_service("./cmd/web", manifests="shell.yaml", image="shell:1", port=8080, name="shell")
dies = go_service("./cmd/web", manifests="dies.yaml", image="dies:1", port=8080, timeout=25,
                  env={"DIE": "1"}, name="dies")
good = go_service("./cmd/web", port=8080, name="good")
"""
NAMES = (
    "package", "compiles", "yaml", "image", "missing", "schema", "port", "shell", "dies", "good",
)  # fmt: skip


@ONE_ENGINE
def test_bad_input(runner: Runner, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    _write(repository / "go.mod", GO_MOD)
    _write(repository / "cmd/web/main.go", WEB)
    _write(repository / "cmd/broken/main.go", BROKEN)
    _write(repository / "invalid.yaml", "apiVersion: v1\nkind: [Pod\n")
    _write(
        repository / "other.yaml", POD.format(name="p", image="registry.example/other:1", more="")
    )
    _write(
        repository / "schema.yaml", POD.format(name="schema", image="schema:1", more=", ports: 7")
    )
    _write(repository / "port.yaml", POD.format(name="port", image="port:1", more=""))
    shell = ', command: ["/bin/sh", "-c", "exec /web"]'
    _write(repository / "shell.yaml", POD.format(name="shell", image="shell:1", more=shell))
    _write(repository / "dies.yaml", POD.format(name="dies", image="dies:1", more=""))
    _write(repository / "conftest.py", CONFTEST)
    tests = [f"def test_{name}({name}): {name}.url\n" for name in NAMES]
    _write(repository / "test_bad.py", "\n".join(tests))

    run = runner(repository, "--kind-coverage")
    assert run.code == 1
    assert f"1 passed, {len(NAMES) - 1} errors" in run.output
    assert "Traceback" not in run.output
    for expected in (
        "service wbe: ./cmd/wbe does not exist",
        "did you mean cmd/web?",
        "example.com/m/cmd/broken does not compile",
        "declared and not used: unused",
        "undefined: missing",
        "invalid.yaml is not valid YAML",
        "line 2, column",
        "service image: no manifest uses the image web",
        "they use registry.example/other:1",
        "service missing: deploy/ does not exist",
        "cannot apply Pod schema",
        "service port: nobody listens on its port 9999",
        "listens on 8080",
        "Pod shell, container web: its command starts with /bin/sh",
        "cannot open the database",
    ):
        assert expected in run.output, expected
    # The good service's coverage is there all the same.
    assert "TOTAL" in run.output
    assert runner.left_behind() == []


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
