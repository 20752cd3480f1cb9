"""What a patch adds: the lines that git says are new since a commit, and which of them ran.

Not by diff-cover, which reads a report back from a file, knows nothing of source that changed since
the build, and rounds its verdict to whole percents; tests hold both against each other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_kindcov._run import run
from pytest_kindcov.errors import CommandError, CoverageDataError
from pytest_kindcov.report.model import Issue, Patch, PatchFile
from pytest_kindcov.report.texts import shown

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindcov.report.model import Report

_GIT = 60.0  # seconds
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_ESCAPE = re.compile(rb'\\([0-7]{3}|[abtnvfr"\\])')
_LETTERS = dict(zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True))


def read(report: Report, against: str) -> tuple[Patch, list[Issue]]:
    """Hold a report against what changed since a commit, in the working tree too.

    Since the commit at which the branch left the other, as a pull request shows it. A file that git
    does not know yet is new with all its lines. One that moved has only the lines that changed.

    Args:
        report: with paths relative to the repository.
        against: a commit, such as `origin/main`.

    Returns:
        The patch, and files of it that cannot be judged.

    Raises:
        CoverageDataError: git does not know the commit, or there is no git.

    """
    new = added(report.root, against)
    files, issues, unknown = [], [], []
    for file in sorted(report.files, key=lambda file: file.path):
        lines = new.get(file.path) if file.path else None
        if not lines:
            continue
        if file.changed:
            reason = "changed since the build: its lines in the patch are not counted"
            issues.append(Issue("changed", file.path, reason))
            unknown.append(file.path)
            continue
        own = report.lines_of(file)
        of_patch = [
            (number, hits)
            for number, hits in zip(own.number.tolist(), own.hits.tolist(), strict=True)
            if number in lines
        ]
        if of_patch:
            covered = tuple(number for number, hits in of_patch if hits)
            missed = tuple(number for number, hits in of_patch if not hits)
            files.append(PatchFile(file.path, covered, missed))
    return Patch(shown(against), tuple(files), tuple(unknown)), issues


def added(root: Path, against: str) -> dict[str, set[int]]:
    """By path from the root of the repository, the lines of Go files that are new.

    Raises:
        CoverageDataError: as for `read`.

    """
    if against.startswith("-"):
        raise CoverageDataError(f"{shown(against)} is no commit", slug="commit-unknown")
    try:
        base = git(root, "merge-base", against, "HEAD").decode().strip()
        # Whatever the user's own settings are.
        diff = git(
            root, "-c", "core.quotePath=true", "diff", "--unified=0", "--no-color", "--no-ext-diff",
            "--no-textconv", "--find-renames", "--src-prefix=a/", "--dst-prefix=b/", "--relative",
            base, "--", "*.go",
        )  # fmt: skip
        listed = git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.go")
    except CommandError as error:
        raise CoverageDataError(
            f"what changed since {shown(against)} is not known",
            cause=error.output or str(error),
            remedy="name a commit that is there (in CI, fetch it: a shallow clone has no history,"
            " fetch-depth: 0)",
            slug="commit-unknown",
        ) from error
    new = parse(diff)
    for name in filter(None, listed.split(b"\0")):
        path = name.decode("utf-8", "surrogateescape")
        try:
            count = (root / path).read_bytes().count(b"\n") + 1
        except OSError:
            continue
        new[shown(path)] = set(range(1, count + 1))
    return new


def git(root: Path, *words: str) -> bytes:
    """What git prints in a directory.

    Raises:
        CommandError: it failed, or there is no git (ToolNotFound).

    """
    return run(["git", "-C", root, *words], timeout=_GIT).stdout


def parse(diff: bytes) -> dict[str, set[int]]:
    """By path, the new lines of a diff without context."""
    found: dict[str, set[int]] = {}
    lines: set[int] = set()
    left = 0  # lines of a hunk: one may look like the head of a file
    for line in diff.split(b"\n"):
        if left and line[:1] in b"+-\\":
            left -= line[:1] != b"\\"
        elif line.startswith(b"+++ "):
            lines = set()
            path = _path(line[4:])
            if path is not None:
                lines = found.setdefault(shown(path), set())
        elif match := _HUNK.match(line):
            before, first, count = int(match[1] or 1), int(match[2]), int(match[3] or 1)
            lines.update(range(first, first + count))
            left = before + count
    return found


def _path(text: bytes) -> str | None:
    """The path behind `+++ `; None for a file that is gone. Git ends one with a space by a tab."""
    text = text.rstrip(b"\t\r")
    if text.startswith(b'"') and text.endswith(b'"'):
        text = _ESCAPE.sub(
            lambda m: bytes([int(m[1], 8) & 0xFF if len(m[1]) == 3 else _LETTERS[m[1][0]]]),
            text[1:-1],
        )
    if not text.startswith(b"b/"):
        return None
    return text[2:].decode("utf-8", "surrogateescape")
