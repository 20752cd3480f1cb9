"""Bad files are named and left out: never a crash, a hang, or memory beyond what there is."""

from __future__ import annotations

import os
import random
import shutil
import struct
from typing import TYPE_CHECKING

import mutants
import numpy as np
import pytest
from gocover import MIX, Go, run

from pytest_kindcov.covdata import counters, meta, profile, store, uleb
from pytest_kindcov.covdata.store import Kind
from pytest_kindcov.errors import CoverageDataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindcov.covdata.model import Meta

# Of each kind; 200,000 and more: `python bench/fuzz.py`.
MUTANTS = 500


@pytest.fixture(scope="session")
def files(mix: Callable[[str], Path]) -> tuple[bytes, bytes, Meta]:
    """Bytes of a covmeta and of a covcounters file, and what the former says."""
    (covmeta,) = mix("atomic").glob("covmeta.*")
    first = min(mix("atomic").glob("covcounters.*"))
    return covmeta.read_bytes(), first.read_bytes(), meta.read(covmeta.read_bytes())


def test_truncated_at_every_byte(files: tuple[bytes, bytes, Meta]) -> None:
    covmeta, covcounters, program = files
    assert not any(mutants.try_meta(data, covcounters) for data in mutants.cuts(covmeta))
    assert not any(mutants.try_counters(data, program) for data in mutants.cuts(covcounters))


def test_mutants(files: tuple[bytes, bytes, Meta]) -> None:
    covmeta, covcounters, program = files
    text = profile.write(profile.from_counters(program, program.zeros()))
    for seed in range(MUTANTS):
        chance = random.Random(seed)
        mutants.try_meta(mutants.mutant(covmeta, chance), covcounters)
        mutants.try_counters(mutants.mutant(covcounters, chance), program)
        mutants.try_profile(mutants.mutant(text, chance))


@pytest.mark.parametrize(
    ("offset", "form", "value", "reason"),
    [
        (0, "4s", b"\0cwm", "not a Go coverage meta-data"),
        (4, "<I", 2, "version 2"),
        (8, "<Q", 1 << 60, "header says"),
        (16, "<Q", 1 << 60, "do not fit"),
        (48, "B", 9, "9 is not a valid Mode"),
        (49, "B", 7, "7 is not a valid Granularity"),
        (56, "<Q", 1 << 63, "outside the file"),
        (64, "<Q", 56, "overlap"),
        (72, "<Q", 1 << 40, "outside the file"),
    ],
)
def test_meta_heads(
    files: tuple[bytes, bytes, Meta], offset: int, form: str, value: object, reason: str
) -> None:
    data = bytearray(files[0])
    struct.pack_into(form, data, offset, value)
    with pytest.raises(CoverageDataError, match=reason):
        meta.read(bytes(data))


def test_meta_package_heads(files: tuple[bytes, bytes, Meta]) -> None:
    """10^9 strings, functions or units cost nothing but an error."""
    start = int.from_bytes(files[0][56:64], "little")
    functions = int.from_bytes(files[0][start + 40 : start + 44], "little")
    table = start + 44 + 4 * functions
    first = start + int.from_bytes(files[0][start + 44 : start + 48], "little")
    for offset, value, reason in (
        (start + 40, struct.pack("<I", 10**9), "do not fit"),
        (start + 4, struct.pack("<I", 10**9), "not in its string table"),
        (table, uleb.write(10**9), "does not fit"),
        (start + 44, struct.pack("<I", 10**9), "outside its package"),
        (start + 48, files[0][start + 44 : start + 48], "overlap"),
        (first, uleb.write(10**9), "more units"),
    ):
        data = bytearray(files[0])
        data[offset : offset + len(value)] = value
        with pytest.raises(CoverageDataError, match=reason):
            meta.read(bytes(data))


@pytest.mark.parametrize(
    ("offset", "form", "value", "reason"),
    [
        (0, "4s", b"\0cvm", "not a Go coverage counter"),
        (4, "<I", 2, "version 2"),
        (8, "<Q", 0, "another program"),
        (24, "B", 3, "flavour 3"),
        (32, "<Q", 1 << 40, "but the program has"),
        (40, "<I", 1 << 31, "do not fit"),
        (44, "<I", 1 << 31, "do not fit"),
        (-8, "<I", 0, "0 segments"),
        (-8, "<I", 2, "truncated"),
        (-8, "<I", 10**9, "segments are more"),
        (-16, "<I", 0, "no footer"),
    ],
)
def test_counter_heads(
    files: tuple[bytes, bytes, Meta], offset: int, form: str, value: object, reason: str
) -> None:
    data = bytearray(files[1])
    struct.pack_into(form, data, offset % len(data), value)
    with pytest.raises(CoverageDataError, match=reason):
        counters.read(bytes(data), files[2])
    mutants.try_counters(bytes(data), files[2])


def test_units_that_no_function_has(files: tuple[bytes, bytes, Meta]) -> None:
    program = files[2]
    words = np.array([program.function_units[1] + 1, 0, 0, 1, 1, 1, 1, 1, 1, 1], np.uint32)
    empty = counters.write(program, [counters.Segment(program.zeros())])
    for numbers in (words, words[1:], np.array([1, 10**9, 0, 1]), np.array([1, 0, 10**9, 1])):
        body = uleb.encode(numbers.astype(np.uint32))
        data = empty[:32] + struct.pack("<Q", 1) + empty[40:-16] + body + empty[-16:]
        assert not mutants.try_counters(data, program)


