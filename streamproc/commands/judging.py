"""Decides on what an Alertmanager has firing, in memory, with the topology and the settings that would run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from streamproc.beginning import arming
from streamproc.commands.alertmanager import Group
from streamproc.core.event import DeadLetter
from streamproc.core.fold import CONFIG
from streamproc.events.incident import Action, Incident
from streamproc.events.raw import RawAlert
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.services import CATALOGUE
from streamproc.settings import Settings
from streamproc.sources.alertmanager import NAME
from streamproc.sources.reading import MAX_ALERTS
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.versions import activation
from streamproc.views import IncidentView, incident_view

ORDER = (Action.PAGE, Action.TICKET, Action.HOLD, Action.NONE)
SETTLE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Judged:
    """What would come of some alerts."""

    incidents: tuple[IncidentView, ...]
    """Those that page first, the most severe on top."""
    notes: tuple[str, ...]
    """What a person should know of the input, one sentence each."""


def judge(groups: Sequence[Group], settings: Settings, catalogue: str | None, now: datetime) -> Judged:
    """Return what the pipeline would make of alerts that all come in now. Pure: nothing is sent or kept.

    Args:
        groups: as Alertmanager would notify.
        settings: what would run.
        catalogue: body of the service catalogue, None for none.
        now: the moment they come in.
    """
    memory = Memory(TOPOLOGY, LETTERS, MemoryJournal(TOPICS), ManualClock(now))
    for kind, body in ((CONFIG, settings.stages()), (CATALOGUE.name, catalogue)):
        if body is not None:
            memory.append(activation(kind, body, None, author="try", reason="try"))
    memory.put("policies", arming(1, now, author="try", adopt=False))
    memory.run()
    memory.append([Entry.of("alerts.raw", RawAlert(body=body, source=NAME)) for body in _bodies(groups)])
    memory.advance(settings.escalate.publish_every + SETTLE)  # a growing incident is published at most so often
    told: dict[str, list[Incident]] = {}
    for record in memory.records("incidents.enriched"):
        incident = Incident.decode(record.value, record.headers)
        told.setdefault(incident.incident_id, []).append(incident)
    views = [view for incidents in told.values() if (view := incident_view(incidents, ())) is not None]
    views.sort(key=_rank)
    letters = [DeadLetter.decode(record.value, record.headers) for record in memory.records(LETTERS.name)]
    return Judged(tuple(views), tuple(_notes(views, letters, catalogue)))


def _bodies(groups: Sequence[Group]) -> Iterator[bytes]:
    """Yield the groups as webhooks would bring them, none larger than the source takes."""
    for group in groups:
        for first in range(0, len(group.alerts), MAX_ALERTS):
            body = {
                "version": "4",
                "groupKey": orjson.dumps(group.labels, option=orjson.OPT_SORT_KEYS).decode(),
                "groupLabels": group.labels,
                "alerts": group.alerts[first : first + MAX_ALERTS],
            }
            yield orjson.dumps(body)


def _rank(view: IncidentView) -> tuple[int, int, int, str]:
    summary = view.summary
    return ORDER.index(summary.action), -summary.severity.rank, -summary.open_count, summary.incident_id


def _notes(views: Sequence[IncidentView], letters: Sequence[DeadLetter], catalogue: str | None) -> list[str]:
    notes = [f"An alert cannot be used ({letter.reason}): {letter.detail}" for letter in letters]
    unknown = {
        word
        for view in views
        for why in view.chain
        for word in str(why.figures.get("unknown_severities", "")).split(", ")
        if word
    }
    if unknown:
        words = ", ".join(sorted(unknown))
        notes.append(f"Nobody knows these severities, so they count as the default: {words}. See normalise.severities.")
    if views and catalogue is None:
        notes.append("Without a service catalogue, services that depend on one another are not brought together.")
    return notes
