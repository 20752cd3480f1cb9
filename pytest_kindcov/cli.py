"""The console script: `kindcov report`, `kindcov why`, `kindcov doctor`, `kindcov harvest`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

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
    _add_doctor(commands)
    _add_harvest(commands)
    return parser


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="whether a cluster can be made here, and what dead runs left",
        description="Looks at the engine, kind, the node image, this machine's limits, and what"
        " runs that were killed left. Each line is ok, warn or fail, with a remedy; the exit code"
        " is 1 if a cluster cannot be made. The environment's settings (KINDCOV_...) count.",
    )
    _engine(doctor)
    for name, text in (
        ("node-image", "the node image that the runs name"),
        ("kind-bin", "path of kind"),
        ("kind-config", "kind's config file: its ports are looked at"),
    ):
        doctor.add_argument(f"--{name}", default=_setting(name), help=text)
    doctor.add_argument("--dir", default=_setting("dir", ".kindcov"), help="as --kind-coverage-dir")
    doctor.add_argument(
        "--remove",
        action="store_true",
        help="remove clusters and files of runs that are certainly dead; nothing else is touched",
    )
    doctor.set_defaults(run=_run_doctor)


def _add_harvest(commands: Any) -> None:
    harvest = commands.add_parser(
        "harvest",
        help="save the coverage that is still on a cluster's nodes",
        description="Stops the instrumented services of a cluster, copies their coverage off its"
        " nodes and writes the usual files. For a run that was killed: `kindcov doctor` names its"
        " cluster. Which test ran what is not known any more. The cluster stays as it is.",
    )
    harvest.add_argument("--cluster", required=True, metavar="NAME", help="its name")
    _engine(harvest)
    harvest.add_argument("--kind-bin", default=_setting("kind-bin"), help="path of kind")
    harvest.add_argument("--dir", default=_setting("dir", ".kindcov"), help="where to write")
    harvest.set_defaults(run=_run_harvest)


def _engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        choices=("auto", "docker", "podman"),
        default=_setting("engine", "auto"),
        help="the container engine",
    )


def _setting(name: str, default: str = "") -> str:
    """A setting of the runs, from the environment."""
    return os.environ.get("KINDCOV_" + name.replace("-", "_").upper()) or default


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


def _run_doctor(options: argparse.Namespace) -> int:
    from pathlib import Path

    from pytest_kindcov import doctor

    well, engines = doctor.Doctor(
        engine=options.engine,
        node_image=options.node_image,
        kind_bin=options.kind_bin,
        kind_config=Path(options.kind_config) if options.kind_config else None,
        directory=Path(options.dir),
    ).examine(lambda line: print(line, flush=True))
    whole = doctor.remove(engines, print) if options.remove else True
    return 0 if well and whole else 1


def _run_harvest(options: argparse.Namespace) -> int:
    from pathlib import Path

    from pytest_kindcov.harvest import rescue
    from pytest_kindcov.report.terminal import table

    result = rescue.rescue(
        options.cluster,
        engine=options.engine,
        kind=Path(options.kind_bin) if options.kind_bin else None,
        directory=Path(options.dir).absolute(),
    )
    if result.summary is not None:
        print(f"cluster {options.cluster}: {result.extent}")
        print("\n".join(table(result.summary, shutil.get_terminal_size().columns)))
    for problem in result.problems:
        print(f"WARNING {problem}", file=sys.stderr)
    for note in result.notes:
        print(note)
    for error in result.errors:
        print(f"ERROR {error}", file=sys.stderr)
    return 1 if result.errors or result.summary is None else 0


def _run_why(options: argparse.Namespace) -> int:
    from pytest_kindcov.report import why

    return why.run(options.question, options.data or [".kindcov"])