def test_one_bad_file_of_many_is_left_out(mix: Callable[[str], Path], tmp_path: Path) -> None:
    """And the others give the same numbers as without it; enough of them to be read in step."""
    directory = tmp_path / "data"
    directory.mkdir()
    (covmeta,) = mix("count").glob("covmeta.*")
    shutil.copy(covmeta, directory)
    for number, source in enumerate(sorted(mix("count").glob("covcounters.*")) * 20):
        digest = covmeta.name.partition(".")[2]
        shutil.copy(source, directory / f"covcounters.{digest}.{number}.1")
    want = store.read([directory]).programs[0].counters
    good = source.read_bytes()
    bad = {
        "zero-byte": b"",
        "cut": good[:-20] + good[-16:],
        "half": good[: len(good) // 2],
        "garbage": os.urandom(500),
        "function": good[:-17] + b"\x7f" + good[-16:],
    }
    for number, data in enumerate(bad.values()):
        (directory / f"covcounters.{digest}.9{number}.2").write_bytes(data)
    found = store.read([directory])
    assert (found.programs[0].counters == want).all() or len(found.problems) == 4
    assert found.programs[0].files in (80, 81)
    assert {problem.kind for problem in found.problems} == {Kind.BAD}
    assert all(problem.reason and problem.name.endswith(".2") for problem in found.problems)


def test_everything_wrong_is_named(mix: Callable[[str], Path], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copytree(mix("count"), one)
    two.mkdir()
    (covmeta,) = one.glob("covmeta.*")
    names = sorted(one.glob("covcounters.*"))
    shutil.copy(names[0], two)  # found twice
    shutil.copy(covmeta, two)  # as any directory has it: nothing wrong with that
    zeros = "0" * 32
    (two / f"covcounters.{zeros}.1.1").write_bytes(names[0].read_bytes())
    (two / f"covmeta.{'1' * 32}").write_bytes(covmeta.read_bytes())
    (two / f"covmeta.{'2' * 32}").write_bytes(b"")
    (two / f"covcounters.{'2' * 32}.1.1").write_bytes(b"")
    (two / "covcounters.nonsense").write_bytes(b"")
    (two / "tmp.covmeta.123").write_bytes(b"")
    (two / "notes.txt").write_bytes(b"")
    os.mkfifo(two / f"covcounters.{names[0].name.split('.')[1]}.5.5")
    found = store.read([one, two])
    named = [(p.kind, p.name.rpartition("/")[2][:24], p.reason[:20]) for p in found.problems]
    assert sorted(named) == sorted(
        [
            (Kind.BAD, "covcounters.nonsense", "not a name of a cove"),
            (Kind.BAD, f"covcounters.{names[0].name.split('.')[1]}"[:24], "not a file"),
            (Kind.DUPLICATE, names[0].name[:24], f"a copy of {one}"[:20]),
            (Kind.BAD, "covmeta." + "1" * 16, "its content is that "),
            (Kind.BAD, "covmeta." + "2" * 16, "truncated: 0 bytes a"),
            (Kind.ORPHAN, "covcounters." + "2" * 12, "counters whose covme"),
            (Kind.ORPHAN, "covcounters." + "0" * 12, "counters without the"),
        ]
    )
    assert (found.programs[0].counters == store.read([one]).programs[0].counters).all()


def test_two_builds_and_two_modes(mix: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(MIX, tmp_path / "source")
    with (tmp_path / "source" / "shapes" / "shapes.go").open("a") as file:
        file.write("\n// Later was added.\nfunc Later() { registered = nil }\n")
    program = Go().build(tmp_path / "source", tmp_path / "mix", "-covermode=count")
    run(program, tmp_path / "data", "8")
    found = store.read([mix("count"), tmp_path / "data"])
    (problem,) = found.problems
    assert (problem.kind, problem.name) == (Kind.BUILDS, "package example.com/mix/shapes")
    assert all(program.hash in problem.reason for program in found.programs)
    # Go refuses to mix modes; here they are mixed as far as they can be, and it is said.
    found = store.read([mix("count"), mix("set")])
    assert [problem.kind for problem in found.problems] == [Kind.MODES]
    own = found.profile()
    assert own is not None
    assert own.counts.max() == 1


def test_meta_without_counters(mix: Callable[[str], Path], tmp_path: Path) -> None:
    (covmeta,) = mix("set").glob("covmeta.*")
    shutil.copy(covmeta, tmp_path)
    found = store.read([tmp_path])
    assert [problem.kind for problem in found.problems] == [Kind.IDLE]
    own = found.profile()
    assert own is not None
    assert not own.covered.any()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "empty"),
        (b"a.go:1.1,2.2 1 1\n", "line 1"),
        (b"mode: often\n", "line 1"),
        (b"mode: set\na.go:1.1,2.2 1\n", "line 2"),
        (b"mode: set\nmode: count\n", "line 2"),
        (b"mode: set\na.go:9999999999.1,2.2 1 1\n", "beyond"),
        (b"mode: set\na.go:1.1,2.2 1 " + b"9" * 5000, "line 2"),
    ],
)
def test_text_profiles(text: bytes, reason: str) -> None:
    with pytest.raises(CoverageDataError, match=reason):
        profile.read(text)


def test_text_profiles_of_others() -> None:
    """Two glued together, with Windows line ends and counts beyond 32 bits."""
    text = b"mode: count\r\nx/a.go:1.1,2.2 1 1\r\n\r\nmode: count\nx/a.go:1.1,2.2 1 99999999999\n"
    own = profile.read(text)
    assert own.counts.tolist() == [2**32 - 1]
    assert own.by_package() == [("x", 1, 1)]


def test_text_profile_with_a_carriage_return_in_a_name() -> None:
    """It sorts elsewhere once it is spelled out."""
    found = profile.read(b"mode: set\na\rb/f.go:1.1,2.2 1 1\na.b/f.go:3.1,4.2 2 0\n")
    again = profile.read(profile.write(found))
    assert again.files == found.files
    assert (again.units == found.units).all()
