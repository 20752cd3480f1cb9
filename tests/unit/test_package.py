"""The package as others get it: its files, version and types; equal at each build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import pytest_kindcov

ROOT = Path(__file__).parents[2]


def build(source: Path, target: Path, *, epoch: str = "1700000000", kind: str = "wheel") -> Path:
    """Build a wheel or an sdist; give its file."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch},
        check=True,
        timeout=120,
    )
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


def files() -> set[str]:
    """What git has of the package: what is not committed yet counts as well."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "pytest_kindcov"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


def test_wheel_has_everything_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    own = {name for name in names if ".dist-info/" not in name}
    assert own == files()
    assert "pytest_kindcov/py.typed" in own
    metadata = {name.rpartition(".dist-info/")[2] for name in names - own}
    assert metadata == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_build_is_reproducible(kind: str, tmp_path: Path) -> None:
    """From another directory, with other times of files and another umask's modes."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.split(b"\0")
    copy = tmp_path / "elsewhere"
    for name in filter(None, map(os.fsdecode, tracked)):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
            os.utime(copy / name, (1, 1))
    version = {"SETUPTOOLS_SCM_PRETEND_VERSION": "1.2.3"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*version.popitem())
        first = build(copy, tmp_path / "first", kind=kind)
        for path in copy.rglob("*"):
            os.utime(path, (2_000_000_000, 2_000_000_000))
        second = build(copy, tmp_path / "second", kind=kind)
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def version_of(source: Path) -> str:
    """The version that a build there would have."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip().splitlines()[-1]


def test_version_without_git_is_the_fallback(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    with (ROOT / "pyproject.toml").open("rb") as file:
        fallback = tomllib.load(file)["tool"]["hatch"]["version"]["fallback-version"]
    assert version_of(tmp_path) == fallback


def test_version_comes_from_tags(tmp_path: Path) -> None:
    """Of a clone, a shallow one, an archive that git made, an sdist."""
    origin = tmp_path / "origin"
    origin.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitattributes", ".git_archival.txt"):
        shutil.copy(ROOT / name, origin)
    shutil.copytree(ROOT / "pytest_kindcov", origin / "pytest_kindcov")

    def git(*args: str) -> None:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *args], cwd=origin, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    assert re.fullmatch(r"0\.1\.(0\.)?dev1", version_of(origin))  # no tag yet
    git("tag", "v1.4.0")
    assert version_of(origin) == "1.4.0"
    git("archive", "--prefix=archive/", "-o", str(tmp_path / "archive.tar"), "HEAD")
    with tarfile.open(tmp_path / "archive.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    assert version_of(tmp_path / "archive") == "1.4.0"
    git("commit", "-qm", "two", "--allow-empty")
    assert version_of(origin) == "1.4.1.dev1"
    shallow = tmp_path / "shallow"
    git("clone", "-q", "--depth=1", origin.as_uri(), str(shallow))
    assert re.fullmatch(r"0\.1\.(0\.)?dev1", version_of(shallow))
    sdist = build(origin, tmp_path / "sdist", kind="sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    assert version_of(tmp_path / "pytest_kindcov-1.4.1.dev1") == "1.4.1.dev1"


def test_changelog_has_the_version() -> None:
    """What is not released yet stands under Unreleased; a tagged version has its own heading."""
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    tags = subprocess.run(["git", "tag"], cwd=ROOT, capture_output=True, text=True, check=True)
    released = {tag.removeprefix("v") for tag in tags.stdout.split() if re.match(r"v\d", tag)}
    assert released <= set(headings[1:])


def test_public_names_are_there() -> None:
    for name in pytest_kindcov.__all__:
        assert getattr(pytest_kindcov, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute nothing"):
        _ = pytest_kindcov.nothing


def test_types_for_the_other_checker(tmp_path: Path) -> None:
    """tests/typing is read by mypy with everything else; here by pyright's engine, strictly."""
    config = tmp_path / "pyrightconfig.json"
    config.write_text(
        f'{{"include": ["{ROOT}/tests/typing"], "typeCheckingMode": "strict",'
        f' "extraPaths": ["{ROOT}"], "reportUnnecessaryTypeIgnoreComment": "none"}}'
    )
    program = Path(sys.executable).with_name("basedpyright")
    done = subprocess.run(
        [program, "-p", config, "--pythonpath", sys.executable],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors" in done.stdout
