"""Text from elsewhere, made fit to be shown: no secrets of the environment, no escapes."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAME = re.compile(
    r"PASS|SECRET|TOKEN|CREDENTIAL|COOKIE|PRIVATE|API_?KEY|ACCESS_?KEY|_KEY$|_PAT$|_AUTH$|_DSN$",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Shorter values (`true`, `1`, `none`) occur in any text by themselves.
_SHORT = 6


def clean(text: str) -> str:
    """A text without colours and control characters, but for line breaks and tabs."""
    return _ESCAPES.sub("", text.replace("\r\n", "\n"))


class Secrets:
    """Values that must not be shown.

    Args:
        environment: names and values; those whose names say so are secret, and passwords in URLs.

    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add((os.environ if environment is None else environment).items())

    def add(self, variables: Iterable[tuple[str, str]]) -> None:
        """Take the secret ones among variables."""
        for name, value in variables:
            if _NAME.search(name):
                # A key of many lines may be shown line by line.
                self._values |= {value.strip(), *(line.strip() for line in value.splitlines())}
            self._values |= set(_USERINFO.findall(value))
        self._values = {value for value in self._values if len(value) >= _SHORT}
        longest_first = sorted(self._values, key=len, reverse=True)
        self._pattern = (
            re.compile("|".join(map(re.escape, longest_first))) if self._values else None
        )

    def hide(self, text: str) -> str:
        """The text with each secret replaced."""
        return self._pattern.sub("[secret]", text) if self._pattern else text
