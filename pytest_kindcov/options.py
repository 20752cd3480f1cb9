"""One table of settings: flag, ini key, environment variable, default, help."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindcov.report.gate import Rule
    from pytest_kindcov.report.types import Request
    from pytest_kindcov.report.wanted import Wanted


LOSSES = ("killed", "overran", "lost")
"""Verdicts by which coverage may be lost, as `harvest.verdict` names them."""


@dataclass(frozen=True)
class Option:
    """One setting: flag `--kind-coverage-NAME`, ini key `kindcov_NAME`, env `KINDCOV_NAME`."""

    name: str
    default: str
    help: str
    parse: Callable[[Any], Any] = str
    metavar: str = "VALUE"
    many: bool = False
    """Whether the flag may be repeated; `parse` gets a tuple. Elsewhere blanks part the values."""
    switch: str = ""
    """What the flag alone stands for; "" for one that takes a value."""

    @property
    def flag(self) -> str:
        """The command line flag; one that switches off begins with `--no-`."""
        no = "no-" if self.switch == "false" else ""
        return f"--{no}kind-coverage-" + self.name.replace("_", "-")

    @property
    def ini(self) -> str:
        """The key in the ini file, and the dest of the flag."""
        return f"kindcov_{self.name}"

    @property
    def env(self) -> str:
        """The environment variable."""
        return f"KINDCOV_{self.name.upper()}"


def _engine(text: str) -> str:
    if text not in ("auto", "docker", "podman"):
        raise ValueError("is none of auto, docker, podman")
    return text


def _address(text: str) -> str:
    if text not in ("auto", "node", "host"):
        raise ValueError("is none of auto, node, host")
    return text


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86_400:
        raise ValueError("is not a number of seconds between 0 and 86400")
    return value


def _context(text: str) -> str:
    if text not in ("test", "none"):
        raise ValueError("is none of test, none")
    return text


def _interval(text: str) -> float:
    value = float(text)
    if value != 0 and not 0.01 <= value < 86_400:
        raise ValueError("is neither 0 nor a number of seconds from 0.01 to 86400")
    return value


def _settle(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 60:
        raise ValueError("is not a number of seconds from 0 to 60")
    return value


def _missing(text: str) -> str:
    if text not in ("fail", "skip"):
        raise ValueError("is none of fail, skip")
    return text


def _keep(text: str) -> str:
    if text not in ("never", "on-failure", "always"):
        raise ValueError("is none of never, on-failure, always")
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _shell_words(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _allow(text: str) -> tuple[str, ...]:
    words = _words(text)
    for word in words:
        kind = word.partition(":")[0]
        if kind not in LOSSES:
            raise ValueError(f"{kind} is none of {', '.join(LOSSES)}")
    return words


def _bool(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError("is neither true nor false")
    return text.lower() in ("1", "true", "yes", "on")


def _reports(texts: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Requests; none of them: only the total. None unless something was said."""
    if not texts:
        return None
    from pytest_kindcov.report import types

    return tuple(types.parse(text) for text in texts if text not in ("", "none"))


def _limits(kind: str) -> Callable[[tuple[str, ...]], tuple[Any, ...]]:
    def parse(texts: tuple[str, ...]) -> tuple[Any, ...]:
        if not texts:
            return ()
        from pytest_kindcov.report import gate

        return tuple(gate.parse(kind, text) for text in texts)

    return parse


