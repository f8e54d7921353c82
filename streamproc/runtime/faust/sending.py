"""Brings a worker's intents to its sender: those of the partitions that it owns and has caught up with, no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from streamproc.core.table import Row, RowKey
from streamproc.events.escalation import Page
from streamproc.runtime.engine import Part
from streamproc.runtime.faust.part import OwnedPart
from streamproc.runtime.faust.worker import Worker
from streamproc.state import INTENT, IntentRow

DELIVER = "deliver"


class Offer(Protocol):
    """What takes intents: `Sender.offer`."""

    def __call__(self, changes: Mapping[str, IntentRow | None], *, in_doubt: bool = False) -> None:
        """Take changed rows; None where one is forgotten."""


def offer_to(
    worker: Worker,
    offer: Offer,
    offer_pages: Callable[[Sequence[Page]], None],
    take_nowhere: Callable[[], Sequence[Page]],
) -> None:
    """Connect a worker to a sender, before the worker starts.

    Args:
        worker: what folds `deliver`.
        offer: the sender's. Rows of a partition are offered in doubt once it is caught up, since its last owner may
            have sent anything of them, and withdrawn when it is given up.
        offer_pages: the sender's, for pages that have nowhere to go.
        take_nowhere: returns those since the last call.
    """

    def changed(part: Part, changes: Mapping[RowKey, Row | None]) -> None:  # noqa: ARG001  keys are the same everywhere
        intents = {
            address.key: row
            for address, row in changes.items()
            if address.table == INTENT.name and (row is None or isinstance(row, IntentRow))
        }
        if intents:
            offer(intents)
        if nowhere := take_nowhere():
            offer_pages(nowhere)

    def owned(part: OwnedPart, mine: bool) -> None:  # noqa: FBT001  a listener
        rows = dict(part.rows.scan(INTENT))
        if mine:
            offer(rows, in_doubt=True)
        elif rows:
            offer(dict.fromkeys(rows))

    worker.listen(DELIVER, changed, owned)
