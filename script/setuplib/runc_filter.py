"""A runtime for docker where limits may not be raised: runc with a specification made humbler.

`runc_filter.py RUNC ARGUMENTS...`: docker asks for every capability, for OOM scores and limits as
if it were on a machine of its own. Where this process cannot have CAP_SYS_RESOURCE, runc fails on
each of these ("operation not permitted"), so they are taken out before runc reads them. Run as a
program by the daemon, for each container and each exec: it imports nothing that it can do without.
"""

from __future__ import annotations

import json
import os
import resource
import sys

MISSING = "CAP_SYS_RESOURCE"


def humbled(process: dict[str, object], hard: dict[str, int]) -> dict[str, object]:
    """Give an OCI process without what needs CAP_SYS_RESOURCE.

    `hard`: this machine's hard limits by name (RLIMIT_NOFILE ...); higher ones are cut to them.
    """
    result = {key: value for key, value in process.items() if key != "oomScoreAdj"}
    capabilities = process.get("capabilities")
    if isinstance(capabilities, dict):
        result["capabilities"] = {
            kind: [name for name in names if name != MISSING]
            for kind, names in capabilities.items()
        }
    rlimits = process.get("rlimits")
    if isinstance(rlimits, list):
        result["rlimits"] = [
            {
                **limit,
                "hard": min(limit["hard"], hard.get(limit["type"], limit["hard"])),
                "soft": min(limit["soft"], hard.get(limit["type"], limit["soft"])),
            }
            for limit in rlimits
        ]
    return result


def hard_limits() -> dict[str, int]:
    """Read this process's hard limits by their OCI names; unlimited ones are left out."""
    found = {}
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            hard = resource.getrlimit(getattr(resource, name))[1]
            if hard != resource.RLIM_INFINITY:
                found[name] = hard
    return found


def option(arguments: list[str], *names: str) -> str | None:
    """Give the value of an option, written `--name value` or `--name=value`; None without it."""
    for index, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        if key in names and equals:
            return value
        if key in names and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def edit(arguments: list[str]) -> None:
    """Edit the file that a runc call is going to read: a bundle's config.json, or exec's own."""
    bundle = option(arguments, "--bundle", "-b")
    process = option(arguments, "--process", "-p")
    if bundle is not None and not {"create", "run", "restore"}.isdisjoint(arguments):
        path = os.path.join(bundle, "config.json")  # noqa: PTH118 - pathlib costs 10 ms a call
    elif process is not None and "exec" in arguments:
        path = process
    else:
        return
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        spec = json.load(file)
    if "process" in spec:
        spec["process"] = humbled(spec["process"], hard_limits())
    else:
        spec = humbled(spec, hard_limits())
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(spec, file)


if __name__ == "__main__":
    edit(sys.argv[2:])
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - runc is what the daemon asked for
