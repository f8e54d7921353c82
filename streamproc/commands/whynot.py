"""`streamproc explain --why-not ALERT`: what would have paged, found by folding again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from streamproc.backtest.answering import Answer, Finding, Found, ask
from streamproc.backtest.slices import Bound, Seen
from streamproc.commands.common import ConfigFile
from streamproc.commands.console import at, clock_time, columns, count_of, heading, severity, show
from streamproc.commands.explain import found
from streamproc.commands.reasons import sentence
from streamproc.commands.site import INCIDENTS, opened
from streamproc.commands.verify import recorded
from streamproc.core.errors import Unusable
from streamproc.core.event import Why
from streamproc.events.incident import Action

HASH = re.compile("[0-9a-f]{4,16}")
"""What may be the hash of an incident, or its beginning."""
TITLES = {
    Finding.PAGED: ("PAGED", "bold green"),
    Finding.COVERED: ("COVERED BY A PAGE", "bold green"),
    Finding.UNDELIVERED: ("NOT DELIVERED", "bold red"),
    Finding.NOT_PAGED: ("NOT PAGED", "bold yellow"),
    Finding.REFUSED: ("REFUSED", "bold red"),
    Finding.NEVER_HEARD: ("NEVER HEARD", "bold red"),
}


def why_not(alert: str, data_dir: Path, config: ConfigFile, *, kafka: bool, as_json: bool, chains: bool) -> None:
    """Say what became of an alert, and which small change would have paged.

    Args:
        alert: a fingerprint, an alert id, or an incident (its id, or its hash), which stands for its root alert.
        data_dir: the data directory, unless on Kafka.
        config: the settings file; it says where Kafka is.
        kafka: whether it is the pipeline on Kafka.
        as_json: write JSON.
        chains: show both reason chains.

    Raises:
        StreamprocError: the log cannot be read, or there is no such incident.
    """
    name = alert.strip()
    if not name:
        raise Unusable("--why-not needs a fingerprint, an alert id or an incident id")
    if name.startswith("in:v1:"):
        with opened(data_dir, config, INCIDENTS, kafka=kafka) as site:
            name = found(site.desk, name).root.alert_id
    with recorded(data_dir, config, kafka=kafka) as inboxes:
        answer = ask(inboxes, name)
        if answer.finding is Finding.NEVER_HEARD and HASH.fullmatch(name):
            with opened(data_dir, config, INCIDENTS, kafka=kafka) as site:
                meant = found(site.desk, name).root.alert_id if site.desk.matching(name) else ""
            answer = ask(inboxes, meant) if meant else answer
    if as_json:
        typer.echo(json.dumps(dumped(answer)))
    else:
        show(told(answer, name, chains=chains))


def told(answer: Answer, name: str, *, chains: bool) -> RenderableType:
    """Return the answer for people.

    Args:
        answer: what was found.
        name: as a person gave it.
        chains: show both reason chains of every change.
    """
    word, style = TITLES[answer.finding]
    title = Text.assemble((word, style), "  ")
    alert = answer.alert
    if alert is None:
        title.append(name, "bold")
    else:
        where = " ".join(filter(None, (alert.service, alert.resource)))
        title.append_text(severity(alert.severity)).append(f" {alert.name}", "bold").append(f" {where}".rstrip())
    facts = columns(11, None)
    for label, said in _facts(answer):
        facts.add_row(Text(label, "dim"), said)
    return Group(title, facts, *_changes(answer, chains=chains))


def _facts(answer: Answer) -> Iterator[tuple[str, RenderableType]]:
    if answer.alert is not None and answer.heard is not None:
        incident = "" if answer.incident is None else f" · {answer.incident.incident_id}"
        yield "alert", Text(f"{answer.alert.alert_id} · first heard {at(answer.heard)}{incident}", "dim")
    yield "answer", Text(" ".join(answered(answer)))
    if answer.member is not None:
        yield "joined", Text(sentence("correlate", answer.member.why))


def answered(answer: Answer) -> Iterator[str]:
    """Yield what became of the alert, in sentences."""
    page, letter = answer.page, answer.letter
    if page is not None:
        when, where = at(page.decided_at), f"{page.destination}, #{page.seq}: {page.summary}"
        yield {
            Finding.PAGED: f"It paged at {when} ({where}).",
            Finding.COVERED: f"It joined an incident whose page was out since {when} ({where}).",
        }.get(
            answer.finding,
            f"A page was decided at {when}, and PagerDuty did not take it: {page.message or page.status}.",
        )
    elif letter is not None:
        when = "" if letter.now is None else f" at {at(letter.now)}"
        yield f"It was refused by {letter.node}{when}, and is a dead letter: {letter.reason}: {letter.detail}"
        yield f"`streamproc dead-letters show {letter.letter_id}` has all of it."
    elif answer.finding is Finding.NEVER_HEARD:
        yield "It never reached us, as far as the log goes back. Looked through:"
        yield ", ".join(_looked(*one) for one in answer.looked) + "."
    else:
        yield from _unpaged(answer)


ACTIONS = {
    Action.PAGE: "A page was decided.",
    Action.TICKET: "It made a ticket.",
    Action.HOLD: "It was held.",
    Action.NONE: "Nothing was said.",
}


def _unpaged(answer: Answer) -> Iterator[str]:
    stage, reason = answer.reason
    decision = answer.decision
    if decision is None:
        yield "It opened nothing."
    else:
        yield ACTIONS[decision.action]
    yield sentence(stage, reason) if reason else "Why is no longer in the log."
    if decision is not None and decision.dry_run and not decision.adopted:
        yield "The pipeline was not armed, so nothing was sent."
    later = None if answer.base is None else answer.base.heard_at
    if later is not None and answer.reproduced:
        yield f"As it stood, it was going to page at {at(later)}."


def _looked(topic: str, count: int, since: Any) -> str:
    return f"{count_of(count, 'record')} of {topic}{'' if since is None else f' since {at(since)}'}"


def _changes(answer: Answer, *, chains: bool) -> Iterable[RenderableType]:
    if answer.bound is None or answer.base is None:
        return
    if not answer.reproduced:
        yield heading("CANNOT BE FOLDED AGAIN")
        when = "" if answer.base.heard_at is None else f", at {at(answer.base.heard_at)}"
        yield Text(f"  Folding its requests again pages even without a change{when}: what kept it back is not in them.")
        yield _bound(answer.bound, answer)
        return
    yield heading("WOULD HAVE PAGED", "found by folding the same requests again, with this changed")
    if not answer.found:
        yield Text(f"  None of the changes that were tried ({answer.tried}) pages.")
    table = columns(12, None)
    for one in answer.found:
        table.add_row(Text(clock_time(one.at), "bold"), _change(one, answer.base, chains=chains))
    yield table
    yield _bound(answer.bound, answer)


def _change(one: Found, base: Seen, *, chains: bool) -> Text:
    text = Text(" and ".join(change.words for change in one.changes), "bold")
    covered = "It would have joined an incident that was paged then" if one.seen.covered else "It would have paged"
    text.append(f"\n{covered}: `{one.page.destination}`. {parted(one)}", "dim not bold")
    if chains:
        for label, chain in (("as it was", base.chain), ("changed", one.seen.whole)):
            text.append(f"\n{label}: {_chain(chain)}", "dim not bold")
    return text


def parted(one: Found) -> str:
    """Return where the reason chains of what was and what would have been part."""
    parting = one.parting
    if parting is None:
        return "Both reason chains say the same."
    was, would = parting.a, parting.b
    if was is None or would is None:
        longer = would or was
        told = "" if longer is None else sentence(longer.stage, longer.reason)
        return f"The reason chains part at {parting.stage}: {'only then' if was is None else 'no longer'}: {told}"
    if parting.figures:
        figures = ", ".join(
            f"{name} {was.figures.get(name)}, then {would.figures.get(name)}" for name in parting.figures
        )
        return f"The reason chains part at {parting.stage}: {figures}."
    said = f"{sentence(was.stage, was.reason)} → {sentence(would.stage, would.reason)}"
    return f"The reason chains part at {parting.stage}: {said}"


def _chain(chain: Sequence[Why]) -> str:
    return " > ".join(f"{why.stage}:{why.reason}" for why in chain) or "it opened nothing"


def _bound(bound: Bound, answer: Answer) -> RenderableType:
    facts = columns(11, None)
    scope = "" if answer.alert is None else f" of {answer.alert.scope}"
    until = bound.until if answer.reaches is None else min(bound.until, answer.reaches)
    left = f"; {bound.left_out:,} others left out" if bound.left_out else ""
    said = f"{count_of(bound.requests, 'request')}{scope}, {at(bound.since)} to {at(until)} UTC{left}"
    facts.add_row(Text("bound", "dim"), Text(f"{said}. What is older is not looked at.", "dim"))
    tried = f"{count_of(answer.tried, 'change')}, the smallest first"
    more = f"; {answer.untried:,} more were left" if answer.untried else ""
    facts.add_row(Text("tried", "dim"), Text(f"{tried}{more}. Nothing was sent or written.", "dim"))
    return Group(heading("FOLDED AGAIN"), facts)


def dumped(answer: Answer) -> dict[str, Any]:
    """Return the answer for programs."""
    alert, page, letter = answer.alert, answer.page, answer.letter
    return {
        "finding": answer.finding,
        "says": " ".join(answered(answer)),
        "alert_id": None if alert is None else alert.alert_id,
        "fingerprint": None if alert is None else alert.fingerprint,
        "heard": None if answer.heard is None else answer.heard.isoformat(),
        "incident_id": None if answer.incident is None else answer.incident.incident_id,
        "reason": dict(zip(("stage", "reason"), answer.reason, strict=True)),
        "page": None if page is None else page.model_dump(mode="json", exclude={"body", "trail"}),
        "dead_letter": None if letter is None else letter.letter_id,
        "looked": [
            {"topic": topic, "records": count, "since": None if since is None else since.isoformat()}
            for topic, count, since in answer.looked
        ],
        "folded_again": None
        if answer.bound is None or answer.base is None
        else _again(answer, answer.bound, answer.base),
    }


def _again(answer: Answer, bound: Bound, base: Seen) -> dict[str, Any]:
    return {
        "since": bound.since.isoformat(),
        "until": bound.until.isoformat(),
        "requests": bound.requests,
        "left_out": bound.left_out,
        "reproduced": answer.reproduced,
        "tried": answer.tried,
        "untried": answer.untried,
        "chain": _dumped_chain(base.chain),
        "would_have_paged": [_found(one) for one in answer.found],
    }


def _found(one: Found) -> dict[str, Any]:
    call = one.page
    return {
        "changes": [{"name": change.name, "says": change.words} for change in one.changes],
        "at": one.at.isoformat(),
        "covered": one.seen.covered is not None,
        "incident_id": call.incident_id,
        "destination": call.destination,
        "parts_at": None if one.parting is None else one.parting.stage,
        "says": parted(one),
        "chain": _dumped_chain(one.seen.whole),
    }


def _dumped_chain(chain: Sequence[Why]) -> list[dict[str, Any]]:
    return [why.model_dump(mode="json") for why in chain]
