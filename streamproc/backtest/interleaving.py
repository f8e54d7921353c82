"""What a replay from recorded requests makes otherwise than the pipeline did live, under the settings it had live.

Several partitions are folded side by side, and in which order requests of one met those of another is recorded in the
inboxes behind them, not in the requests. So a replay from requests may group or page a little otherwise. How much is
counted here, not guessed: the recorded inboxes are folded again, the requests are replayed, and the two are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from streamproc.backtest import rawlog
from streamproc.backtest.reading import Tally
from streamproc.backtest.recorded import Inboxes
from streamproc.backtest.replay import Replay
from streamproc.backtest.retold import Retold, destinations
from streamproc.settings import Settings

NAMED = 10
"""Incidents that are named of each kind of difference."""


class Gathered:
    """Takes the lines of the outputs, as far as they are compared."""

    def __init__(self) -> None:
        self.incidents: dict[str, frozenset[str]] = {}
        """Alerts of every incident."""
        self.triggers: list[tuple[datetime, str, str]] = []
        """Moment, incident and dedup key of every trigger that opens an alert at PagerDuty."""
        self._open: set[str] = set()

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Take a line."""
        if name == "incidents":
            self.incidents[line["incident_id"]] = frozenset(line["alerts"])
        elif name == "pages":
            key, action = line["body"]["dedup_key"], line["body"]["event_action"]
            if action == "resolve":
                self._open.discard(key)
            elif action == "trigger" and key not in self._open:
                self._open.add(key)
                self.triggers.append((datetime.fromisoformat(line["at"]), line["incident_id"], key))

    def pages(self, until: datetime | None) -> Counter[str]:
        """Return how often each incident paged up to a moment."""
        return Counter(incident_id for at, incident_id, _ in self.triggers if until is None or at <= until)


def compare(
    inboxes: Inboxes,
    topic: str,
    settings: Settings,
    since: datetime | None,
    until: datetime | None,
    stop: Callable[[], bool],
) -> dict[str, Any] | None:
    """Return the difference as JSON; None where there is only one partition, or `stop` said so.

    Args:
        inboxes: the log.
        topic: of the requests.
        settings: whatever is not recorded.
        since: first moment; a replay knows nothing from before it, so that what began earlier is a difference, too.
        until: first moment that is left out.
        stop: asked before each record and each request.
    """
    partitions = len(inboxes.partitions(topic))
    if partitions == 1:
        return None
    live, again = Gathered(), Gathered()
    retold = Retold(inboxes, live)
    if not retold.run(since, until, Tally(), lambda _: None, stop):
        return None
    raw = rawlog.Raw(inboxes, topic, since, until)
    beside = rawlog.beside(inboxes, raw.first_at(), until, settings_too=True)
    pagerduty = settings.pagerduty.model_copy(update={"destinations": destinations(inboxes)})
    replay = Replay(settings.model_copy(update={"pagerduty": pagerduty, "policies": {}}), None, again)
    if not replay.run(raw.lines(Tally()), beside, stop):
        return None
    paged, paged_again = live.pages(None), again.pages(retold.until)
    missed, more = paged - paged_again, paged_again - paged
    gone, new = live.incidents.keys() - again.incidents.keys(), again.incidents.keys() - live.incidents.keys()
    other = {
        one for one in live.incidents.keys() & again.incidents.keys() if live.incidents[one] != again.incidents[one]
    }
    return {
        "partitions": partitions,
        "incidents": {
            "live": len(live.incidents),
            "replayed": len(again.incidents),
            "only_live": len(gone),
            "only_replayed": len(new),
            "other_alerts": len(other),
            "first": {
                "only_live": sorted(gone)[:NAMED],
                "only_replayed": sorted(new)[:NAMED],
                "other_alerts": sorted(other)[:NAMED],
            },
        },
        "pages": {
            "live": paged.total(),
            "replayed": paged_again.total(),
            "only_live": missed.total(),
            "only_replayed": more.total(),
            "first": {"only_live": sorted(missed)[:NAMED], "only_replayed": sorted(more)[:NAMED]},
        },
    }


def told(found: dict[str, Any]) -> str:
    """Return the difference in one line."""
    incidents, pages = found["incidents"], found["pages"]
    other = incidents["other_alerts"]
    return (
        f"The order across {found['partitions']} partitions is not in the requests: replayed under the recorded "
        f"settings they come to {pages['replayed']:,} pages, live it were {pages['live']:,} "
        f"({pages['only_live']:,} only live, {pages['only_replayed']:,} only replayed); "
        f"incidents {incidents['replayed']:,} and {incidents['live']:,} ({other:,} with other alerts)."
    )
