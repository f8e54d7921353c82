"""The difference in pages in words, and as the JSON of `difference.json`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streamproc.backtest.calls import Fate
from streamproc.backtest.contrast import CHAINS, Contrast, Row
from streamproc.backtest.difference import Call, Difference, Pair, Relation, Uncovered
from streamproc.backtest.parting import Parting
from streamproc.core.event import Why

Sentence = Callable[[str, str], str]
"""What a reason of a stage means, for people."""


FATES = {
    "page": "in an incident that pages, but not while it fired",
    "ticket": "now a ticket",
    "hold": "held, and over before it paged",
    "none": "nothing is said",
    "no_incident": "in no incident",
}
"""What became of an alert, by action."""


def summary(difference: Difference, name: str) -> str:
    """Return the difference in one line; `name` is what B is called."""
    counts = difference.counts()
    if not difference.differing:
        return f"{name} would page the same {_of(counts['pages_a'], 'time')}"
    told = [f"{_of(counts['less'], 'page')} less", f"{counts['more']:,} more", f"{counts['later']:,} later"]
    told += [f"{counts[word]:,} {word}" for word in ("earlier", "changed") if counts[word]]
    told.append(f"{counts['merged']:,} merged")
    told += [f"{counts[word]:,} {word}" for word in ("split", "regrouped") if counts[word]]
    told.append(f"{counts['missed_pages']:,} missed")
    times = _of(counts["pages_b"], "time")
    return f"{name} would page {times} instead of {counts['pages_a']:,}: {', '.join(told)}"


def _of(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def words(pair: Pair) -> str:
    """Return what differs in a few words."""
    told = {
        Relation.SAME: "",
        Relation.ONLY_A: "no page of its own" if not pair.missed else "",
        Relation.ONLY_B: "a page more",
        Relation.MERGED: f"{len(pair.a):,} pages become one",
        Relation.SPLIT: f"one page becomes {len(pair.b):,}",
        Relation.REGROUPED: f"{len(pair.a):,} pages become {len(pair.b):,} others",
    }[pair.relation]
    seconds = abs(pair.delay.total_seconds())
    moved = f"{lasting(seconds)} {'later' if pair.later else 'earlier'}" if pair.later or pair.earlier else ""
    found = [_missed_words(pair), told, moved, *_changed_words(pair)]
    if pair.gained and pair.a:
        found.append("covers more alerts")
    return "; ".join(filter(None, found))


def _missed_words(pair: Pair) -> str:
    if not pair.missed:
        return ""
    if all(each.whole for each in pair.missed) and not pair.b:
        return "missed"
    count = sum(len(each.alerts) for each in pair.missed)
    return f"{count:,} of its alerts {'is' if count == 1 else 'are'} missed"


def _changed_words(pair: Pair) -> Iterator[str]:
    for change in pair.changes:
        before, after = (getattr(calls[0], change) or "none" for calls in (pair.a, pair.b))
        if before == after:  # another routing key under the same name
            before, after = (f"{calls[0].destination} ...{calls[0].key_hint}" for calls in (pair.a, pair.b))
        yield f"{change} {before} → {after}"


def lasting(seconds: float) -> str:
    """Return how long something lasts, to the second below an hour, else to the minute."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004  a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min{f' {rest} s' if rest else ''}"


def instead(fate: Fate | None, sentence: Sentence) -> str:
    """Return what became of an alert that no page covers, in words."""
    if fate is None:
        return FATES["no_incident"]
    told = FATES[fate.action]
    return told if fate.action in ("page", "hold") else f"{told}: {sentence('escalate', fate.reason)}"


def parted(row: Row, sentence: Sentence) -> str:
    """Return where the chains of a difference part, in words."""
    if row.parting is None:
        return "Both reason chains say the same; what differs came before or after."
    if not row.chain_a or not row.chain_b:
        side, other = ("A", "B") if row.chain_a else ("B", "A")
        return f"Only {side} takes this alert into an incident; {other} does not."
    return _step(row.parting, sentence)


def ended(row: Row, sentence: Sentence) -> str:
    """Return how the last steps of both chains differ, in words; empty where the first step says it already."""
    return "" if row.ending is None else _step(row.ending, sentence)


def _step(parting: Parting, sentence: Sentence) -> str:
    a, b = parting.a, parting.b
    if a is None or b is None:
        longer, shorter, side = (a, "B", "A") if a is not None else (b, "A", "B")
        told = "" if longer is None else sentence(longer.stage, longer.reason)
        return f"{parting.stage}: {side} decides once more: {told} {shorter} does not."
    if parting.figures:
        unlike = ", ".join(f"{name} {_figure(a, name)} in A, {_figure(b, name)} in B" for name in parting.figures)
        return f"{parting.stage}: both say: {sentence(a.stage, a.reason)} But {unlike}."
    where = a.stage if a.stage == b.stage else f"{a.stage} and {b.stage}"
    return f"{where}: A: {sentence(a.stage, a.reason)} B: {sentence(b.stage, b.reason)}"


