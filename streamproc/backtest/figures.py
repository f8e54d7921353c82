"""What a person wants to know first of a backtest, as the JSON of `report.json`. Pure: no time of this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from streamproc import __version__
from streamproc.backtest.ledger import STORIES, Ledger, Totals
from streamproc.backtest.reading import HELD_BYTES, NAMED, OUT_OF_ORDER, Tally
from streamproc.backtest.replay import AFTER

RULES = 30
"""Alert rules that the report names."""
SERVICES = 30
SAMPLE = 10
"""Services of the topology that are named of those that no alert named."""


class Played(Protocol):
    """What was played, from requests or from recorded inboxes."""

    ledger: Ledger
    reasons: dict[str, Counter[str]]
    """How often each stage decided what."""
    feedback: Counter[str]
    """Feedback by what became of it: `applied`, `unknown_alert`, or `unused` and the field."""


@dataclass(slots=True)
class Inputs:
    """What the backtest was given."""

    traffic: Tally
    feedback: Tally
    topology: frozenset[str]
    """Services that the topology names."""
    has_catalogue: bool


def report(replay: Played, inputs: Inputs, *, complete: bool) -> dict[str, Any]:
    """Return the figures of a replay."""
    ledger = replay.ledger
    totals = ledger.totals
    days = {day: dict(totals.days[day]) for day in sorted(totals.days)}
    return {
        "streamproc": __version__,
        "complete": complete,
        "input": _input(inputs),
        "funnel": funnel(totals),
        "pages": {
            "calls": totals.calls,
            "updates": totals.updates,
            "triggers": totals.calls + totals.updates,
            "resolves": totals.resolves,
            "tickets": _tickets(totals),
            "per_day": [
                {"day": day, "pages": n.get("pages", 0), "updates": n.get("updates", 0)} for day, n in days.items()
            ],
        },
        "noisiest_rules": _rules(totals),
        "services": _services(totals),
        "outcomes": [
            {"action": action, "reason": reason, "incidents": count}
            for (action, reason), count in _largest(totals.outcomes)
        ],
        "held": {
            "by_reason": {why: count for why, count in _largest(totals.held) if why != "paged_later"},
            "paged_later": totals.held["paged_later"],
        },
        "muted": dict(_largest(totals.muted)),
        "joined": dict(_largest(totals.joined)),
        "suppressed_repeats": dict(_largest(replay.reasons.get("deduplicate", Counter()))),
        "reasons": {stage: dict(_largest(replay.reasons[stage])) for stage in sorted(replay.reasons)},
        "feedback": _feedback(replay, inputs.feedback),
        "topology": _topology(inputs.topology, totals.seen_services),
        "dead_letters": {
            "count": totals.dead_letters,
            "by_reason": dict(_largest(totals.letters)),
            "first": totals.letters_named,
        },
        "bounds": {
            "sorted_within_lines": OUT_OF_ORDER,
            "sorted_within_bytes": HELD_BYTES,
            "bad_lines_named": NAMED,
            "incidents_in_html": STORIES,
            "rules_named": RULES,
            "seconds_after_last_line": int(AFTER.total_seconds()),
        },
    }


def funnel(totals: Totals) -> dict[str, Any]:
    """Return how many of what became how many of what."""
    triggers = totals.calls + totals.updates
    return {
        "notifications": totals.notifications,
        "alerts": totals.alerts,
        "episodes": totals.episodes,
        "incidents": totals.incidents,
        "pages": totals.calls,
        "triggers": triggers,
        "compression": round(1 - triggers / totals.alerts, 4) if totals.alerts else None,
    }


def _input(inputs: Inputs) -> dict[str, Any]:
    tally = inputs.traffic
    return {
        "lines": tally.lines,
        "reordered": tally.reordered,
        "from": None if tally.first_at is None else tally.first_at.isoformat(),
        "to": None if tally.last_at is None else tally.last_at.isoformat(),
        "bad_lines": _bad(tally),
        "catalogue": inputs.has_catalogue,
    }


def _bad(tally: Tally) -> dict[str, Any]:
    return {"count": tally.bad, "first": [asdict(fault) for fault in tally.faults]}


def _rules(totals: Totals) -> list[dict[str, Any]]:
    ranked = sorted(
        totals.rules.items(), key=lambda each: (-each[1].calls, -each[1].updates, -each[1].notifications, each[0])
    )
    return [{"rule": name, **asdict(rule)} for name, rule in ranked[:RULES]]


def _services(totals: Totals) -> list[dict[str, Any]]:
    ranked = sorted(totals.services.items(), key=lambda each: (-len(each[1].nights), -each[1].calls, each[0]))
    return [
        {"service": name, "nights_disturbed": len(service.nights), "pages": service.calls}
        for name, service in ranked[:SERVICES]
    ]


def _feedback(replay: Played, tally: Tally) -> dict[str, Any]:
    counted = replay.feedback
    unused = {name.removeprefix("unused_"): counted[name] for name in sorted(counted) if name.startswith("unused_")}
    notes = [f"`{name}`: nothing in the pipeline learns from it yet" for name in unused]
    return {
        "lines": tally.lines,
        "bad_lines": _bad(tally),
        "applied": counted["applied"],
        "unknown_alert": counted["unknown_alert"],
        "unused": unused,
        "notes": notes,
    }


def _topology(named: frozenset[str], seen: Collection[str]) -> dict[str, Any]:
    unseen = sorted(named - set(seen))
    return {"services": len(named), "without_alerts": len(unseen), "first_without_alerts": unseen[:SAMPLE]}


def _largest(counted: Counter[Any]) -> list[tuple[Any, int]]:
    """Return counts, the largest first, equal ones by name."""
    return sorted(((key, count) for key, count in counted.items() if count), key=lambda each: (-each[1], each[0]))


def of(ledger: Ledger) -> str:
    """Return the outcome in one line."""
    totals = ledger.totals
    return (
        f"{totals.notifications:,} notifications -> {totals.alerts:,} alerts -> {totals.incidents:,} incidents -> "
        f"{totals.calls:,} pages, {totals.updates:,} updates of them, {_tickets(totals):,} tickets"
    )


def _tickets(totals: Totals) -> int:
    """Return how many incidents came to a ticket, whether or not a `ticket_routing_key` would send it."""
    return sum(count for (action, _), count in totals.outcomes.items() if action == "ticket")
