"""Tests of the services; tests/cluster/test_deploys.py runs them, as `test_deploys.py`."""

from __future__ import annotations

import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes import client, config

if TYPE_CHECKING:
    from pytest_kindcov import GoService


def get(service: GoService, path: str, tries: int = 25) -> int:
    """The status of an answer. Until kube-proxy knows of a new pod, others or nobody may answer."""
    for left in reversed(range(tries)):
        try:
            with urllib.request.urlopen(service.url + path, timeout=20) as answer:
                return int(answer.status)
        except OSError:
            if not left:
                raise
            time.sleep(0.2)
    raise AssertionError


def test_all_kinds(many: GoService) -> None:
    assert get(many, "/alpha") == 200
    kinds = sorted(kind for _, kind, _ in many.workloads)
    assert kinds == ["CronJob", "DaemonSet", "Job", "Pod", "StatefulSet"]


def test_cron_job(many: GoService, kind_cluster: Any) -> None:
    with config.new_client_from_config(str(kind_cluster.kubeconfig_path)) as api:
        batch = client.BatchV1Api(api)
        template = batch.read_namespaced_cron_job("nightly", "default").spec.job_template
        metadata = client.V1ObjectMeta(name="by-hand")
        batch.create_namespaced_job("default", client.V1Job(metadata=metadata, spec=template.spec))
        many.wait(lambda: batch.read_namespaced_job("by-hand", "default").status.succeeded)


def test_bare_pod_is_not_restarted(many: GoService) -> None:
    with pytest.raises(Exception, match="pod bare cannot be restarted"):
        many.restart()


def test_made_by_an_operator(made: GoService, operator: GoService) -> None:
    assert get(made, "/beta") == 200
    assert made.workloads == (("made", "Pod", "made-0"),)
    made.restart()
    assert get(made, "/alpha") == 200


def test_given_by_a_function(given: GoService) -> None:
    assert get(given, "/alpha") == 200


def test_deployed_by_a_function(tool: GoService) -> None:
    assert get(tool, "/beta") == 200
    assert "bye" not in tool.logs()


def test_restart(digest: GoService) -> None:
    digest.restart()
    assert get(digest, "/alpha") == 200


def test_scale(digest: GoService) -> None:
    digest.scale(0)
    with pytest.raises(OSError):
        get(digest, "/alpha", 1)
    with pytest.raises(Exception, match="no pod is ready"):
        digest.exec(["/digest"])
    digest.scale(2)
    assert get(digest, "/beta") == 200
    digest.scale(1)
    assert get(digest, "/beta") == 200


def test_exec(digest: GoService) -> None:
    done = digest.exec(["/digest"], check=False)
    assert done.code == 2
    assert "address already in use" in done.stderr
    with pytest.raises(Exception, match=r"exit code 2 \[exec-failed\]"):
        digest.exec(["/digest"])
    with pytest.raises(Exception, match="exec-refused"):
        digest.exec(["/bin/sh"])


def test_wait_says_what_came_last(digest: GoService) -> None:
    with pytest.raises(Exception, match="condition-not-met") as error:
        digest.wait(lambda: get(digest, "/nothing") == 200, timeout=0.5, what="something")
    assert "service digest: something: not within" in str(error.value)
    assert "HTTP Error 404" in str(error.value)
    assert ", ready" in str(error.value)
