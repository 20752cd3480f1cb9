"""Laws of the formats and of the model: what is written is read, merging has no order."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gocover import MIX, Go
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kindcov.covdata import counters, meta, profile, uleb
from pytest_kindcov.covdata.memory import Region
from pytest_kindcov.covdata.model import (
    Granularity,
    Meta,
    Mode,
    Package,
    merge,
    subtract,
)
from pytest_kindcov.covdata.paths import Repository
from pytest_kindcov.covdata.totals import Total
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindcov.covdata.model import Counters

WORD = st.integers(0, 2**32 - 1)
COUNT = st.one_of(st.integers(0, 3), st.integers(120, 130), st.integers(2**32 - 3, 2**32 - 1), WORD)
NAME = st.text(min_size=1, max_size=8)
COUNTING = st.sampled_from([Mode.SET, Mode.COUNT, Mode.ATOMIC])


@st.composite
def programs(draw: st.DrawFn) -> Meta:
    """Any meta data: empty packages, functions without units, any names."""
    packages, strings, names, files, literals = [], [], [], [], []
    sizes: list[int] = []
    starts, tables = [0], [0]
    for number in range(draw(st.integers(0, 3))):
        table = ["", *draw(st.lists(NAME, min_size=1, max_size=4, unique=True))]
        path = f"p{number}/{draw(NAME)}"
        packages.append(Package(path, table[-1], "", draw(st.binary(min_size=16, max_size=16))))
        table.append(path)
        for _ in range(draw(st.integers(0, 4))):
            names.append(tables[-1] + draw(st.integers(0, len(table) - 1)))
            files.append(tables[-1] + draw(st.integers(0, len(table) - 1)))
            literals.append(draw(st.booleans()))
            sizes.append(draw(st.sampled_from([0, 1, 2, 5, 130])))
        strings += table
        tables.append(len(strings))
        starts.append(len(names))
    seed = draw(st.integers(0, 2**32 - 1))
    high = draw(st.sampled_from([100, 300, 2**32]))
    units = np.random.default_rng(seed).integers(0, high, (sum(sizes), 5), np.uint32)
    return Meta(
        hash=draw(st.binary(min_size=16, max_size=16)),
        mode=draw(COUNTING),
        granularity=Granularity.BLOCK,
        packages=tuple(packages),
        package_functions=np.array(starts, np.int32),
        strings=strings,
        package_strings=np.array(tables, np.int32),
        function_units=np.cumsum([0, *sizes]).astype(np.int32),
        function_name=np.array(names, np.int32),
        function_file=np.array(files, np.int32),
        function_literal=np.array(literals, bool),
        units=units,
    )


def vectors(size: int) -> st.SearchStrategy[Counters]:
    return st.lists(COUNT, min_size=size, max_size=size).map(lambda v: np.array(v, np.uint32))


def some(program: Meta, seed: int) -> Counters:
    chance = np.random.default_rng(seed)
    values = np.array([0, 0, 0, 1, 127, 128, 2**14, 2**32 - 1], np.uint32)
    highest = 1 if program.mode is Mode.SET else 2**32 - 1
    found: Counters = chance.choice(values, len(program))
    return np.minimum(found, np.uint32(highest))


def same(one: Meta, other: Meta) -> None:
    for name, value in vars(one).items():
        if name in Meta.__dataclass_fields__:
            assert np.array_equal(value, getattr(other, name)), name


@given(programs())
def test_meta_is_read_as_it_was_written(program: Meta) -> None:
    data = meta.write(program)
    same(meta.read(data), program)
    assert meta.write(meta.read(data)) == data


@given(
    programs(), st.lists(st.integers(0, 9), min_size=1, max_size=3), st.booleans(), st.booleans()
)
def test_counters_are_read_as_they_were_written(
    program: Meta, seeds: list[int], raw: bool, big_endian: bool
) -> None:
    segments = [
        counters.Segment(some(program, seed), {"argc": "2", "argv0": "é" * seed}) for seed in seeds
    ]
    data = counters.write(
        program, segments, flavor=counters.RAW if raw else counters.ULEB, big_endian=big_endian
    )
    found = counters.read(data, program)
    assert len(found) == len(segments)
    for one, other in zip(found, segments, strict=True):
        assert (one.counters == other.counters).all()
        assert one.arguments == other.arguments
    total = Total(program)
    total.add("x", data)
    assert (total.counters() == merge(program.mode, [s.counters for s in segments])).all()
    assert total.files == 1


@settings(max_examples=30)
@given(programs(), st.integers(0, 100), st.integers(1, 70), st.sampled_from([1, 3, 50]))
def test_many_files_are_the_sum_of_each(
    program: Meta, seed: int, files: int, different: int
) -> None:
    """Few and many, alike and unlike: all ways in which files are added up."""
    total = Total(program)
    parts = [some(program, seed + number % different) for number in range(files)]
    for number, part in enumerate(parts):
        total.add(str(number), counters.write(program, [counters.Segment(part)]))
    assert (total.counters() == merge(program.mode, parts)).all()
    assert (total.files, total.bad) == (files, {})


@given(COUNTING, st.integers(1, 8).flatmap(lambda size: st.tuples(*[vectors(size)] * 3)))
def test_merging(mode: Mode, three: tuple[Counters, Counters, Counters]) -> None:
    one, two, other = three
    together = merge(mode, three)
    assert (together == merge(mode, [other, two, one])).all()
    assert (together == merge(mode, [one, merge(mode, [two, other])])).all()
    assert (together == merge(mode, [merge(mode, [one, two]), other])).all()
    sums = [min(sum(map(int, column)), 2**32 - 1) for column in zip(*three, strict=True)]
    if mode is Mode.SET:
        sums = [min(value, 1) for value in sums]
    assert together.tolist() == sums
    assert together.dtype == np.uint32


@given(st.integers(1, 8).flatmap(lambda size: st.tuples(vectors(size), vectors(size))))
def test_subtracting_undoes_what_a_process_did(two: tuple[Counters, Counters]) -> None:
    """Counters wrap: what was done is right even then."""
    before, done = two
    assert (subtract(before + done, before) == done).all()


def test_of_different_programs() -> None:
    one, two = np.zeros(2, np.uint32), np.zeros(3, np.uint32)
    with pytest.raises(ValueError, match="different programs"):
        merge(Mode.COUNT, [one, two])
    with pytest.raises(ValueError, match="different programs"):
        subtract(one, two)
    with pytest.raises(ValueError, match="no counters"):
        merge(Mode.COUNT, [])


@given(st.lists(COUNT, min_size=1))
def test_numbers(numbers: list[int]) -> None:
    data = uleb.encode(np.array(numbers, np.uint32))
    assert data == b"".join(map(uleb.write, numbers))
    out = np.zeros(len(data), np.uint32)
    assert uleb.decode(np.frombuffer(data, np.uint8), np.array([len(data)]), out).tolist() == [
        len(numbers)
    ]
    assert out[: len(numbers)].tolist() == numbers


@given(programs(), st.integers(0, 9))
def test_profiles_are_read_as_they_were_written(program: Meta, seed: int) -> None:
    own = profile.from_counters(program, some(program, seed))
    if any(re.search(r"^$|\s", file.path) for file in own.files):
        return  # no name of a file that Go would build
    again = profile.read(profile.write(own))
    assert profile.write(profile.merge([again, again, own])) == profile.write(
        profile.merge([own, again, again])
    )


def region(program: Meta, values: Counters, order: list[int], gap: int) -> Counters:
    """What the memory of a process holds: all functions in some order, zeros where none ran."""
    words: list[int] = []
    for function in order:
        first, last = program.function_units[function : function + 2].tolist()
        package = int(program.function_package[function])
        head = [last - first, package + 1, function - int(program.package_functions[package])]
        own = values[first:last].tolist()
        words += [*head, *own] if any(own) else [0] * (3 + len(own))
        words += [0] * gap
    return np.array(words, np.uint32)


@given(programs(), st.integers(0, 9), st.randoms(), st.integers(0, 3))
def test_memory(program: Meta, seed: int, chance: object, gap: int) -> None:
    order = list(range(program.functions))
    chance.shuffle(order)  # type: ignore[attr-defined]
    own = Region(program)
    # More functions run as time goes by; those that are known are not looked for again.
    first = some(program, seed)
    later = merge(program.mode, [first, some(program, seed + 1)])
    for values in (program.zeros(), first, later, later):
        assert (own.counters(region(program, values, order, gap)) == values).all()


def test_memory_of_a_real_process(tmp_path: Path) -> None:
    """The counters in memory are those that the process writes when it ends."""
    program = Go().build(MIX, tmp_path / "other", "-coverpkg=./...", package="./cmd/other")
    (tmp_path / "data").mkdir()
    with subprocess.Popen(
        [program, "wait"],
        env={"GOCOVERDIR": str(tmp_path / "data")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        symbols = subprocess.run(
            ["go", "tool", "nm", program], capture_output=True, text=True, check=True
        ).stdout
        start, end = (
            int(next(line for line in symbols.splitlines() if line.endswith(name)).split()[0], 16)
            for name in (" runtime.covctrs", " runtime.ecovctrs")
        )
        with open(f"/proc/{process.pid}/mem", "rb") as memory:  # noqa: PTH123
            memory.seek(start)
            words = np.frombuffer(memory.read(end - start), np.uint32)
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait(10)
    (covmeta,) = (tmp_path / "data").glob("covmeta.*")
    (covcounters,) = (tmp_path / "data").glob("covcounters.*")
    found = meta.read(covmeta.read_bytes())
    (segment,) = counters.read(covcounters.read_bytes(), found)
    live = Region(found).counters(words)
    assert live.any()
    assert not (live > segment.counters).any()
    # At its end it ran the rest of main and the function that sums, and nothing else.
    assert 0 < (live != segment.counters).sum() < len(live)


def test_memory_of_something_else(mix: Callable[[str], Path]) -> None:
    (covmeta,) = mix("set").glob("covmeta.*")
    program = meta.read(covmeta.read_bytes())
    for words in ([5, 1, 0, 1, 1, 1, 1, 1], [1000, 1, 0, 1], [1, 900, 0, 1], [1, 1, 900, 1]):
        with pytest.raises(CoverageDataError, match="not the counters of this program"):
            Region(program).counters(np.array(words, np.uint32))
    own = Region(program)
    assert not own.counters(np.zeros(40, np.uint32)).any()
    with pytest.raises(CoverageDataError, match="but the region has 40"):
        own.counters(np.zeros(41, np.uint32))
    # A runtime package has a fixed number of its own; a head without its package is not whole.
    for words in ([1, 2**32 - 5, 0, 1], [1, 0, 0, 1]):
        assert not Region(program).counters(np.array(words, np.uint32)).any()


def test_paths(tmp_path: Path) -> None:
    for name, text in {
        "go.work": "go 1.23\nuse (\n\t.\n\t./tools\n)\n",
        "go.mod": "module example.com/m // the root\n\nreplace (\n"
        "\texample.com/old v1.0.0 => ./fork\n\texample.com/gone => ../elsewhere\n)\n"
        "replace example.com/one => ./fork/one\n",
        "main.go": "",
        "cmd/app/main.go": "",
        "tools/go.mod": 'module "example.com/m/tools"\n',
        "tools/gen/gen.go": "",
        "fork/x.go": "",
        "fork/one/y.go": "",
        "vendor/github.com/a/b/c.go": "",
        "vendor/modules.txt": "",
        ".git/go.mod": "module example.com/git\n",
        "testdata/go.mod": "module example.com/test\n",
        "v2/go.mod": "module example.com/m/v2\n",
        "v2/pkg/p.go": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    own = Repository(tmp_path)
    assert {
        name: own.locate(name)
        for name in (
            "example.com/m/main.go",
            "example.com/m/cmd/app/main.go",
            "example.com/m/tools/gen/gen.go",
            "example.com/m/v2/pkg/p.go",
            "example.com/old/x.go",
            "example.com/one/y.go",
            "github.com/a/b/c.go",
            f"{tmp_path}/cmd/app/main.go",
            "/src/cmd/app/main.go",
            "/src/main.go",
            "command-line-arguments/main.go",
        )
    } == {
        "example.com/m/main.go": "main.go",
        "example.com/m/cmd/app/main.go": "cmd/app/main.go",
        "example.com/m/tools/gen/gen.go": "tools/gen/gen.go",
        "example.com/m/v2/pkg/p.go": "v2/pkg/p.go",
        "example.com/old/x.go": "fork/x.go",
        "example.com/one/y.go": "fork/one/y.go",
        "github.com/a/b/c.go": "vendor/github.com/a/b/c.go",
        f"{tmp_path}/cmd/app/main.go": "cmd/app/main.go",
        "/src/cmd/app/main.go": "cmd/app/main.go",
        "/src/main.go": "main.go",
        "command-line-arguments/main.go": "main.go",
    }
    for name in (
        "example.com/m/missing.go",
        "example.com/m/../../etc/passwd",
        "example.com/git/x.go",
        "fmt/print.go",
        "/etc/passwd",
        f"{tmp_path}/../secret",
    ):
        assert own.locate(name) is None, name
