"""The kubelet's probes, as its metrics and the pods' manifests tell of them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_kindcov.harvest.probes import _declared, counts

METRICS = """\
# TYPE prober_probe_total counter
prober_probe_total{container="web",namespace="shop",pod="a",probe_type="Liveness",result="failed"} 1
prober_probe_total{container="web",namespace="shop",pod="a",probe_type="Liveness",result="successful"} 3
prober_probe_total{container="web",namespace="shop",pod="a",probe_type="Readiness",result="failed"} 2
prober_probe_duration_seconds_count{container="web",namespace="shop",pod="a",probe_type="Liveness"} 9
"""  # noqa: E501 (as it is)


def test_metrics_of_the_kubelet() -> None:
    assert counts(METRICS) == {
        ("shop", "a", "web", "Liveness"): (4.0, 3.0),
        ("shop", "a", "web", "Readiness"): (2.0, 0.0),
    }


@pytest.mark.parametrize(
    ("http", "asks"),
    [
        ({"path": "/healthz", "port": "http"}, (8080, "/healthz")),
        ({"port": 9000}, (9000, "/")),
        ({"path": "/healthz", "port": "other"}, None),
        ({"path": "/a b", "port": 80}, None),
        ({"path": "/", "port": 80, "scheme": "HTTPS"}, None),
        ({"path": "/", "port": 80, "httpHeaders": [{"name": "X", "value": "y"}]}, None),
        ({"path": "/", "port": 80, "host": "10.0.0.1"}, None),
    ],
)
def test_only_plain_requests_are_made_again(http: dict[str, Any], asks: Any) -> None:
    container = {"ports": [{"name": "http", "containerPort": 8080}]}
    (found,) = _declared({**container, "livenessProbe": {"httpGet": http, "periodSeconds": 3}})
    assert (found.kind, found.period, found.asks) == ("Liveness", 3.0, asks)


def test_other_probes_have_a_period_only() -> None:
    (found,) = _declared({"readinessProbe": {"exec": {"command": ["true"]}}})
    assert (found.kind, found.period, found.asks) == ("Readiness", 10.0, None)
