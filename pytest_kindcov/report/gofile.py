"""Go files for coverage.py: a plugin that its tools load by the `coveragerc` of a run.

`coverage html --rcfile .kindcov/coveragerc --data-file .kindcov/.coverage` and the others read who
ran what from the data file, and ask the plugin which lines there are; those stand in the same file.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from coverage import CoverageException, CoveragePlugin, FileReporter

from pytest_kindcov.errors import KindCovError
from pytest_kindcov.report import datafile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from coverage.plugin_support import Plugins
    from coverage.types import TConfigValueOut


class GoFile(FileReporter):
    """One Go file.

    Args:
        filename: as in the data file: its path, or Go's name of a file that is not here.
        bits: its lines with statements.

    """

    def __init__(self, filename: str, bits: int) -> None:
        super().__init__(filename)
        self._bits = bits

    def lines(self) -> set[int]:
        """All lines with statements."""
        return set(datafile.numbers(self._bits))

    def source(self) -> str:
        """Its text; empty lines for what is not there (any more)."""
        try:
            text = Path(self.filename).read_bytes().decode("utf-8", "replace")
        except OSError:
            text = ""
        return text + "\n" * (self._bits.bit_length() - 1 - text.count("\n"))

    def source_token_lines(self) -> Iterator[list[tuple[str, str]]]:
        """Every line as one token: without colours."""
        for line in self.source().split("\n"):
            yield [("txt", line.rstrip("\r"))]


class GoPlugin(CoveragePlugin):
    """Knows the Go files of one data file.

    Args:
        data: the data file.

    """

    def __init__(self, data: Path) -> None:
        super().__init__()
        self._data = data

    def file_reporter(self, filename: str) -> FileReporter:
        """The reporter of a file in the data."""
        if filename not in self._lines:
            raise CoverageException(f"{filename} is not in {self._data}: other data, other file")
        return GoFile(filename, self._lines[filename])

    @cached_property
    def _lines(self) -> dict[str, int]:
        try:
            with datafile.opened(self._data) as connection:
                rows = connection.execute(
                    "SELECT path, numbits FROM kindcov_file JOIN file ON file.id = file_id"
                )
                return {path: datafile.bits(numbits) for path, numbits in rows}
        except KindCovError as error:
            raise CoverageException(str(error)) from error


def coverage_init(reg: Plugins, options: Mapping[str, TConfigValueOut]) -> None:
    """Called by coverage.py with the options of the section that is named as this module."""
    data = options.get("data")
    if not isinstance(data, str):
        raise CoverageException(f"[{__name__}] needs `data`: use the coveragerc that the run wrote")
    reg.add_file_tracer(GoPlugin(Path(data)))