# Help texts: as pytest's, start with a capital, no period at the end of a single phrase.
OPTIONS = (
    Option("engine", "auto", "Container engine: auto, docker or podman", _engine, "ENGINE"),
    Option(
        "address",
        "auto",
        "Where a service's URL leads: node (its address), host (a port of 127.0.0.1), auto",
        _address,
        "WHERE",
    ),
    Option("node_image", "", "Kind node image (default: one that is there, else kind's own)"),
    Option("kind_bin", "", "Path of the kind program (default: kind on PATH)", metavar="PATH"),
    Option(
        "kind_config",
        "",
        "Kind config file for the cluster (default: kind's own, made to be ready sooner)",
        metavar="FILE",
    ),
    Option(
        "keep",
        "never",
        "Whether the run's cluster stays, for the next run that keeps: never, on-failure, always",
        _keep,
        "WHEN",
    ),
    Option(
        "cluster",
        "",
        "Use this Kind cluster, which is there already, and give it back as it was",
        metavar="NAME",
    ),
    Option(
        "kube_context",
        "",
        "Use the cluster of this context of the kubeconfig, and give it back as it was",
        metavar="CTX",
    ),
    Option(
        "sidecar",
        "",
        "Image with sh and tar: reads coverage in that cluster's pods if it lets none on its nodes",
        metavar="IMAGE",
    ),
    Option("dir", ".kindcov", "Directory for coverage data and reports", metavar="DIR"),
    Option(
        "context",
        "test",
        "What coverage is attributed to: test, or none",
        _context,
        "WHAT",
    ),
    Option(
        "poll",
        "0.2",
        "Seconds between two readings of the running services; 0: only before and after tests",
        _interval,
        "SECONDS",
    ),
    # A goroutine that outlives the answer ends within a millisecond or not soon: bench/live.py.
    Option(
        "settle",
        "0.001",
        "Seconds for which the services must be quiet before a test counts as over",
        _settle,
        "SECONDS",
    ),
    Option(
        "allow",
        "",
        "Containers that may lose coverage: killed, overran or lost, each with :GLOB of"
        " NAMESPACE/POD/CONTAINER or without",
        _allow,
        "KIND[:GLOB] ...",
    ),
    Option(
        "report",
        "",
        "Report: term, term-missing, html, xml, lcov, json, markdown, markdown-append, go,"
        " covdata; repeatable; empty: only the total (default: term)",
        _reports,
        "TYPE[:DEST]",
        many=True,
    ),
    Option(
        "fail_under",
        "",
        "Fail if the total, or each package or file that is GLOB, is under MIN percent; repeatable",
        _limits("fail-under"),
        "MIN[:GLOB]",
        many=True,
    ),
    Option(
        "warn_under",
        "",
        "The same, without failing; repeatable",
        _limits("warn-under"),
        "MIN[:GLOB]",
        many=True,
    ),
    Option(
        "patch_under",
        "",
        "Fail if less than MIN percent of the lines that are new since the other commit ran",
        _limits("patch-under"),
        "MIN",
        many=True,
    ),
    Option("compare", "", "The commit since which the patch counts", metavar="REF"),
    Option(
        "unit",
        "",
        "Coverage of unit tests: a profile of `go test`, or a directory; repeatable",
        tuple,
        "PROFILE_OR_DIR",
        many=True,
    ),
    Option(
        "include", "", "Report only these files and packages; repeatable", tuple, "GLOB", many=True
    ),
    Option(
        "exclude",
        "",
        "Leave out these files and packages, or `generated` files; repeatable",
        tuple,
        "GLOB",
        many=True,
    ),
    Option(
        "append",
        "false",
        "Keep the coverage of earlier runs in the directory, and add to it",
        _bool,
        switch="true",
    ),
    Option(
        "select",
        "",
        "Run only the tests that what changed since the recorded run, or REF, can affect",
        metavar="REF",
    ),
    Option("on_fail", "true", "No report and no limits when tests failed", _bool, switch="false"),
    Option(
        "go_suites",
        "",
        "Directories whose Go or Ginkgo tests are tests of this run: test/e2e, or test/e2e/...",
        _words,
        "DIR ...",
    ),
    Option("go_flags", "", "Flags for compiling them, such as -tags=e2e", _shell_words, "FLAGS"),
    Option(
        "go_timeout",
        "600",
        "Seconds for each Go test, or each group that runs as one",
        _seconds,
        "SECONDS",
    ),
    Option(
        "missing",
        "fail",
        "What becomes of tests where an engine, kind or Go is missing: fail, or skip",
        _missing,
        "WHAT",
    ),
    Option(
        "timeout",
        "600",
        "Seconds for everything before the first test: cluster, build, deploy",
        _seconds,
        "SECONDS",
    ),
)


