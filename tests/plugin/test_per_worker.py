"""Which instance a test gets, in runs whose owner deploys nothing but says what it was asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

CONFTEST = """
from types import SimpleNamespace

from pytest_kindcov import GoService, go_service
from pytest_kindcov.service.deploy import Deployed
from pytest_kindcov.session.provision import Provision

orders = go_service("./cmd/orders", namespace="shop", per_worker=True)
shared = go_service("./cmd/shared", namespace="shop")


class Provider:
    def provide(self, spec):
        namespace = "-".join(filter(None, [spec.namespace, spec.worker]))
        print(f"provided {spec.title} in {namespace}", file=open("log", "a"))
        service = GoService(spec.title, namespace, "node", 1, worker=spec.worker)
        return service, Deployed(spec.title, "i", spec.worker, (), frozenset(), frozenset())


class Fake:
    # In the controller, or in a run without workers; workers never make one.
    _provider = Provider()

    def _make_cluster(self):
        return SimpleNamespace(
            name="none", kubeconfig_path="", kind_path="", kubectl_path="",
            engine=SimpleNamespace(name="podman"),
        )

    def _wait_node_ready(self):
        pass


for name in ("_provider", "_make_cluster", "_wait_node_ready"):
    setattr(Provision, name, Fake.__dict__[name])
"""
SUITE = """
import os
import time

import pytest

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

@pytest.mark.parametrize("number", range(4))
def test(orders, shared, number):
    assert orders.worker == WORKER
    assert orders.namespace == (f"shop-{WORKER}" if WORKER else "shop")
    assert orders.name == "orders"
    assert (shared.namespace, shared.worker) == ("shop", "")
    time.sleep(0.2)  # so that each worker gets some
"""


def provided(pytester: pytest.Pytester) -> list[str]:
    return sorted(re.findall("provided (.*)", (pytester.path / "log").read_text()))


def test_each_worker_gets_its_own(pytester: pytest.Pytester, mode: list[str]) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess(*mode)
    result.assert_outcomes(passed=4)
    own = ["orders in shop-gw0", "orders in shop-gw1"] if "-n" in mode else ["orders in shop"]
    assert provided(pytester) == [*own, "shared in shop"]


def test_no_workers(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    pytester.runpytest_subprocess("-n", "0").assert_outcomes(passed=4)
    assert provided(pytester) == ["orders in shop", "shared in shop"]


def test_a_new_worker_gets_a_new_instance(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import os

        def test_crash(orders):
            os._exit(1)

        def test_after(orders):
            assert orders.namespace == "shop-" + os.environ["PYTEST_XDIST_WORKER"]
        """
    )
    result = pytester.runpytest_subprocess("-n", "1")
    result.assert_outcomes(passed=1, failed=1)
    assert provided(pytester) == ["orders in shop-gw0", "orders in shop-gw1"]
