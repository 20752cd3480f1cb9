"""The working tree as it was when a run began, and what differs from it now.

Git says what a commit has; what was not committed then, or is not now, is known by its digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import sources
from pytest_kindcov.report.patch import git
from pytest_kindcov.report.texts import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kindcov.covdata.paths import Repository

_GONE = ""
_NO_FILE = "no file"  # a submodule, a directory: nobody knows what is in it
# What Python and pytest leave in a tree, where nothing says that git should not see it.
_CACHES = {"__pycache__", ".pytest_cache"}


@dataclass(frozen=True)
class Tree:
    """The state of a working tree.

    Args:
        commit: the one that was checked out.
        below: pytest's root directory in the repository; "." for its top.
        changed: by path in the repository, digests of what was not as in the commit; "" for what
            was not there.

    """

    commit: str
    below: str
    changed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Changed:
    """A file that is not what it was.

    Args:
        path: in the repository.
        recorded: as the recorded run had it; None if that is not known, or it was not there.
        now: as it is; None if it is not there.
        before: what it differs from, of two: as recorded, and as in the other commit.

    """

    path: str
    recorded: bytes | None
    now: bytes | None
    before: tuple[bytes | None, ...]


class Unknown(Exception):
    """What changed cannot be known; the text says why."""


def record(root: Path, below: Path) -> Tree | None:
    """What a working tree is; None where git knows none.

    Args:
        root: its top.
        below: pytest's root directory.

    """
    try:
        commit = _head(root)
        paths = _differ(root, commit) | _untracked(root)
        relative = below.resolve().relative_to(root).as_posix()
    except (KindCovError, Unknown, ValueError):
        return None
    return Tree(commit, relative, {path: _digest(_read(root / path)) for path in sorted(paths)})


def changed(tree: Tree, compiled: Mapping[str, str], own: Repository, ref: str) -> list[Changed]:
    """What is not as a recorded run had it, or not as in another commit.

    Args:
        tree: as recorded.
        compiled: as recorded, what was built from: see `sources.record`.
        own: the repository.
        ref: the other commit; taken is the one at which the branch left it.

    Raises:
        Unknown: it cannot be said.

    """
    root = own.root
    try:
        _head(root)
        if not _has(root, tree.commit):
            raise Unknown(f"this clone does not have the recorded run's commit {tree.commit[:12]}")
        if ref.startswith("-"):
            raise Unknown(f"{shown(ref)} is no commit")
        base = git(root, "merge-base", ref, "HEAD").decode().strip()
        of_record, of_ref = _differ(root, tree.commit), _differ(root, base)
        untracked = _untracked(root)
        now = sources.record(own)
        built = {
            path for path in compiled.keys() | now.keys() if compiled.get(path) != now.get(path)
        }
        found = []
        for path in sorted(of_record | of_ref | untracked | built | set(tree.changed)):
            text = _read(root / path)
            differs = path in of_record | untracked | built
            recorded = committed = _blob(root, tree.commit, path)
            if path in tree.changed:
                # It was not as committed: its text is known only if another version is that.
                was = tree.changed[path]
                differs = was == _NO_FILE or was != _digest(text)
                versions = (text, committed, _blob(root, base, path))
                known = (one for one in versions if isinstance(one, bytes) and _digest(one) == was)
                recorded = next(known, None)
            built_from = compiled.get(path)
            if recorded is not None and built_from not in (None, sources.digest(recorded)):
                recorded, differs = None, True
            before = [recorded] if differs else []
            # What no commit has, and is as recorded, is no change.
            if path in of_ref and (base != tree.commit or path in tree.changed):
                before.append(_blob(root, base, path))
            if before:
                plain = text if isinstance(text, bytes) else None
                found.append(Changed(path, recorded, plain, tuple(before)))
    except KindCovError as error:
        raise Unknown(f"what changed since {shown(ref)} is not known: {error.headline}") from error
    return found


def naming(root: Path, texts: Sequence[str], *pathspecs: str, whole: bool = True) -> set[str]:
    """The files of a working tree in which one of some texts stands.

    Args:
        root: its top.
        texts: fixed strings.
        pathspecs: which files.
        whole: only as whole words.

    Raises:
        Unknown: git does not say.

    """
    terms = [term for text in texts for term in ("-e", text)]
    try:
        listed = git(
            root,
            "grep",
            "-lzIF",
            *(["-w"] if whole else []),
            "--untracked",
            *terms,
            "--",
            *pathspecs,
        )
    except KindCovError as error:
        if getattr(error, "code", None) == 1:  # nowhere
            return set()
        raise Unknown(f"git grep: {error.headline}") from error
    return _split(listed)


def _head(root: Path) -> str:
    top, commit = git(root, "rev-parse", "--show-toplevel", "HEAD").decode().split("\n")[:2]
    if Path(top).resolve() != root:
        raise Unknown(f"{root} is not the top of a git repository")
    return commit


def _has(root: Path, commit: str) -> bool:
    try:
        git(root, "cat-file", "-e", f"{commit}^{{commit}}")
    except KindCovError:
        return False
    return True


def _differ(root: Path, commit: str) -> set[str]:
    """Paths that are not as in a commit; a file that moved is two of them."""
    return _split(
        git(
            root, "--no-optional-locks", "diff", "--name-only", "-z", "--no-renames",
            "--no-ext-diff", "--no-textconv", "--ignore-submodules=none", "--no-relative", commit,
            "--",
        )
    )  # fmt: skip


def _untracked(root: Path) -> set[str]:
    found = _split(git(root, "ls-files", "--others", "--exclude-standard", "-z"))
    return {path for path in found if not _CACHES.intersection(PurePosixPath(path).parts)}


def _split(listed: bytes) -> set[str]:
    return {name.decode("utf-8", "surrogateescape") for name in listed.split(b"\0") if name}


def _blob(root: Path, commit: str, path: str) -> bytes | None:
    """A Go file of a commit; None if it has none. Of other files nobody asks what they said."""
    if not path.endswith(".go"):
        return None
    try:
        return git(root, "cat-file", "blob", f"{commit}:{path}")
    except KindCovError:
        return None


def _read(file: Path) -> bytes | str:
    """What a file holds; or what there is instead, as a digest."""
    try:
        if file.is_symlink():
            return "link " + sources.digest(str(file.readlink()).encode("utf-8", "surrogateescape"))
        return file.read_bytes() if file.is_file() else _NO_FILE if file.exists() else _GONE
    except OSError:
        return _NO_FILE


def _digest(text: bytes | str) -> str:
    return sources.digest(text) if isinstance(text, bytes) else text
