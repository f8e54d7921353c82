"""Appending with a bound on the time: whoever waits for an answer must get one."""

from __future__ import annotations

import asyncio

from streamproc.ports import Entry, Inlet, Overloaded


async def append(inlet: Inlet, entry: Entry, seconds: float) -> None:
    """Append one record; durable when this returns.

    Raises:
        Overloaded: the log takes nothing now, or was not done within `seconds`. In the second case it may still take
            the record: what a sender then repeats is made one by identity.
    """
    try:
        async with asyncio.timeout(seconds):
            await inlet.append([entry])
    except TimeoutError:
        raise Overloaded(f"The log did not answer within {seconds:g} s.") from None
