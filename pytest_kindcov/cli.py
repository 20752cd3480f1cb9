"""The console script: `kindcov report`, `kindcov why`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from pytest_kindcov.errors import KindCovError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TYPES = ("term", "go", "covdata", "json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: its words; those of the process if None.

    Returns:
        The exit code: 0, 1 when it failed, 2 when it was called wrongly (raised as SystemExit).

    """
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KindCovError as error:
        print(f"kindcov: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `kindcov report … | head`
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kindcov", description="Coverage of Go services.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser(
        "report",
        help="merge coverage files and report them",
        description="Merge the files that `go build -cover` programs leave in GOCOVERDIR, and text"
        " profiles, and report them. Files that cannot be used are named and left out.",
    )
    report.add_argument(
        "paths", nargs="+", metavar="DIR", help="a directory of coverage files, or a text profile"
    )
    report.add_argument(
        "--report",
        action="append",
        type=_report,
        dest="reports",
        metavar="TYPE[:DEST]",
        help="term (a table; the default), go (a text profile: coverage.out), covdata (a directory"
        " with all merged: covdata), json (coverage.json); DEST - is standard output; repeatable",
    )
    report.set_defaults(run=_run_report)
    why = commands.add_parser(
        "why",
        help="which tests ran a line, or what only one test runs",
        description="FILE:LINE lists the tests that ran a line of Go; FILE is a path, Go's name of"
        " it, or an end of either. TEST, a node id or a part of it, lists the lines that nothing"
        " else ran. What has :: in it is a test. The exit code is 0, also for a line that no test"
        " ran, and 1 if the file, the line or the test is unknown.",
    )
    why.add_argument("question", metavar="FILE:LINE|TEST")
    why.add_argument(
        "--data",
        action="append",
        metavar="DIR",
        help="what a run left, or its data file (default: .kindcov); repeatable: newest run first",
    )
    why.set_defaults(run=_run_why)
    return parser


def _report(text: str) -> tuple[str, str | None]:
    kind, colon, destination = text.partition(":")
    if kind not in _TYPES:
        raise argparse.ArgumentTypeError(f"{kind!r} is not one of {', '.join(_TYPES)}")
    return kind, destination if colon else None


def _run_report(options: argparse.Namespace) -> int:
    # numpy's linear algebra is not used here, and starting its threads takes 40 ms.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from pytest_kindcov.report import covdata

    return covdata.run(options.paths, options.reports or [("term", None)])


def _run_why(options: argparse.Namespace) -> int:
    from pytest_kindcov.report import why

    return why.run(options.question, options.data or [".kindcov"])
