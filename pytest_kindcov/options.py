"""One table of settings: flag, ini key, environment variable, default, help."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


LOSSES = ("killed", "overran", "lost")
"""Verdicts by which coverage may be lost, as `harvest.verdict` names them."""


@dataclass(frozen=True)
class Option:
    """One setting: flag `--kind-coverage-NAME`, ini key `kindcov_NAME`, env `KINDCOV_NAME`."""

    name: str
    default: str
    help: str
    parse: Callable[[str], Any] = str
    metavar: str = "VALUE"

    @property
    def flag(self) -> str:
        """The command line flag."""
        return "--kind-coverage-" + self.name.replace("_", "-")

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


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _allow(text: str) -> tuple[str, ...]:
    words = _words(text)
    for word in words:
        kind = word.partition(":")[0]
        if kind not in LOSSES:
            raise ValueError(f"{kind} is none of {', '.join(LOSSES)}")
    return words


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
    Option("kind_config", "", "Kind config file for the cluster", metavar="FILE"),
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
    dir: Path
    context: str
    poll: float
    settle: float
    allow: tuple[str, ...]
    missing: str
    timeout: float
    rootdir: Path
    cluster_name: str = ""
    """From pytest-kind's --cluster-name; empty: a unique name."""
    keep: bool = False
    """From pytest-kind's --keep-cluster."""
    kubeconfig: str = ""
    kubectl_bin: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    """Where each value that is not a default came from."""

    def describe(self) -> str:
        """The values that are not defaults, with their source, for the header."""
        parts = [f"coverage={'on' if self.coverage else 'off'}{self._source('coverage')}"]
        parts += [
            f"{option.name}={getattr(self, option.name)}{self._source(option.name)}"
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
        group.addoption(
            option.flag, dest=option.ini, default=None, metavar=option.metavar, help=option.help
        )
        parser.addini(option.ini, option.help, type="string", default="")


def resolve(config: pytest.Config) -> Settings:
    """Resolve all settings; a bad value is a usage error that names its source.

    Raises:
        pytest.UsageError: a value cannot be parsed.

    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for option in OPTIONS:
        text, source = _lookup(config, option)
        try:
            values[option.name] = option.parse(text)
        except ValueError as error:
            raise pytest.UsageError(f"{source}: {text!r}: {error}") from error
        if source:
            sources[option.name] = source
    values["dir"] = config.rootpath / values["dir"]
    coverage, source = _coverage(config)
    if source:
        sources["coverage"] = source
    return Settings(
        coverage=coverage,
        rootdir=config.rootpath,
        sources=sources,
        **values,
        **_pytest_kind(config, values),
    )


def _lookup(config: pytest.Config, option: Option) -> tuple[str, str]:
    value = config.getoption(option.ini)
    if value is not None:
        return value, option.flag
    if os.environ.get(option.env):
        return os.environ[option.env], f"env {option.env}"
    ini = config.getini(option.ini)
    if ini:
        return str(ini), f"ini {option.ini}"
    return option.default, ""


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


def _pytest_kind(config: pytest.Config, values: dict[str, Any]) -> dict[str, Any]:
    """pytest-kind's six options. All are absent under `-p no:pytest-kind`."""

    def get(dest: str) -> Any:
        return config.getoption(dest, None) or ""

    # The default name is one for all runs on a machine: taken as "none given".
    name = get("cluster_name")
    values["node_image"] = values["node_image"] or get("kind_image")
    values["kind_bin"] = values["kind_bin"] or get("kind_bin")
    return {
        "cluster_name": "" if name == "pytest-kind" else name,
        "keep": bool(get("keep_cluster")),
        "kubeconfig": get("kubeconfig"),
        "kubectl_bin": get("kind_kubectl_bin"),
    }
