"""The programs by which the tests read reports: a browser, LCOV's genhtml, jq."""

from __future__ import annotations

from setuplib import machine
from setuplib.steps import SetupError, say

CHROMIUM = "chromium"
# By Debian's package: names of its program, of which one is enough.
PACKAGES = {
    CHROMIUM: ("chromium", "chromium-browser", "google-chrome"),
    "lcov": ("genhtml",),
    "jq": ("jq",),
}


def ensure(*packages: str) -> None:
    """Find them, or install Debian's. Without one its tests skip; in CI they fail.

    Args:
        packages: keys of PACKAGES; none: all.

    """
    for package in packages or PACKAGES:
        if any(machine.which(name) for name in PACKAGES[package]):
            continue
        try:
            # Ubuntu's chromium is a snap, which runs in no container.
            machine.apt_install([package], "with which tests read reports")
        except SetupError as error:
            say(f"set-up: {error}\nset-up: without {package} its tests do not run")
