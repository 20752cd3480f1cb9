"""The console script: `kindcov report`, `why`, `select`, `doctor`, `harvest`."""

from __future__ import annotations

import argparse
import functools
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from pytest_kindcov._signals import Signals
from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import gate, types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: its words; those of the process if None.

    Returns:
        The exit code: 0, 1 when it failed, 2 when it was called wrongly (raised as SystemExit).

    """
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = options.run
    signals = Signals(print, lambda: True)
    signals.bridge()  # what is half made is cleared away
    try:
        return run(options)
    except KeyboardInterrupt:
        return 130
    except KindCovError as error:
        print(f"kindcov: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `kindcov report … | head`
        sys.stderr.close()
        return 1
    finally:
        signals.restore()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kindcov", description="Coverage of Go services.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_report(commands)
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
    _add_select(commands)
    _add_doctor(commands)
    _add_harvest(commands)
    return parser


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report",
        help="merge coverage files and report them",
        description="Merge the files that `go build -cover` programs leave in GOCOVERDIR, text"
        " profiles, and what runs of pytest left (.kindcov), and report them. Files that cannot be"
        " used are named and left out. The exit code is 1 if a limit is not kept.",
    )
    add = report.add_argument
    add(
        "paths",
        nargs="*",
        metavar="DIR",
        help="what a run left (default: .kindcov), coverage files, or a text profile",
    )
    add(
        "--report",
        action="append",
        type=_parsed(types.parse, empty=True),
        dest="reports",
        metavar="TYPE[:DEST]",
        help=f"{', '.join(types.described())}; DEST - is standard output; repeatable; empty: only"
        " the total; default: term",
    )
    add("--dir", default="", metavar="DIR", help="leave there what a run leaves, of all together")
    add("--root", default=".", metavar="DIR", help="where the Go modules are (default: here)")
    add("--previous", default="", metavar="FILE", help="JSON report of the run before")
    for kind, what in (
        (gate.FAIL_UNDER, "fail if the total, or a package or file that is GLOB, is under MIN"),
        (gate.WARN_UNDER, "warn if it is under MIN"),
        (gate.PATCH_UNDER, "fail if of the lines that are new since --compare less ran than MIN"),
    ):
        add(
            f"--{kind}",
            action="append",
            default=[],
            type=_parsed(functools.partial(gate.parse, kind)),
            dest=f"rules_{kind}",
            metavar="MIN" if kind == gate.PATCH_UNDER else "MIN[:GLOB]",
            help=f"{what} percent; repeatable",
        )
    add("--compare", default="", metavar="REF", help="the commit since which the patch counts")
    add("--unit", action="append", default=[], metavar="PATH", help="coverage of unit tests")
    for name, what in (("include", "only these"), ("exclude", "not these, or `generated` ones")):
        add(
            f"--{name}",
            action="append",
            default=[],
            metavar="GLOB",
            help=f"files and packages: {what}; repeatable",
        )
    report.set_defaults(run=_without_collector(_run_report), parser=report)


def _parsed(parse: Callable[[str], object], *, empty: bool = False) -> Callable[[str], object]:
    """A reader of a value, for argparse; an empty one may mean None."""

    def read(text: str) -> object:
        if empty and not text:
            return None
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from error

    return read


def _add_select(commands: Any) -> None:
    select = commands.add_parser(
        "select",
        help="which tests a change can affect",
        description="Prints the node ids of the tests that what changed since the recorded run, or"
        " since the working tree's branch left REF, can affect; on standard error, why. In doubt"
        " that is all tests.",
    )
    select.add_argument("ref", metavar="REF", help="a commit, such as origin/main")
    select.add_argument(
        "--data", default=".kindcov", metavar="DIR", help="what the recorded run left"
    )
    select.add_argument(
        "--tests",
        default="",
        metavar="FILE",
        help="node ids, one a line, or - for standard input: print those of them that are to run,"
        " with those that the record does not know (default: the tests of the record)",
    )
    select.set_defaults(run=_run_select)


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


def _without_collector(
    run: Callable[[argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """A command that makes no garbage worth looking for: the looking is a twentieth of its time."""

    def without(options: argparse.Namespace) -> int:
        enabled = gc.isenabled()
        gc.disable()
        try:
            return run(options)
        finally:
            if enabled:
                gc.enable()

    return without


def _run_report(options: argparse.Namespace) -> int:
    # numpy's linear algebra is not used here, and starting its threads takes 40 ms.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from pytest_kindcov.report import command
    from pytest_kindcov.report.wanted import Wanted

    kinds = (gate.FAIL_UNDER, gate.WARN_UNDER, gate.PATCH_UNDER)
    rules = [rule for kind in kinds for rule in getattr(options, f"rules_{kind}")]
    if getattr(options, f"rules_{gate.PATCH_UNDER}") and not options.compare:
        options.parser.error("--patch-under needs --compare=REF")
    reports = [types.parse("term")] if options.reports is None else options.reports
    return command.run(
        options.paths or [".kindcov"],
        Wanted(
            reports=tuple(request for request in reports if request is not None),
            rules=tuple(rules),
            compare=options.compare,
            unit=tuple(options.unit),
            include=tuple(options.include),
            exclude=tuple(options.exclude),
        ),
        root=options.root,
        directory=options.dir,
        previous=options.previous,
    )


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
    kind = Path(options.kind_bin) if options.kind_bin else None
    whole = doctor.remove(engines, print, kind) if options.remove else True
    return 0 if well and whole else 1


def _run_harvest(options: argparse.Namespace) -> int:
    from pathlib import Path

    from pytest_kindcov.harvest import rescue
    from pytest_kindcov.report import command
    from pytest_kindcov.report.wanted import Wanted

    result = rescue.rescue(
        options.cluster,
        engine=options.engine,
        kind=Path(options.kind_bin) if options.kind_bin else None,
        directory=Path(options.dir).absolute(),
    )
    if result.has_data:
        print(f"cluster {options.cluster}: {result.extent}")
        profile = Path(options.dir, "coverage.out")
        reports = (types.parse("term"), types.parse(f"go:{profile}"))
        command.run([str(Path(options.dir, "covdata"))], Wanted(reports=reports), root=".")
        result.notes.append(f"wrote {profile.parent}/covdata")
    for problem in result.problems:
        print(f"WARNING {problem}", file=sys.stderr)
    for note in result.notes:
        print(note)
    for error in result.errors:
        print(f"ERROR {error}", file=sys.stderr)
    return 1 if result.errors or not result.has_data else 0


def _run_select(options: argparse.Namespace) -> int:
    from pytest_kindcov import select

    return select.run(options.ref, options.data, options.tests)


def _run_why(options: argparse.Namespace) -> int:
    from pytest_kindcov.report import why

    return why.run(options.question, options.data or [".kindcov"])
