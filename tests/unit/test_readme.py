"""The README's code is the example's code, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_kindcov.options import OPTIONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_conftest_is_the_examples() -> None:
    shown = _blocks("python")[0].strip()
    real = (ROOT / "examples/orders/conftest.py").read_text()
    assert shown in real


def test_commands_exist() -> None:
    commands = re.findall(r"^(script/\w+)", "\n".join(_blocks("sh")), re.MULTILINE)
    assert commands == ["script/demo", "script/test", "script/bench"]
    for command in commands:
        assert (ROOT / command).stat().st_mode & 0o111
    assert "script/test" in (ROOT / ".ci/run").read_text()


def test_all_options_are_described() -> None:
    for option in OPTIONS:
        assert f"`{option.flag}`" in README, option.flag
        assert f"`{option.ini}`" in README
        assert f"`{option.env}`" in README


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
