"""A user's conftest and tests, typed: two type checkers read this file, nothing runs it."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import pytest

from pytest_kindcov import Coverage, GoService, KindCluster, KindCov, go_service
from pytest_kindcov.covdata import store

orders = go_service(
    "./cmd/orders",
    manifests=["deploy/", Path("more.yaml")],
    image="example/orders:dev",
    port=8080,
    namespace="shop",
    coverpkg=["./...", "example.com/library/..."],
    build_flags="-tags=e2e",
    build_env={"CGO_ENABLED": "0"},
    env={"LOG": "debug"},
    timeout=300,
    per_worker=True,
)
ready_made = go_service(image="example/orders:dev", manifests=Path("deploy"))


@pytest.fixture
def url(orders: GoService) -> str:
    return orders.url


def test_service(orders: GoService, url: str) -> None:
    assert_type(orders.port, int)
    assert_type(orders.coverage(), Coverage)
    assert url.startswith(orders.scheme)


def test_run(kindcov: KindCov, kind_cluster: KindCluster) -> None:
    with kindcov.context("checkout"):
        assert_type(kindcov.settle(0.2), bool)
    ran = kindcov.snapshot()
    assert_type(ran.percent, str)
    assert_type(ran.covered, int)
    assert_type(kind_cluster.kubectl("get", "pods"), str)
    kind_cluster.load_docker_image("postgres:17")


def test_files() -> None:
    for program in store.read([Path("covdata")]).programs:
        assert_type(program.meta.hash, bytes)


def wrong() -> None:
    go_service(8080)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    go_service("./cmd/orders", manifest="deploy/")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
