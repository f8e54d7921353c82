"""Files that commands write: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from streamproc.core.errors import Unusable

OWNER_ALONE, AS_USUAL = 0o600, 0o644


def write_whole(file: Path, text: str, *, private: bool) -> None:
    """Write a file into a temporary one and rename that; what other processes read is the old one or the new one.

    Args:
        file: where; its mode stays as it is where it exists.
        text: all of it.
        private: whether only its owner may read it.

    Raises:
        Unusable: it cannot be written.
    """
    mode = OWNER_ALONE if private else (file.stat().st_mode & 0o777 if file.exists() else AS_USUAL)
    made: str | None = None
    try:
        handle, made = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            os.fchmod(out.fileno(), mode)
        Path(made).replace(file)
    except OSError as error:
        if made is not None:
            Path(made).unlink(missing_ok=True)
        raise Unusable(f"{file} cannot be written: {error.strerror}") from error


def check_writable(file: Path) -> None:
    """Check that a file can be written, and leave it as it is.

    Raises:
        Unusable: it cannot.
    """
    try:
        handle, made = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise Unusable(f"{file} cannot be written: {error.strerror}") from error
    os.close(handle)
    Path(made).unlink()
    if file.exists() and not file.is_file():
        raise Unusable(f"{file} cannot be written: it is no file")
