"""Why a cluster did not come up: a catalogue of causes over what kind, engine and node left."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from pytest_kindcov._text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = ("kind", "load", "boot", "node", "pods")
"""What is looked at, the most telling first.

Output of kind (with the engine's), of an image's import, of the node container, of the node's
services (its journal without the host's kernel), and of the control plane's pods.
"""
_LINES = 2
_WIDTH = 300
_NUMBER = re.compile(r"[0-9]+")
# What the kubelet says last before it gives up: a panic, `Error:`, or klog's E and F.
_GRAVE = re.compile(r"panic: |\bfatal error: |\b[EF]\d{4} \d\d:|command failed|^Error: ")


@dataclass(frozen=True)
class Entry:
    """A known cause.

    Args:
        slug: its name in `docs/messages.md`.
        where: the sources in which its text means it.
        pattern: searched in them, line breaks included.
        cause: one sentence.
        remedy: what the user can do.
        sample: a text that the pattern matches.
        generic: it only says that something is wrong; any other cause explains it.

    """

    slug: str
    where: tuple[str, ...]
    pattern: re.Pattern[str]
    cause: str
    remedy: str
    sample: str
    generic: bool = False


@dataclass(frozen=True)
class Finding:
    """A cause that was found.

    Args:
        entry: of the catalogue.
        source: where it was found.
        lines: the lines that say so, the last ones, made fit for a terminal.

    """

    entry: Entry
    source: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.entry.cause, *(f"{self.source}: {line}" for line in self.lines)])


@cache
def catalogue() -> tuple[Entry, ...]:
    """The known causes: the more specific before the more general."""
    text = resources.files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    return tuple(
        Entry(
            slug=item["slug"],
            where=tuple(item["where"]),
            pattern=re.compile(item["pattern"], re.MULTILINE),
            cause=item["cause"],
            remedy=item["remedy"],
            sample=item["sample"],
            generic=item.get("generic", False),
        )
        for item in json.loads(text)
    )


def findings(texts: Mapping[str, str]) -> list[Finding]:
    """What the catalogue knows of these texts, the most probable cause first.

    Args:
        texts: by source, one of `SOURCES`.

    """
    found: list[Finding] = []
    for source in SOURCES:
        text = clean(texts.get(source, ""))
        if source == "node":
            text = without_kernel(text)
        for entry in catalogue():
            if source in entry.where and all(entry is not known.entry for known in found):
                lines = _lines(entry.pattern, text)
                if lines:
                    found.append(Finding(entry, source, lines))
    found.sort(key=lambda finding: finding.entry.generic)  # stable: sources keep their order
    if found and found[0].entry.generic:
        found[0] = Finding(found[0].entry, found[0].source, found[0].lines + _grave(texts))
    return found


def without_kernel(journal: str) -> str:
    """A node's journal without the kernel's lines, which tell of the whole host."""
    return "\n".join(line for line in journal.split("\n") if " kernel: " not in line)


def _lines(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    """The last lines with a match, those that differ in more than numbers."""
    found: dict[str, str] = {}
    for match in pattern.finditer(text):
        begin = text.rfind("\n", 0, match.start()) + 1
        line = text[begin : match.end()] + text[match.end() :].partition("\n")[0]
        line = _cut(" ".join(line.split()), match.start() - begin)
        key = _NUMBER.sub("", line)
        found.pop(key, None)
        found[key] = line
    return tuple(found.values())[-_LINES:]


def _cut(line: str, middle: int) -> str:
    """A long line around what matters in it."""
    if len(line) <= _WIDTH:
        return line
    begin = max(0, min(middle - _WIDTH // 2, len(line) - _WIDTH))
    return ("…" if begin else "") + line[begin : begin + _WIDTH] + "…"


def _grave(texts: Mapping[str, str]) -> tuple[str, ...]:
    """The last words of the node's services."""
    lines = without_kernel(clean(texts.get("node", ""))).split("\n")
    grave = [_cut(line.strip(), 0) for line in lines if _GRAVE.search(line)]
    return tuple(dict.fromkeys(grave))[-_LINES:]
