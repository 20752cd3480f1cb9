"""The code blocks of the repository's pages, and how their commands are run."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    + [page for place in ("docs", "examples", "nodeimage") for page in (ROOT / place).rglob("*.md")]
)
# Such as: Put this into `main.go`:
_FILE = re.compile(r"`([^`\s]+)`[^`]*:$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        page: its file.
        line: of the opening fence, from 1.
        language: the first word behind the fence.
        text: what is between the fences.
        before: the last line of text above it.

    """

    page: Path
    line: int
    language: str
    text: str
    before: str

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str:
        """The file that the line above says it is; "" for none."""
        match = _FILE.search(self.before)
        return match[1] if match else ""


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page. An indented one belongs to a list and loses its indentation."""
    lines = enumerate(page.read_text().splitlines(), 1)
    before = ""
    for number, line in lines:
        opening = re.match(r"( *)(`{3,})(.*)", line)
        if opening is None:
            before = line.strip() or before
            continue
        indentation, fence, words = opening.groups()
        text = ""
        for _, inner in lines:
            if inner.strip() == fence:
                break
            text += inner.removeprefix(indentation) + "\n"
        else:
            raise ValueError(f"{page}:{number}: the block is not closed")
        yield Block(page, number, words.partition(" ")[0], text, before)
        before = ""


@dataclass
class Terminal:
    """A shell whose directory and environment last from one command to the next, as a user's does.

    Args:
        directory: where it begins.
        env: its environment.
        timeout: seconds for a command.

    """

    directory: Path
    env: dict[str, str]
    timeout: float

    def run(self, command: str) -> str:
        """Run a line; give all that it printed."""
        state = self.directory / ".state"
        kept = f". {state} 2>/dev/null\n" if state.exists() else ""
        keep = f'{{ export -p; printf "cd %q\\n" "$PWD"; }} > {state}'
        done = subprocess.run(
            ["bash", "-c", f"{kept}set -e\n{command}\n{keep}"],
            cwd=self.directory,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.timeout,
            check=False,
        )
        print(f"$ {command}\n{done.stdout}")
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def write(self, name: str, text: str) -> None:
        """Write a file where the shell is."""
        self.run(f"mkdir -p {Path(name).parent}")
        where = self.run("pwd").strip()
        Path(where, name).write_text(text)


# What differs from run to run and from machine to machine.
_VARYING = (
    (r"kindcov-\d+-\w+ \((podman|docker)\)", "CLUSTER (ENGINE)"),
    (r"kindcov-\d+-\w+", "CLUSTER"),
    (r"\d+\.\d+ ?s\b( \(\d+:\d\d:\d\d\))?", "SECONDS"),
    (r"^kindcov: +", "kindcov: "),
    (r"=+", "="),
)


def shows(shown: str, printed: str) -> str:
    """Compare a block of output with what is really printed.

    Lines follow each other as they do there; `…` in a line of its own stands for any lines. Lines
    that begin with `kindcov:` tell of what goes on at the same time, so their order may differ.

    Returns:
        The first line that is shown and not printed; "" if there is none.

    """
    wanted, found = _lines(shown), _lines(printed)
    position, free = 0, True
    for line in wanted:
        if line == "…":
            free = True
            continue
        if line.startswith("kindcov:"):
            if line not in found:
                return line
            free = True
            continue
        try:
            at = found.index(line, position)
        except ValueError:
            return line
        if not free and at != position:
            return f"{line}\nfollows not directly, but after:\n" + "\n".join(found[position:at])
        position, free = at + 1, False
    return ""


def _lines(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        for pattern, word in _VARYING:
            line = re.sub(pattern, word, line)  # noqa: PLW2901 (one after the other)
        if line.strip():
            lines.append(line.strip())
    return lines
