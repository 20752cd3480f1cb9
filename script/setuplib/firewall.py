"""The rules that a docker daemon leaves in the packet filter, and how to take them out again."""

from __future__ import annotations

import ipaddress
import re
import shlex

from setuplib import machine
from setuplib.steps import ask

Rule = tuple[str, str]  # table, and the rule as `iptables-save` prints it (-A CHAIN ... or :CHAIN)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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

    Only what names one of docker's chains, one of the daemon's `bridges` or an address behind
    them is touched: others, such as podman, may have changed their own rules meanwhile.
    """
    words = ["DOCKER[A-Z0-9-]*", *(re.escape(bridge) for bridge in bridges)]
    named = re.compile(rf"(?<![\w-])({'|'.join(words)})(?![\w-])")
    networks = []
    for _, rule in after:
        found = re.search(r"-s (\S+) ! -o (\S+) -j MASQUERADE", rule)
        if found is not None and found[2] in bridges:
            networks.append(ipaddress.ip_network(found[1]))
    old = set(before)
    rules: list[list[str]] = []
    chains: list[list[str]] = []
    for table, rule in after:
        if (table, rule) in old or not (named.search(rule) or source_in(rule, networks)):
            continue
        if rule.startswith(":"):
            chains.append(["-t", table, "-X", rule[1:]])  # works once nothing refers to it
        else:
            rules.append(["-t", table, "-D", *shlex.split(rule)[1:]])
    return rules + chains


def source_in(rule: str, networks: list[Network]) -> bool:
    """Tell whether a rule is for packets from one of the networks: a published port's is."""
    found = re.search(r"-s (\S+)", rule)
    source = ipaddress.ip_network(found[1]) if found else None
    return source is not None and any(
        source.version == each.version and each.supernet_of(source)  # type: ignore[arg-type]
        for each in networks
    )


def restore(command: str, before: list[Rule], bridges: list[str]) -> None:
    """Take out what the daemon left."""
    program = machine.which(command)
    for arguments in leftovers(before, current(command), bridges) if program else []:
        ask([program or command, *arguments], TIMEOUT)
