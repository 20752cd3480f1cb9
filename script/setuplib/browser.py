"""Chromium, in which the tests look at the HTML report."""

from __future__ import annotations

from setuplib import machine
from setuplib.steps import SetupError, say

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def ensure() -> None:
    """Find a Chromium, or install Debian's. Without one its tests skip; in CI they fail."""
    if any(machine.which(name) for name in PROGRAMS):
        return
    try:
        # Ubuntu's package of that name is a snap, which runs in no container.
        machine.apt_install(["chromium"], "no browser for the tests of the HTML report")
    except SetupError as error:
        say(f"set-up: {error}\nset-up: without it the tests in tests/browser do not run")
