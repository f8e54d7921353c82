"""What a worker says to people when a guard ends it: the process becomes another program, which only says that.

A guard must end every commit at once, and people shall hear of it, which takes seconds. A thread beside the event loop
would leave the loop running where the guard is itself a thread (a stall), and with it the commit that the guard fears;
a child is killed with its parent where the worker is the first process of a container. So `execv`: the kernel ends
all threads and closes all connections to brokers in one step, as an exit does, and the same process, which a
supervisor still waits for, sends the message and ends with the guard's code. A timer bounds that; it runs before
anything is loaded that takes time. An alarm of the kernel, set before, ends a program that does not even come to its
timer, except as the first process of a container, which the kernel lets ignore it: there only a probe would notice.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NoReturn

TELL_WITHIN = 5.0
"""Seconds that telling may take: less than one, except where the machine is so busy that workers stand still."""
GONE_AFTER = 2.0
"""Seconds after these at which the kernel's alarm ends the process: those in which the new program starts."""
QUIET_FOR = 300.0
"""Seconds in which the same is told once on this machine: a supervisor starts the worker again and again."""
LONGEST = 4000
"""Characters of the message, which must fit into a pipe that nobody reads yet."""


@dataclass(frozen=True)
class Words:
    """What is handed over to the program that says it, through a pipe: channels are secrets."""

    channels: tuple[str, ...]
    subject: str
    """What is told once in `QUIET_FOR`: part of a file name."""
    code: int
    title: str
    body: str
    within: float = TELL_WITHIN


def say_last(words: Words) -> NoReturn:
    """Become the program that says it. Call it from any thread; nothing of this process runs after it.

    Raises:
        OSError: the program cannot be started; the caller must end the process itself.
    """
    signal.setitimer(
        signal.ITIMER_REAL, words.within + GONE_AFTER
    )  # it outlives the exec, and ends a process that does not heed it
    readable, writable = os.pipe()
    os.write(writable, json.dumps(asdict(replace(words, body=words.body[:LONGEST]))).encode())
    os.close(writable)
    os.dup2(readable, 0)
    os.set_inheritable(0, True)
    os.execv(sys.executable, [sys.executable, "-m", "streamproc.lastwords"])  # noqa: S606  ourselves, with no argument


def say(words: Words, stamps: Path, leave: Callable[[int], object] = os._exit) -> None:
    """Tell people, unless the same was told lately, and end the process with the guard's code in time.

    Args:
        words: what is said.
        stamps: folder that remembers when something was told last; shared by the workers of a machine.
        leave: ends the process.
    """
    late = threading.Timer(words.within, leave, [words.code])
    late.daemon = True
    late.start()
    try:
        from streamproc.sinks.notify.fallback import Fallback  # noqa: PLC0415  takes a second, which the timer bounds

        stamp = stamps / f"streamproc-{os.getuid()}-{words.subject}"
        if not _fresh(stamp) and asyncio.run(Fallback(words.channels, words.within).tell(words.title, words.body)):
            stamp.touch(mode=0o600)
    finally:
        late.cancel()
        leave(words.code)


def _fresh(stamp: Path) -> bool:
    try:
        found = stamp.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and time.time() - found.st_mtime < QUIET_FOR


if __name__ == "__main__":
    say(Words(**json.load(sys.stdin)), Path(tempfile.gettempdir()))
