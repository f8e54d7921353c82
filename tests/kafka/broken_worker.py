"""Workers that die in a commit, one of them right, the others broken in the one way that their name says."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from streamproc.runtime.faust import folding
from streamproc.runtime.faust.client import Place, writer
from streamproc.runtime.faust.commit import Line, commit
from streamproc.runtime.faust.config import Config
from tests.kafka import worker_process

AT = int(os.environ.get("CRASH_AT", "0"))
"""The process dies in its so-manieth commit: at the worst moment, which no signal from outside would find."""
_writers: dict[int, Any] = {}
_commits = 0


def crash_now() -> None:
    """Die where the variant is weakest, once."""
    global _commits  # noqa: PLW0603  the process dies of it
    _commits += 1
    mark = Path(os.environ["CRASHED"]) if AT else None
    if mark is not None and _commits >= AT and not mark.exists():
        mark.touch()
        os._exit(137)


async def right(producer: Any, batches: Mapping[Place, Sequence[Line]]) -> None:
    """The real thing: everything is written, and the process dies before the commit."""
    real = producer.commit_transaction

    async def commit_transaction() -> None:
        crash_now()
        await real()

    producer.commit_transaction = commit_transaction
    try:
        await commit(producer, batches)
    finally:
        producer.commit_transaction = real


async def rows_outside(producer: Any, batches: Mapping[Place, Sequence[Line]]) -> None:
    """Emits are committed; rows and position are written behind, by a producer of their own."""
    state = {place: lines for place, lines in batches.items() if ".state-" in place.topic}
    emits = {place: lines for place, lines in batches.items() if place not in state}
    if emits:
        await commit(producer, emits)
        crash_now()
    await write(producer, state)


async def no_transaction(producer: Any, batches: Mapping[Place, Sequence[Line]]) -> None:
    """Everything is written outside of any transaction, rows last."""
    state = {place: lines for place, lines in batches.items() if ".state-" in place.topic}
    emits = {place: lines for place, lines in batches.items() if place not in state}
    await write(producer, emits)
    if emits:
        crash_now()
    await write(producer, state)


async def write(producer: Any, batches: Mapping[Place, Sequence[Line]]) -> None:
    other = _writers.get(id(producer)) or _writers.setdefault(id(producer), await writer(CONFIG))
    for place, lines in batches.items():
        for key, value, headers in lines:
            await other.send(place.topic, value=value, key=key, partition=place.partition, headers=headers)
    await other.flush()


def one_for_all(self: Config, node: str, partition: int) -> str:
    """Every partition of a node commits under one id, so that each shuts out the others."""
    return f"{self.group_id}-{node}"


told = json.loads(sys.argv[1])
CONFIG = Config.model_validate({name: value for name, value in told.items() if name != "world"})
if os.environ["BROKEN"] == "shared_id":
    setattr(Config, "transactional_id", one_for_all)  # noqa: B010  a variant, as its name says
else:
    vars(folding)["commit"] = {"right": right, "rows_outside": rows_outside, "no_transaction": no_transaction}[
        os.environ["BROKEN"]
    ]

asyncio.run(worker_process.main(told))
