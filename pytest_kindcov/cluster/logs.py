"""What a cluster left, saved before it is deleted: bounded in size and time, without secrets."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kindcov._run import run
from pytest_kindcov._text import Secrets, clean
from pytest_kindcov.cluster.node import Node, on_all
from pytest_kindcov.errors import KindCovError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_kindcov.cluster.engine import Engine

# Seconds for one command, and for all of a node's. Each takes 0.1 to 0.5 s on a node that is well.
_COMMAND = 15.0
_ALL = 60.0
# Bytes. A node's journal was 0.3 MB after its start and 1.1 MB after five minutes of a kubelet
# that cannot start.
_JOURNAL = 4 << 20
_POD_LOG = 128 << 10
_POD_LOGS = 16 << 20
_OBJECTS = 32 << 20
_BOOT_LINES = 2000
_KEPT = 5
_OURS = re.compile(r"kindcov-[0-9]+-[0-9a-z]+")

_POD_LOG_SCRIPT = """
cd /var/log/pods 2> /dev/null || exit 0
for file in */*/*.log; do
    [ -f "$file" ] && [ ! -L "$file" ] || continue
    printf '=== %s\\n' "$file"
    tail -c "$1" -- "$file"
    printf '\\n'
done | head -c "$2"
"""
_KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=5s"
_SCRIPTS = {
    "journal.log": 'journalctl --no-pager | tail -c "$1"',
    "kubelet.log": 'journalctl --no-pager -u kubelet | tail -c "$1"',
    "containerd.log": 'journalctl --no-pager -u containerd | tail -c "$1"',
    "containers.txt": 'if command -v crictl > /dev/null; then crictl ps -a | tail -c "$1"; else'
    ' ctr -n k8s.io tasks ls | tail -c "$1"; fi',
    "host.txt": "df -h / /var; free -m; cat /proc/loadavg; head -n 1 /kind/version",
}


@dataclass
class Logs:
    """What was collected: texts by file name, with a node's under `NODE/`."""

    files: dict[str, str] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        """By source, as `diagnose.findings` takes them."""
        return {
            "kind": self.files.get("kind.log", ""),
            "boot": self._all("state.txt", "boot.log"),
            "node": self._all("journal.log"),
            "pods": _of_system(self._all("pod-logs.txt")) + self.files.get("events.txt", ""),
        }

    def save(self, directory: Path) -> None:
        """Write all files, and remove those of earlier runs but the last few.

        Args:
            directory: of this cluster's logs; files that are there are replaced.

        """
        for name, text in self.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="replace")
        (directory.parent / ".gitignore").write_text("*\n")
        ours = [
            path
            for path in directory.parent.iterdir()
            if _OURS.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        ]
        for old in sorted(ours, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def _all(self, *ends: str) -> str:
        return "\n".join(
            text for end in ends for name, text in self.files.items() if name.endswith("/" + end)
        )


def collect(engine: Engine, nodes: Sequence[str], *, output: str = "") -> Logs:
    """Collect what there is; what cannot be had says so in its file.

    Args:
        engine: of the cluster.
        nodes: names of its containers, also stopped ones.
        output: what kind printed.

    """
    secrets = Secrets()
    logs = Logs()
    if output:
        logs.files["kind.log"] = output
    found = on_all([Node(name, engine) for name in nodes], _of_node)
    pods: list[dict[str, Any]] = []
    for node, files in zip(nodes, found, strict=True):
        # Each control plane knows all events and pods.
        events = files.pop("events.txt", "")
        logs.files["events.txt"] = logs.files.get("events.txt") or events
        pods = _pods(files.pop("pods.json", "")) or pods
        logs.files |= {f"{node}/{name}": text for name, text in files.items()}
    secrets.add(_variables(pods))
    if pods:
        logs.files["pods.txt"] = "\n".join(line for pod in pods for line in describe(pod))
    logs.files = {name: secrets.hide(clean(text)) for name, text in logs.files.items()}
    return logs


def describe(pod: Mapping[str, Any]) -> list[str]:
    """A pod's state, line by line; not its environment and arguments, which may hold secrets."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    status = pod.get("status") or {}
    lines = [
        f"{metadata.get('namespace')}/{metadata.get('name')}",
        f"  phase {status.get('phase')} {status.get('reason') or ''}, node"
        f" {spec.get('nodeName') or 'none'}, started {status.get('startTime')}",
    ]
    for condition in status.get("conditions") or []:
        told = " ".join(filter(None, [condition.get("reason"), condition.get("message")]))
        lines.append(f"  condition {condition.get('type')}={condition.get('status')} {told}")
    for kind in ("init", ""):
        statuses = {
            item.get("name"): item
            for item in status.get(f"{kind}ContainerStatuses" if kind else "containerStatuses")
            or []
        }
        for container in spec.get(f"{kind}Containers" if kind else "containers") or []:
            now = statuses.get(container.get("name")) or {}
            lines.append(f"  {kind}container {container.get('name')}: {container.get('image')}")
            lines.append(
                f"    ready {now.get('ready')}, restarts {now.get('restartCount')},"
                f" now {json.dumps(now.get('state'))}, before {json.dumps(now.get('lastState'))}"
            )
            lines += [
                f"    {key} {json.dumps(container[key])}"
                for key in ("resources", "readinessProbe", "livenessProbe", "startupProbe", "ports")
                if container.get(key)
            ]
    return lines


def _of_node(node: Node) -> dict[str, str]:
    """All that one node gives; nothing more is asked once a command ran over its deadline."""
    deadline = time.monotonic() + _ALL
    files = {"state.txt": _state(node), "boot.log": _boot(node)}
    wanted = {
        name: ["bash", "-c", script, "kindcov", str(_JOURNAL)] for name, script in _SCRIPTS.items()
    }
    wanted["pod-logs.txt"] = [
        "bash", "-c", _POD_LOG_SCRIPT, "kindcov", str(_POD_LOG), str(_POD_LOGS),
    ]  # fmt: skip
    if not re.search(r"-worker\d*$", node.name):
        events = f'{_KUBECTL} get events -A --sort-by=.lastTimestamp | tail -c "$1"'
        pods = f'{_KUBECTL} get pods -A -o json | head -c "$1"'
        wanted["events.txt"] = ["bash", "-c", events, "kindcov", str(_JOURNAL)]
        wanted["pods.json"] = ["bash", "-c", pods, "kindcov", str(_OBJECTS)]
    for name, command in wanted.items():
        left = deadline - time.monotonic()
        if left <= 0:
            files[name] = "not collected: the node takes too long to answer\n"
            continue
        try:
            files[name] = node.run(command, timeout=min(_COMMAND, left)).stdout.decode(
                errors="replace"
            )
        except KindCovError as error:
            files[name] = f"not collected: {error.headline}\n"
            if "did not end" in error.what:
                deadline = time.monotonic()
    return files


def _state(node: Node) -> str:
    """How the container fares, in one line that the catalogue understands."""
    form = (
        "State: {{.State.Status}}, exit code {{.State.ExitCode}}"
        "{{if .State.OOMKilled}}, OOMKilled{{end}} {{.State.Error}}"
    )
    return _engine_says(node, ["inspect", "--format", form, node.name])


def _boot(node: Node) -> str:
    return _engine_says(node, ["logs", "--tail", str(_BOOT_LINES), node.name])


def _engine_says(node: Node, args: list[str]) -> str:
    try:
        done = run([node.engine.name, *args], timeout=_COMMAND)
    except KindCovError as error:
        return f"not collected: {error.headline}\n"
    return (done.stdout + done.stderr)[-_JOURNAL:].decode(errors="replace")


def _pods(text: str) -> list[dict[str, Any]]:
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return [pod for pod in json.loads(text).get("items") or [] if isinstance(pod, dict)]
    return []


def _variables(pods: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The variables that pods were given by name and value."""
    found = []
    for pod in pods:
        spec = pod.get("spec") or {}
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
            found += [
                (str(variable.get("name")), str(variable["value"]))
                for variable in container.get("env") or []
                if variable.get("value")
            ]
    return found


def _of_system(pod_logs: str) -> str:
    """The sections of the cluster's own pods."""
    sections = re.split(r"^(?==== )", pod_logs, flags=re.MULTILINE)
    return "".join(section for section in sections if section.startswith("=== kube-system_"))
