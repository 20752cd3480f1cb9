"""One cluster for all faults that leave it whole, and runs of pytest in it or beside it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from typing import TYPE_CHECKING

import faulttable
import pytest
from harness import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from faulttable import Cluster, Launch, Result
    from harness import TestEngine


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A row that is tried again is tried with a new run of pytest, not with the same result."""
    if getattr(item, "execution_count", 1) > 1:  # pytest-rerunfailures counts them
        fixtures = item.session._fixturemanager
        for name in ("result", "full_node"):
            for fixture in fixtures.getfixturedefs(name, item) or ():
                fixture.finish(item._request)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def shared(
    engine: TestEngine, node_image: str, kind_bin: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster that is there before the runs, and after."""
    cluster = faulttable.Cluster(f"kindcov-faults-{os.getpid()}", engine)
    config = tmp_path_factory.mktemp("shared") / "kubeconfig"
    words = ["--name", cluster.name, "--kubeconfig", str(config)]
    create = [kind_bin, "create", "cluster", *words, "--image", node_image, "--wait", "60s"]
    try:
        subprocess.run(create, env=engine.env, timeout=300, check=True)
        objects = cluster.exec(*faulttable.OBJECTS).split()
        yield dataclasses.replace(cluster, objects=tuple(objects))
    finally:
        delete = [kind_bin, "delete", "cluster", *words]
        subprocess.run(delete, env=engine.env, timeout=120, check=True)


@pytest.fixture(scope="session")
def launch(
    engine: TestEngine, node_image: str, kind_bin: str, tmp_path_factory: pytest.TempPathFactory
) -> Launch:
    """Runs pytest, each time in a repository of its own."""

    def go(
        conftest: str,
        tests: str,
        *args: str,
        files: Mapping[str, str] = {},
        cluster: Cluster | None = None,
        env: Mapping[str, str] = {},
    ) -> Result:
        place = tmp_path_factory.mktemp("faults")
        runner = Runner.within(place, engine, node_image, kind_bin)
        runner.env.update(env)
        where = faulttable.repository(place / "repository", conftest, tests, files)
        return faulttable.run(runner, where, *args, cluster=cluster)

    return go
