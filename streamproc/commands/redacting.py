"""Options and answers that `record` and `scrub` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamproc.recording.keys import any_key, key_of
from streamproc.recording.redaction import Redactor
from streamproc.recording.rules import Rules

Redact = Annotated[
    list[str] | None,
    typer.Option(
        help="What is redacted, beside e-mail addresses, IP addresses and secrets: labels.NAME, annotations.NAME, "
        "fields.NAME (with * for any), host. Repeat it, or put commas between.",
        show_default=False,
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(help="What stays as it is, in the same words; also email, ip, token.", show_default=False),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file", help="Secret that makes pseudonyms: with the same one they are the same.", dir_okay=False
    ),
]
Key = Annotated[
    str,
    typer.Option(
        "--key", envvar="STREAMPROC_REDACTION_KEY", help="The same; better in STREAMPROC_REDACTION_KEY.",
        show_default=False,
    ),
]  # fmt: skip


def redactor(redact: list[str] | None, keep: list[str] | None, key_file: Path | None, key: str) -> Redactor:
    """Return what redacts as the options say; without a key pseudonyms hold for this run alone, which is said.

    Raises:
        Unusable: an option cannot be used.
    """
    rules, given = Rules.of(redact or (), keep or ()), key_of(key_file, key)
    if given is None:
        typer.echo("No key is given: pseudonyms are the same within this run alone (--key-file keeps them).", err=True)
    return Redactor(rules, given or any_key())
