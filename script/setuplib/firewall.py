"""The rules that a docker daemon leaves in the packet filter, and how to take them out again."""

from __future__ import annotations

import re
import shlex

from setuplib import machine
from setuplib.steps import ask

Rule = tuple[str, str]  # table, and the rule as `iptables-save` prints it (-A CHAIN ... or :CHAIN)

COMMANDS = ("iptables", "ip6tables")
TIMEOUT = 20.0  # seconds


def parse(saved: str) -> list[Rule]:
    """Read the output of `iptables-save`: its chains (`:NAME`, without policy) and rules."""
    table = ""
    rules: list[Rule] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            rules.append((table, line.split()[0]))
        elif line.startswith("-A"):
            rules.append((table, line))
    return rules


def current(command: str) -> list[Rule]:
    """Read the rules in force; [] where there is no such command."""
    save = machine.which(f"{command}-save")
    return parse(ask([save], TIMEOUT).out) if save else []


def leftovers(before: list[Rule], after: list[Rule], bridges: list[str]) -> list[list[str]]:
    """Give the arguments for iptables that remove what a daemon added between two readings.

    Only what names one of docker's chains or one of the daemon's `bridges` is touched: others,
    such as podman, may have changed their own rules meanwhile.
    """
    words = ["DOCKER[A-Z0-9-]*", *(re.escape(bridge) for bridge in bridges)]
    named = re.compile(rf"(?<![\w-])({'|'.join(words)})(?![\w-])")
    old = set(before)
    rules: list[list[str]] = []
    chains: list[list[str]] = []
    for table, rule in after:
        if (table, rule) in old or not named.search(rule):
            continue
        if rule.startswith(":"):
            chains.append(["-t", table, "-X", rule[1:]])  # works once nothing refers to it
        else:
            rules.append(["-t", table, "-D", *shlex.split(rule)[1:]])
    return rules + chains


def restore(command: str, before: list[Rule], bridges: list[str]) -> None:
    """Take out what the daemon left."""
    program = machine.which(command)
    for arguments in leftovers(before, current(command), bridges) if program else []:
        ask([program or command, *arguments], TIMEOUT)
