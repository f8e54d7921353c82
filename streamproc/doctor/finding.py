"""What a check found, and checks run side by side, each within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from streamproc.core.errors import StreamprocError

WITHIN = 5.0
"""Seconds that a check may take."""
NOTICED, HARMFUL = timedelta(seconds=5), timedelta(minutes=5)
"""Difference of clocks that is worth a look, and that stops a pipeline (docs/operations.md, "Clocks")."""
SET_CLOCK = "set the clock right: let NTP run (chronyc tracking)"


class State(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    state: State
    said: str
    mend: str = ""
    """What to do; empty where nothing is to be done, or `said` has it."""


class Check(NamedTuple):
    """One thing to look at."""

    name: str
    look: Callable[[], Awaitable[Sequence[Finding]]]
    mend: str = ""
    """What to do where it gives no answer in time."""


async def examine(checks: Iterable[Check], within: float = WITHIN) -> list[Finding]:
    """Run checks side by side; return what they found, in the order of the checks.

    Args:
        checks: what to look at.
        within: seconds for each of them.
    """
    found = await asyncio.gather(*(_bounded(check, within) for check in checks))
    return [finding for findings in found for finding in findings]


async def _bounded(check: Check, within: float) -> Sequence[Finding]:
    try:
        return await asyncio.wait_for(check.look(), within)
    except TimeoutError:
        return [Finding(check.name, State.FAIL, f"there is no answer within {within:g} s", check.mend)]
    except StreamprocError as error:
        return [Finding(check.name, State.FAIL, " ".join(str(error).split()), check.mend)]


def failed(findings: Iterable[Finding]) -> int:
    """Return how many findings are faults."""
    return sum(finding.state is State.FAIL for finding in findings)


def compare_clocks(name: str, theirs: datetime, ours: datetime) -> Finding:
    """Return what is to be said of another clock; a reading may be a second old."""
    skew = ours - theirs
    state = State.FAIL if abs(skew) > HARMFUL else State.WARN if abs(skew) > NOTICED else State.OK
    if state is State.OK:
        return Finding("clock", state, f"agrees with {name}'s")
    side = "ahead of" if skew > timedelta() else "behind"
    return Finding("clock", state, f"this machine's is {abs(skew).total_seconds():,.0f} s {side} {name}'s", SET_CLOCK)
