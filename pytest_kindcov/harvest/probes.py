"""The kubelet's probes: when each came, by its own metrics, and what each runs.

A probe that only ever fell into tests was never seen alone, and looks like the test's own work. So
the kubelet is asked how often it probed, and at the end each probe that it made is made once more,
from the node and as the kubelet does it, while nothing else runs: that covers nothing new.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindcov.cluster.shell import Shell
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.harvest.background import Probe, narrowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_kindcov.cluster.api import Api, Object
    from pytest_kindcov.cluster.node import Node
    from pytest_kindcov.harvest.attribute import Sighted
    from pytest_kindcov.harvest.background import Span
    from pytest_kindcov.harvest.files import Container
    from pytest_kindcov.harvest.record import Recorder

    Key = tuple[str, str, str, str]
    """Namespace, pod, container, and the probe's type as the metrics name it."""

_KINDS = {"readinessProbe": "Readiness", "livenessProbe": "Liveness", "startupProbe": "Startup"}
_PERIOD = 10.0  # Kubernetes' default periodSeconds
_COUNT = re.compile(r"^prober_probe_total\{([^}]*)\} (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
# Seconds for one request to a pod; a probe's own default is 1.
_TIMEOUT = 5.0
# Requests as the kubelet makes them: an address, a port and a path a line.
_ASK = r"""
while read -r host port path; do
  {
    printf 'GET %s HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\n' \
      "$path" "$host" "$port" >&3
    printf 'Connection: close\r\n\r\n' >&3
    cat <&3 >/dev/null
  } 3<>"/dev/tcp/$host/$port" 2>/dev/null
  printf '\0\0\0\0'
done
"""


@dataclass(frozen=True)
class Declared:
    """A probe that a pod's container declares.

    Args:
        kind: as the metrics name it: `Readiness`, `Liveness` or `Startup`.
        period: seconds.
        asks: port and path of a plain HTTP request; None for all others.

    """

    kind: str
    period: float
    asks: tuple[int, str] | None


class Probes:
    """Watches the probes of all nodes from now on.

    Args:
        api: the cluster, when it is there.
        nodes: all its nodes.
        interval: seconds between two questions to the kubelets; 0 for none.

    """

    def __init__(self, api: Callable[[], Api], nodes: Sequence[Node], interval: float) -> None:
        self._api = api
        self._nodes = list(nodes)
        self._interval = interval
        self._counts: dict[Key, float] = {}
        self._passed: set[Key] = set()
        self._due: dict[Key, list[Span]] = {}
        self._declared: dict[tuple[str, str], list[Declared]] = {}
        self._runs: dict[tuple[bytes, str, str, str], Sighted] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kindcov-probes", daemon=True)
        if interval:
            self._thread.start()

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()
        if self._interval:
            self._thread.join(timeout=10)

    def learn(self, pods: Iterable[Object], recorder: Recorder) -> None:
        """Keep what pods declare, and make each probe once that the kubelet made with success.

        Args:
            pods: all of the cluster.
            recorder: sees what they run.

        """
        self.close()
        shells: dict[str, Shell] = {}
        asked: set[tuple[str, str, str]] = set()
        by_name = {node.name: node for node in self._nodes}
        try:
            for pod in pods:
                namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
                node, address = pod["spec"].get("nodeName"), (pod.get("status") or {}).get("podIP")
                for container in pod["spec"]["containers"]:
                    declared = list(_declared(container))
                    self._declared.setdefault((namespace, container["name"]), declared)
                    for probe in declared:
                        once = namespace, container["name"], probe.kind
                        made = (namespace, name, *once[1:]) in self._passed
                        if not made or probe.asks is None or once in asked or not address:
                            continue
                        if not recorder.reads(namespace, container["name"]) or node not in by_name:
                            continue
                        asked.add(once)
                        if node not in shells:
                            shells[node] = Shell(by_name[node], ["bash", "-c", _ASK])
                        self._ask(shells[node], address, probe, recorder, once)
        finally:
            for shell in shells.values():
                shell.close()

    def periods(self, container: Container) -> list[float]:
        """Seconds between the probes that a container declares."""
        declared = self._declared.get((container.namespace, container.name), [])
        return [probe.period for probe in declared]

    def known(self, build: bytes, container: Container) -> list[Probe]:
        """The probes of a container of which is known when they came and what they run.

        Args:
            build: hash of the program's meta data.
            container: where it runs.

        """
        found = []
        for probe in self._declared.get((container.namespace, container.name), []):
            sighted = self._runs.get((build, container.namespace, container.name, probe.kind))
            due = self._due.get((container.namespace, container.pod, container.name, probe.kind))
            if sighted and due:
                found.append(Probe(*sighted, narrowed(due, probe.period)))
        return found

    def _ask(
        self,
        shell: Shell,
        address: str,
        probe: Declared,
        recorder: Recorder,
        once: tuple[str, str, str],
    ) -> None:
        assert probe.asks is not None
        port, path = probe.asks
        request = f"{address} {port} {path}\n".encode()
        with contextlib.suppress(KindCovError):  # then its probes are told by their period only
            shell.ask(b"127.0.0.1 1 /\n", _TIMEOUT)  # the shell's own start is not in the way
            seen = recorder.background(lambda: shell.ask(request, _TIMEOUT))
            for build, sighted in seen.items():
                self._runs[build, *once] = sighted

    def _watch(self) -> None:
        asked: dict[str, float] = {}
        while not self._closed.wait(self._interval):
            for node in self._nodes:
                begin = time.monotonic()
                try:
                    text = self._api().raw(f"/api/v1/nodes/{node.name}/proxy/metrics/probes")
                except KindCovError:
                    continue  # as long as it does not answer, the periods have to do
                self._note(text.decode(errors="replace"), asked.get(node.name))
                asked[node.name] = begin

    def _note(self, text: str, since: float | None) -> None:
        """Keep what came since the last answer.

        Args:
            text: the kubelet's metrics.
            since: seconds, of the question before this one; None if this is the first.

        """
        now = time.monotonic()
        for key, (count, passed) in counts(text).items():
            if passed:
                self._passed.add(key)
            if since is not None and count > self._counts.get(key, 0):
                self._due.setdefault(key, []).append((since, now))
            self._counts[key] = count


def counts(text: str) -> dict[Key, tuple[float, float]]:
    """How often the kubelet probed, by its metrics: all, and those with success.

    Args:
        text: answer of the kubelet's `/metrics/probes`, in Prometheus' text format.

    """
    found: dict[Key, tuple[float, float]] = {}
    for labels, number in _COUNT.findall(text):
        label = dict(_LABEL.findall(labels))
        names = [label.get(name, "") for name in ("namespace", "pod", "container", "probe_type")]
        key = names[0], names[1], names[2], names[3]
        count, passed = found.get(key, (0.0, 0.0))
        success = float(number) if label.get("result") == "successful" else 0.0
        found[key] = count + float(number), passed + success
    return found


def _declared(container: Object) -> Iterable[Declared]:
    """The probes of a container."""
    for field, kind in _KINDS.items():
        probe = container.get(field)
        if probe:
            period = float(probe.get("periodSeconds") or _PERIOD)
            yield Declared(kind, period, _asks(container, probe.get("httpGet") or {}))


def _asks(container: Object, http: Object) -> tuple[int, str] | None:
    """Port and path of a plain HTTP probe that needs nothing else."""
    path = str(http.get("path") or "/")
    if not http or http.get("host") or http.get("httpHeaders") or re.search(r"\s", path):
        return None
    if str(http.get("scheme") or "HTTP") != "HTTP":
        return None
    port = http.get("port", "")
    for named in container.get("ports") or []:
        if named.get("name") == port:
            port = named["containerPort"]
    return (int(port), path) if str(port).isdigit() else None
