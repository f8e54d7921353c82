"""Counts what a runtime decided, and keeps the pages that have nowhere to go."""

from __future__ import annotations

from collections import Counter

from streamproc.core.fold import Folded
from streamproc.events.escalation import Page
from streamproc.runtime.engine import Sensor
from streamproc.stages.deliver import Reason as Undeliverable


class Tally:
    """A sensor that passes on to another and keeps the counts that `status` shows."""

    def __init__(self, sensor: Sensor | None) -> None:
        self._sensor = sensor
        self.decisions: Counter[str] = Counter()
        self._nowhere: list[Page] = []

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:
        """Note a micro-batch."""
        for seen, times in folded.observations.items():
            self.decisions[f"{seen.stage}/{seen.reason}"] += times
            if seen.reason == Undeliverable.NO_ROUTING_KEY:
                pages = (Page.decode(emit.value, emit.headers) for emit in folded.emits if emit.topic == "pages")
                self._nowhere.extend(page for page in pages if not page.routing_key_hint)
        if self._sensor is not None:
            self._sensor.folded(node, partition, count, folded, seconds)

    def take_nowhere(self) -> list[Page]:
        """Return the pages since the last call that have nowhere to go: no routing key is configured for them."""
        nowhere, self._nowhere = self._nowhere, []
        return nowhere
