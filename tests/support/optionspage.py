"""docs/options.md, made of the table of options and of the commands' own parsers."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindcov import cli
from pytest_kindcov.options import OPTIONS
from pytest_kindcov.report.types import STDOUT, TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "options.md"
HEAD = """# Options

<!-- Written by `PYTHONPATH=.:tests/support python tests/support/optionspage.py`. -->

Each setting is a flag of pytest, a key of its ini file and a variable of the environment. Flags
win over the environment, the environment over the ini file. pytest's header shows what is set, and
where. What may be repeated as a flag takes several values elsewhere, with blanks between them.

| flag | ini key | environment | default | what it is |
|---|---|---|---|---|
| `--kind-coverage`, `--no-kind-coverage` | `kindcov_coverage` | `E2E_COVERAGE` | `false` | \
Whether services are built with coverage, and it is harvested and reported |
"""
REPORTS = """
## Reports

`--kind-coverage-report TYPE[:DEST]`, and `--report TYPE[:DEST]` of `kindcov report`. A destination
that is not said is in the run's directory, or the working directory for `kindcov report`; `-` is
standard output.

| type | what it is | destination |
|---|---|---|
"""
COMMANDS = """
## Commands
"""


def page() -> str:
    """The whole page."""
    return "".join([HEAD, *_options(), REPORTS, *_reports(), COMMANDS, *_commands()])


def _options() -> Iterator[str]:
    for option in OPTIONS:
        flag = f"{option.flag}" if option.switch else f"{option.flag} {option.metavar}"
        # What is computed, the help says.
        default = f"`{option.default}`" if option.default else ""
        cells = (f"`{flag}`", f"`{option.ini}`", f"`{option.env}`", default, _cell(option.help))
        yield _row(cells)


def _reports() -> Iterator[str]:
    for name, kind in TYPES.items():
        names = [name, *(f"{name}:{modifier}" for modifier in sorted(kind.modifiers))]
        target = kind.destination + ("/" if kind.directory else "")
        where = {STDOUT: "standard output", "": "that file, or another"}
        shown = ", ".join(f"`{each}`" for each in names)
        yield _row((shown, _cell(kind.help), where.get(target, f"`{target}`")))


def _commands() -> Iterator[str]:
    (commands,) = [
        action
        for action in cli._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    for name, parser in commands.choices.items():
        yield f"\n### kindcov {name}\n\n{_cell(parser.description or '')}\n\n"
        yield "| argument | what it is |\n|---|---|\n"
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                yield _row((_argument(action), _cell(action.help or "")))


def _argument(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if action.choices:
        value = "|".join(action.choices)
    if not action.option_strings:
        return f"`{_cell(str(value))}`"
    return f"`{_cell(f'{action.option_strings[-1]} {value}'.strip())}`"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |")


def _cell(text: str) -> str:
    # `<` and `*` stand in no help; a $NAME is shown as code.
    text = re.sub(r"(\$[A-Z_]+)", r"`\1`", text)
    return text.replace("|", "\\|").replace("%%", "%").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page())
