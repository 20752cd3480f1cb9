"""Some seeded random runs; `python bench/soak.py` makes any number of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import randomrun
from harness import ONE_ENGINE, Runner

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from faulttable import Cluster
    from harness import TestEngine

RUNS = 5


@ONE_ENGINE
def test_soak(
    shared: Cluster,
    engine: TestEngine,
    node_image: str,
    kind_bin: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def make() -> tuple[Runner, Path]:
        place = tmp_path_factory.mktemp("soak")
        return Runner.within(place, engine, node_image, kind_bin), place / "repository"

    assert randomrun.soak(range(1, RUNS + 1), make, shared) == {}
