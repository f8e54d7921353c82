"""The key of pseudonyms: from a file or the environment, never in an output."""

from __future__ import annotations

import secrets
from pathlib import Path

from streamproc.core.errors import Unusable
from streamproc.recording.pseudonyms import LEAST_KEY


def key_of(file: Path | None, text: str) -> bytes | None:
    """Return the key, None where none is given.

    Args:
        file: its text is the key, spaces around it left out.
        text: the key itself, as the environment has it; counts where no file is named.

    Raises:
        Unusable: the file cannot be read, or the key is too short.
    """
    if file is None and not text:
        return None
    try:
        key = text.strip().encode() if file is None else file.read_bytes().strip()
    except OSError as error:
        raise Unusable(
            f"{file} cannot be read: {error.strerror}; make one with: openssl rand -hex 32 > {file}"
        ) from None
    if len(key) < LEAST_KEY:
        where = "the key of the environment" if file is None else f"the key in {file}"
        raise Unusable(f"{where} has {len(key)} bytes; make one with: openssl rand -hex 32")
    return key


def any_key() -> bytes:
    """Return a key for one run, which nobody can know later."""
    return secrets.token_bytes(32)