@dataclass(frozen=True)
class Settings:
    """The settings of a run, each resolved once by command line > environment > ini > default."""

    coverage: bool
    engine: str
    address: str
    node_image: str
    kind_bin: str
    kind_config: str
    keep: str
    cluster: str
    kube_context: str
    sidecar: str
    dir: Path
    context: str
    poll: float
    settle: float
    allow: tuple[str, ...]
    go_suites: tuple[str, ...]
    go_flags: tuple[str, ...]
    go_timeout: float
    report: tuple[Request, ...] | None
    fail_under: tuple[Rule, ...]
    warn_under: tuple[Rule, ...]
    patch_under: tuple[Rule, ...]
    compare: str
    unit: tuple[str, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    append: bool
    select: str
    on_fail: bool
    missing: str
    timeout: float
    rootdir: Path
    cluster_name: str = ""
    """From pytest-kind's --cluster-name; empty: a unique name."""
    kubeconfig: str = ""
    kubectl_bin: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    """Where each value that is not a default came from."""
    texts: dict[str, str] = field(default_factory=dict)
    """Those values as they were given."""

    def wanted(self) -> Wanted:
        """What is wanted of the reports."""
        from pytest_kindcov.report.types import Request
        from pytest_kindcov.report.wanted import Wanted

        return Wanted(
            reports=(Request("term"),) if self.report is None else self.report,
            rules=(*self.fail_under, *self.warn_under, *self.patch_under),
            compare=self.compare,
            unit=self.unit,
            include=self.include,
            exclude=self.exclude,
        )

    def describe(self) -> str:
        """The values that are not defaults, with their source, for the header."""
        parts = [f"coverage={'on' if self.coverage else 'off'}{self._source('coverage')}"]
        parts += [
            f"{option.name}={self.texts.get(option.name, '')}{self._source(option.name)}"
            for option in OPTIONS
            if option.name in self.sources
        ]
        return ", ".join(parts)

    def _source(self, name: str) -> str:
        return f" (from {self.sources[name]})" if name in self.sources else ""


def add_options(parser: pytest.Parser) -> None:
    """Declare flags and ini keys."""
    group = parser.getgroup("kindcov", "coverage of Go services in Kind (pytest-kindcov)")
    group.addoption(
        "--kind-coverage",
        action="store_true",
        default=None,
        dest="kindcov_coverage",
        help="Build the services with coverage, harvest and report it (also E2E_COVERAGE=true)",
    )
    group.addoption(
        "--no-kind-coverage",
        action="store_false",
        default=None,
        dest="kindcov_coverage",
        help="Run without coverage, whatever the environment or the ini file says",
    )
    parser.addini("kindcov_coverage", "As --kind-coverage", type="bool", default=False)
    for option in OPTIONS:
        how: dict[str, Any] = {"metavar": option.metavar}
        if option.switch:
            how = {"action": "store_const", "const": option.switch}
        elif option.many:
            how["action"] = "append"
        group.addoption(option.flag, dest=option.ini, default=None, help=option.help, **how)
        parser.addini(option.ini, option.help, type="string", default="")


def resolve(config: pytest.Config) -> Settings:
    """Resolve all settings; a bad value is a usage error that names its source.

    Raises:
        pytest.UsageError: a value cannot be parsed.

    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    texts: dict[str, str] = {}
    for option in OPTIONS:
        given, source = _lookup(config, option)
        text = " ".join(given)
        try:
            values[option.name] = option.parse(given if option.many else text)
        except ValueError as error:
            raise pytest.UsageError(f"{source}: {text!r}: {error}") from error
        if source:
            sources[option.name] = source
            texts[option.name] = text
    if values["patch_under"] and not values["compare"]:
        raise pytest.UsageError(
            f"{sources['patch_under']}: say since which commit: --kind-coverage-compare=REF"
        )
    _external(values, sources)
    values["dir"] = config.rootpath / values["dir"]
    coverage, source = _coverage(config)
    if source:
        sources["coverage"] = source
    kinds = _pytest_kind(config, values, sources)  # changes values too
    return Settings(
        coverage=coverage,
        rootdir=config.rootpath,
        sources=sources,
        texts=texts,
        **values,
        **kinds,
    )


# What is said of a cluster that a run makes, or that an engine has.
_OF_KIND = ("cluster", "node_image", "kind_bin", "kind_config", "keep")


def _external(values: dict[str, Any], sources: dict[str, str]) -> None:
    """With a context, options for Kind's clusters are errors, or were meant for other runs.

    Raises:
        pytest.UsageError: one was said as near as the context was, or nearer.

    """
    if not values["kube_context"]:
        if sources.get("sidecar", "").startswith("--"):
            raise pytest.UsageError(f"{sources['sidecar']} is for --kind-coverage-kube-context")
        return
    here = _nearness(sources["kube_context"])
    for option in OPTIONS:
        if option.name in _OF_KIND and option.name in sources:
            if values[option.name] != option.default and _nearness(sources[option.name]) >= here:
                raise pytest.UsageError(
                    f"{sources['kube_context']} and {sources[option.name]}: the cluster of a"
                    " context is no cluster of kind's: say one of them"
                )
            values[option.name] = option.parse(option.default)


def _nearness(source: str) -> int:
    return 2 if source.startswith("--") else 1 if source.startswith("env ") else 0


def _lookup(config: pytest.Config, option: Option) -> tuple[tuple[str, ...], str]:
    """The values of an option (just one unless it takes many), and where they come from."""
    value = config.getoption(option.ini)
    if value is not None:
        return tuple(value) if option.many else (value,), option.flag
    text, source = os.environ.get(option.env, ""), f"env {option.env}"
    if not text:
        text, source = str(config.getini(option.ini)), f"ini {option.ini}"
    if not text:
        text, source = option.default, ""
    return tuple(text.split()) if option.many else (text,), source


def _coverage(config: pytest.Config) -> tuple[bool, str]:
    flag = config.getoption("kindcov_coverage")
    if flag is not None:
        return bool(flag), "--kind-coverage" if flag else "--no-kind-coverage"
    text = os.environ.get("E2E_COVERAGE", "")
    if text:
        return text.lower() in ("1", "true", "yes", "on"), "env E2E_COVERAGE"
    if config.getini("kindcov_coverage"):
        return True, "ini kindcov_coverage"
    return False, ""


def _pytest_kind(
    config: pytest.Config, values: dict[str, Any], sources: dict[str, str]
) -> dict[str, Any]:
    """pytest-kind's six options. All are absent under `-p no:pytest-kind`."""

    def get(dest: str) -> Any:
        return config.getoption(dest, None) or ""

    # The default name is one for all runs on a machine: taken as "none given".
    name = get("cluster_name")
    values["node_image"] = values["node_image"] or get("kind_image")
    values["kind_bin"] = values["kind_bin"] or get("kind_bin")
    if get("keep_cluster") and not sources.get("keep", "").startswith("--"):
        values["keep"] = "always"
    name = "" if name == "pytest-kind" else name
    if values["kube_context"]:
        values["keep"] = "never"
    if name and values["kube_context"]:
        raise pytest.UsageError(
            f"--cluster-name={name} and {sources['kube_context']}: say one of them"
        )
    if name and values["cluster"]:
        raise pytest.UsageError(
            f"--cluster-name={name} and {sources['cluster']}: {values['cluster']}: say one of them"
        )
    return {
        "cluster_name": name,
        "kubeconfig": get("kubeconfig"),
        "kubectl_bin": get("kind_kubectl_bin"),
    }
