"""Real coverage data, built once for all tests."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import pytest
import shop as shops
from gocover import MIX, Go, run
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shop import Shop

# No test is timed: on a busy machine that says nothing of the code.
settings.register_profile(
    "kindcov",
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)
settings.load_profile("kindcov")

# Arguments of four processes that do different things.
RUNS = (("7", "300"), ("7", "20000"), ("x",), ("0", "1"))


@pytest.fixture(scope="session")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The data of four runs of the program `mix`, by counter mode."""
    done: dict[str, Path] = {}

    def data(mode: str) -> Path:
        if mode not in done:
            directory = tmp_path_factory.mktemp(mode)
            program = Go().build(MIX, directory / "mix", f"-covermode={mode}", "-coverpkg=./...")
            for arguments in RUNS:
                run(program, directory / "data", *arguments)
            done[mode] = directory / "data"
        return done[mode]

    return data


@pytest.fixture(scope="session")
def built_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The repository of `support/shop.py`, built and run; not to be changed."""
    return shops.make(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(built_shop: Shop, tmp_path: Path) -> Shop:
    """A copy of it that a test may change."""
    shutil.copytree(built_shop.root, tmp_path / "repo", symlinks=True)
    return dataclasses.replace(built_shop, root=tmp_path / "repo")