def _figure(why: Why, name: str) -> str:
    value = why.figures.get(name)
    return "none" if value is None or value == "" else str(value)


def head(found: Contrast) -> dict[str, Any]:
    """Return what `difference.json` says of everything; its `rows` come from `lines`."""
    difference = found.difference
    return {
        "a": found.names[0],
        "b": found.names[1],
        "summary": summary(difference, found.names[1]),
        "counts": difference.counts(),
        "instead": became(found),
        "findings": sorted(difference.findings),
        "by_rule": by_rule(difference),
        "bounds": {"rows_with_chains": CHAINS},
    }


def became(found: Contrast) -> dict[str, int]:
    """Return how many of the missed alerts are tickets now, are held, and so on; the largest number first."""
    fates = (found.fates.get(alert) for each in found.difference.missed for alert in each.alerts)
    counted = Counter("no_incident" if fate is None else fate.action for fate in fates)
    return dict(sorted(counted.items(), key=lambda each: (-each[1], each[0])))


def by_rule(difference: Difference) -> list[dict[str, Any]]:
    """Return the rules whose number of pages differs, or of which some are missed; the largest difference first."""
    pages: dict[str, Counter[str]] = {}
    for pair in difference.pairs:
        for side, calls in (("a", pair.a), ("b", pair.b)):
            for call in calls:
                pages.setdefault(call.rule, Counter())[side] += 1
        for each in pair.missed:
            pages.setdefault(each.call.rule, Counter())["missed"] += 1
    found = [{"rule": rule, "a": n["a"], "b": n["b"], "missed": n["missed"]} for rule, n in pages.items()]
    unlike = [each for each in found if each["a"] != each["b"] or each["missed"]]
    return sorted(unlike, key=lambda each: (-abs(each["b"] - each["a"]), -each["missed"], each["rule"]))


def lines(found: Contrast, sentence: Sentence) -> Iterator[dict[str, Any]]:
    """Yield every difference, in order of time, as `difference.json` tells it."""
    told = {id(row.pair): row for row in found.rows}
    for pair in found.difference.differing:
        row = told.get(id(pair))
        yield {
            "relation": str(pair.relation),
            "says": words(pair),
            "delay_seconds": pair.delay.total_seconds(),
            "changes": [str(change) for change in pair.changes],
            "a": [_call(call) for call in pair.a],
            "b": [_call(call) for call in pair.b],
            "missed": [_uncovered(each, found.fates, sentence) for each in pair.missed],
            "gained": [_uncovered(each, found.fates_a, sentence) for each in pair.gained],
            "title": None if row is None else row.title,
            "about": None if row is None else row.alert,
            "parting": None if row is None else _parting(row.parting, parted(row, sentence)),
            "ending": None if row is None else _parting(row.ending, ended(row, sentence)),
            "chains": None if row is None else {"a": _chain_told(row.chain_a), "b": _chain_told(row.chain_b)},
        }


def _call(call: Call) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "incident_id": call.incident_id,
        "at": call.at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "kind": str(call.kind),
        "rule": call.rule,
        "service": call.service,
        "severity": str(call.severity),
        "urgency": call.urgency,
        "destination": call.destination,
        "key_hint": call.key_hint,
        "alerts": list(call.alerts),
    }


def _uncovered(each: Uncovered, fates: Mapping[str, Fate], sentence: Sentence) -> dict[str, Any]:
    return {
        "call_id": each.call.call_id,
        "whole": each.whole,
        "alerts": [
            {
                "alert": alert,
                "incident_id": None if (fate := fates.get(alert)) is None else fate.incident_id,
                "action": None if fate is None else fate.action,
                "reason": None if fate is None else fate.reason,
                "says": instead(fate, sentence),
            }
            for alert in each.alerts
        ],
    }


def _parting(parting: Parting | None, says: str) -> dict[str, Any] | None:
    if parting is None:
        return None
    sides = {"a": parting.a, "b": parting.b}
    return {
        "stage": parting.stage,
        **{side: None if why is None else why.reason for side, why in sides.items()},
        "figures": list(parting.figures),
        "says": says,
    }


def _chain_told(chain: tuple[Why, ...]) -> list[dict[str, Any]]:
    return [why.model_dump(mode="json") for why in chain]
