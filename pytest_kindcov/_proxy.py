"""No proxy between the tests and a cluster of this machine: a proxy elsewhere cannot reach it."""

from __future__ import annotations

import os

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def bypass(*hosts: str) -> None:
    """Add hosts to NO_PROXY of this process and its children, if it has any proxy.

    There is no other way: kind, kubectl and the tests' own HTTP clients each read the environment.
    """
    if not any(os.environ.get(name) or os.environ.get(name.lower()) for name in _PROXIES):
        return
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for name in ("NO_PROXY", "no_proxy"):
        entries = (os.environ.get(name) or known).split(",")
        entries += [host for host in hosts if host not in entries]
        os.environ[name] = ",".join(filter(None, entries))
