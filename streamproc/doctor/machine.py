"""This machine: the program's versions, the data directory, the disk below it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from streamproc import __version__
from streamproc.doctor.finding import Finding, State
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.embedded.journal import FILE, SCHEMA, WRITABLE

MB = 1_000_000
FULL, SCARCE, SCARCE_SHARE = 200 * MB, 1_000 * MB, 0.05
"""Free bytes below which it will stop soon; and bytes, or share of the disk, below which somebody should look."""
SHOWN = ("pydantic", "fastapi", "httpx", "prometheus-client", "aiokafka", "faust-streaming", "river", "pagerduty")
"""Libraries whose versions a bug report needs."""
LOOKED_FOR = 4.0
"""Seconds that the file is checked for; a start checks all of it."""
STEPS = 10_000
"""Instructions of SQLite between two looks at the clock."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Usage(Protocol):
    """How full a disk is, in bytes."""

    @property
    def total(self) -> int:
        """All of it."""

    @property
    def free(self) -> int:
        """What is free."""


def find_versions(wanted: Sequence[str] | None = None) -> list[Finding]:
    """Return the versions, and the libraries that are missing.

    Args:
        wanted: requirements as the package's metadata states them, those with a condition left out; its own by default.
    """
    listed = requires("streamproc") or [] if wanted is None else wanted
    names = [named[0] for line in listed if ";" not in line and (named := _NAME.match(line))]
    there = {name: found for name in {*names, *SHOWN} if (found := _version(name))}
    missing = sorted(name for name in names if name not in there)
    if missing:
        mend = "install what requirements/run.txt lists"
        return [Finding("versions", State.FAIL, f"not installed: {', '.join(missing)}", mend)]
    shown = ", ".join(f"{name} {there[name]}" for name in SHOWN if name in there)
    said = f"streamproc {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {shown}"
    return [Finding("versions", State.OK, said)]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def find_directory(folder: Path) -> Iterator[Finding]:
    """Yield what is to be said of a data directory."""
    if not folder.exists():
        mend = f"`streamproc run --data-dir {folder}` makes it; or give the right --data-dir"
        yield Finding("data", State.WARN, f"there is no {folder} yet", mend)
        return
    if not folder.is_dir():
        yield Finding("data", State.FAIL, f"{folder} is no directory", "give another --data-dir")
        return
    yield from _access(folder)
    if not (folder / FILE).is_file():
        yield Finding("data", State.WARN, f"{folder} holds no data yet", f"`streamproc run --data-dir {folder}`")
        return
    yield from _file(folder / FILE)
    at_work = "a process works here" if SqliteDesk(folder).attended() else "no process works here now"
    yield Finding("data", State.OK, f"{folder}: {at_work}")


def _access(folder: Path) -> Iterator[Finding]:
    if folder.stat().st_mode & 0o077:
        said = f"others may look into {folder}: it holds routing keys and the text of alerts"
        yield Finding("data", State.WARN, said, f"chmod 700 {folder}")
    for place in (folder, folder / FILE):
        if place.exists() and not _writable(place):
            yield Finding("data", State.FAIL, f"{place} cannot be written by this user", WRITABLE)


def _writable(place: Path) -> bool:
    """Return whether this user may write there, and the file system too; nothing is written."""
    return os.access(place, os.W_OK)


def _file(path: Path) -> Iterator[Finding]:
    until = time.monotonic() + LOOKED_FOR
    damaged = "see docs/operations.md, 'A damaged data directory'"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=1)) as db:
            schema = db.execute("PRAGMA user_version").fetchone()[0]
            if schema > SCHEMA:
                said = f"{path} was written by a newer streamproc (schema {schema}, this one knows {SCHEMA})"
                yield Finding(
                    "data", State.FAIL, said, "install that version, or restore the backup before the upgrade"
                )
                return
            db.set_progress_handler(lambda: int(time.monotonic() > until), STEPS)
            verdict = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            yield Finding("data", State.FAIL, f"{path} cannot be read: {error}", damaged)
            return
        said = f"{path} is too large to be checked in {LOOKED_FOR:g} s: sound so far, schema {schema}"
        yield Finding("data", State.OK, said)
        return
    except sqlite3.DatabaseError as error:
        yield Finding("data", State.FAIL, f"{path} is damaged: {error}", damaged)
        return
    if verdict != "ok":
        yield Finding("data", State.FAIL, f"{path} is damaged: {' '.join(verdict.split())}", damaged)
        return
    yield Finding("data", State.OK, f"{path} is sound, schema {schema}")


def find_disk(folder: Path, usage: Callable[[Path], Usage] = shutil.disk_usage) -> Finding:
    """Return what is to be said of the disk that a directory is on, or will be."""
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    disk = usage(place)
    said = f"{disk.free / MB:,.0f} MB of {disk.total / MB:,.0f} MB are free below {place}"
    mend = "free some disk, or enlarge it: a full one stops the pipeline (docs/operations.md, 'Capacity')"
    if disk.free < FULL:
        return Finding("disk", State.FAIL, said, mend)
    if disk.free < max(SCARCE, SCARCE_SHARE * disk.total):
        return Finding("disk", State.WARN, said, mend)
    return Finding("disk", State.OK, said)
