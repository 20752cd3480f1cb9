"""Reports onto the disk: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def writable(directory: Path) -> bool:
    """Whether a directory that may not be there yet can be made and written."""
    there = next(each for each in [directory, *directory.absolute().parents] if each.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def file(target: Path, data: bytes) -> None:
    """Write a file; one that was there is replaced at the end, at once.

    What is no file, such as `/dev/stderr`, is written to as it is.

    Raises:
        OSError: it cannot be written; what was there is as it was.

    """
    target.parent.mkdir(parents=True, exist_ok=True)
    real = target.resolve()  # a link stays a link
    if real.exists() and not real.is_file():
        real.write_bytes(data)
        return
    handle, partial = tempfile.mkstemp(prefix=".kindcov-", dir=real.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(partial).chmod(_mode(real))
        Path(partial).replace(real)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(partial).unlink()
        raise


def append(target: Path, data: bytes) -> None:
    """Add to a file, at once.

    Raises:
        OSError: it cannot be written.

    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab", buffering=0) as stream:
        stream.write(data)


def directory(target: Path, write: Callable[[Path], None], own: str = "") -> None:
    """Write the files of a directory; each that was there is replaced, others stay.

    Args:
        target: the directory, created if it is missing.
        write: fills an empty directory beside it, whose files are moved at the end.
        own: a directory in it that is replaced as a whole, at once.

    Raises:
        OSError: it cannot be written; what was there is as it was.

    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target = target.resolve()
    partial = Path(tempfile.mkdtemp(prefix=".kindcov-", dir=target.parent))
    try:
        partial.chmod(0o777 & ~_umask())
        write(partial)
        if target.exists():
            if own and (target / own).exists():
                (target / own).rename(partial / "old")
                (partial / own).rename(target / own)
                shutil.rmtree(partial / "old")
            for path in sorted(partial.rglob("*")):
                place = target / path.relative_to(partial)
                if path.is_dir():
                    place.mkdir(exist_ok=True)
                else:
                    path.replace(place)
        else:
            partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _mode(target: Path) -> int:
    """The mode of a file that is replaced, or that of any new one."""
    try:
        return target.stat().st_mode & 0o7777
    except OSError:
        return 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
