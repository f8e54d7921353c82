"""An incident that was -> a case: what came in about it, what people did, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from streamproc.backtest.recorded import Inboxes
from streamproc.core.errors import Rejected, Unusable
from streamproc.core.event import Activated
from streamproc.core.fold import CONFIG
from streamproc.core.record import Record
from streamproc.events.escalation import PageAction, Verdict
from streamproc.events.feedback import Feedback, FeedbackKind, Policy, PolicyKind
from streamproc.events.incident import Action
from streamproc.events.raw import RawAlert
from streamproc.matching import all_match
from streamproc.matching import written as matcher_text
from streamproc.policytest.format import written
from streamproc.policytest.playing import Ground
from streamproc.recording.redaction import Redactor
from streamproc.services import CATALOGUE
from streamproc.settings import ELSEWHERE, Settings
from streamproc.sources import SOURCES, recognise
from streamproc.stages.escalate import Reason
from streamproc.views import IncidentView

RAW, POLICIES, FEEDBACK = "alerts.raw", "policies", "feedback"
MILLISECOND = timedelta(milliseconds=1)
TOGETHER = 20
"""Alerts of an incident of which a case says that they are together."""
ANSWERS = {FeedbackKind.ACKNOWLEDGED: "acknowledge", FeedbackKind.RESOLVED: "close"}
Wanted = Literal["as-it-was", "page", "no-page"]


@dataclass(slots=True)
class Captured:
    """What the log holds about an incident."""

    view: IncidentView
    begins: datetime
    bodies: list[tuple[datetime, str, Any]] = field(default_factory=list)
    """When, source, and body, of its own alerts alone."""
    policies: list[tuple[datetime, Policy]] = field(default_factory=list)
    answers: list[Feedback] = field(default_factory=list)


def capture(inboxes: Inboxes, view: IncidentView) -> Captured:
    """Return what the log holds about an incident.

    Raises:
        Unusable: it does not hold the requests any more.
    """
    begins = view.summary.opened_at
    until = begins + timedelta(days=366) if view.summary.status == "open" else view.summary.changed_at
    found = Captured(view, begins)
    ours = frozenset(one.member.fingerprint for one in view.members)
    for record in _since(inboxes, RAW, begins):
        if begins <= record.now <= until and (body := _ours(record, ours)) is not None:
            found.bodies.append((record.now, *body))
    found.bodies.sort(key=lambda each: each[0])
    if not found.bodies:
        raise Unusable(
            f"the log does not hold the requests of {view.summary.incident_id} of {begins:%Y-%m-%d %H:%M} UTC any more"
        )
    found.policies = sorted(_policies(inboxes, view, begins, until), key=lambda each: each[0])
    for record in _since(inboxes, FEEDBACK, begins):
        said = _read(Feedback, record)
        if said is not None and said.incident_id == view.summary.incident_id and record.now <= until and said.person:
            found.answers.append(said.model_copy(update={"at": record.now}))
    return found


def ground_then(inboxes: Inboxes, moment: datetime) -> Ground | None:
    """Return the settings and the catalogue that counted at a moment; None where the log does not hold them."""
    active: dict[str, str] = {}
    for record in _since(inboxes, POLICIES, None):
        switch = _read(Activated, record)
        if switch is not None and record.now <= moment:
            active[switch.kind] = switch.checksum
    bodies = {kind: inboxes.version(checksum) for kind, checksum in active.items()}
    config = bodies.get(CONFIG)
    if config is None or (CATALOGUE.name in active and bodies[CATALOGUE.name] is None):
        return None
    return Ground.of(settings_of(config), bodies.get(CATALOGUE.name))


def settings_of(body: str) -> Settings:
    """Return the settings that an artifact `config` was made of; those that no stage knows are as by default."""
    sections: dict[str, Any] = orjson.loads(body)
    given: dict[str, Any] = {}
    for name, section in sections.items():
        kept = {key: value for key, value in section.items() if (name, key) not in ELSEWHERE}
        given.setdefault(name, {}).update(kept)
    for (name, key), place in ELSEWHERE.items():
        if key not in sections.get(name, {}):
            continue
        value = sections[name][key]
        if place[-1] in ("auto_resolve_threshold", "escalation_timeout"):
            value = int(TypeAdapter(timedelta).validate_python(value).total_seconds())
        into = given
        for part in place[:-1]:
            into = into.setdefault(part, {})
        into[place[-1]] = value or None if place == ("environment",) else value
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise Unusable(f"the settings in the log are of another version: {error.error_count()} faults") from None


def case_of(found: Captured, redactor: Redactor, wanted: Wanted, *, thin: bool) -> dict[str, Any]:
    """Return the case as its YAML says it.

    Args:
        found: what the log holds.
        redactor: takes secrets out.
        wanted: what is expected.
        thin: leave out requests that say what the one before said.
    """
    view, summary = found.view, found.view.summary
    events = [*_silences(found), *_requests(found, redactor, thin=thin), *_answers(found, redactor)]
    order = {"silence": 0, "expire": 0, "body": 1}
    events.sort(key=lambda each: (each[0], next((order[key] for key in order if key in each[1]), 2)))
    paged = _paged(view)
    return {
        "name": f"{redactor.text(summary.title)} {'pages' if _pages(wanted, paged=paged) else 'does not page'}",
        "about": f"Incident {summary.incident_id} of {found.begins:%Y-%m-%d %H:%M} UTC; it "
        f"{'paged' if paged else 'did not page'} ({_first_reason(view)}).",
        "begins": found.begins.isoformat(),
        "events": [{"at": written(_round(at - found.begins)), **event} for at, event in events],
        "expect": list(_expected(found, redactor, wanted, paged=paged)),
    }


def _pages(wanted: Wanted, *, paged: bool) -> bool:
    return paged if wanted == "as-it-was" else wanted == "page"


def _paged(view: IncidentView) -> bool:
    """Return whether somebody was called, or would have been while the pipeline was not armed."""
    sent = any(page.action is PageAction.TRIGGER and page.verdict is not Verdict.SKIPPED for page in view.pages)
    noted = any(why.stage == "escalate" and why.reason in CALLS for why in view.chain)
    return sent or (noted and view.summary.dry_run and not view.summary.adopted and view.summary.action is Action.PAGE)


CALLS = frozenset({Reason.SEVERITY, Reason.LEARNED_PAGE, Reason.HOLD_OVER, Reason.WORSE})


def _first_reason(view: IncidentView) -> str:
    return next((why.reason for why in reversed(view.chain) if why.stage == "escalate"), view.summary.reason)


def _expected(found: Captured, redactor: Redactor, wanted: Wanted, *, paged: bool) -> Iterator[dict[str, Any]]:
    view, summary = found.view, found.view.summary
    if wanted != "as-it-was":
        yield {"page": {}, "at_least": 1} if wanted == "page" else {"no_page": {}}
        return
    if paged:
        yield {"page": {"service": summary.service} if summary.service else {}, "at_least": 1}
    else:
        yield {"no_page": {}}
        for name in sorted({one.member.muted_by for one in view.members} - {""}):
            yield {"muted": {"by": name}}
        if not any(one.member.muted_by for one in view.members):
            yield {"decision": {"reason": _first_reason(view)}}
    if len(view.members) <= TOGETHER:
        yield {"incident": {"alerts": [_labels(one.member.labels, redactor) for one in view.members]}}


def _labels(labels: Mapping[str, str], redactor: Redactor) -> dict[str, str]:
    redacted: dict[str, str] = redactor.body({"labels": dict(labels)})["labels"]
    return {name: f"~{_literal(text)}" if text.startswith("~") else text for name, text in redacted.items()}


def _literal(text: str) -> str:
    return "".join(f"\\x{{{ord(letter):x}}}" if not letter.isalnum() else letter for letter in text)


def _requests(found: Captured, redactor: Redactor, *, thin: bool) -> Iterator[tuple[datetime, dict[str, Any]]]:
    seen: dict[bytes, bytes] = {}
    for at, source, body in found.bodies:
        said, whose = orjson.dumps(_essence(body), option=orjson.OPT_SORT_KEYS), orjson.dumps(_whose(body))
        if thin and seen.get(whose) == said:
            continue
        seen[whose] = said
        yield at, {"source": source, "body": redactor.body(body)}


def _alerts(body: Any) -> list[Any]:
    listed = body.get("alerts", [body]) if isinstance(body, dict) else body
    return listed if isinstance(listed, list) else [body]


def _essence(body: Any) -> list[Any]:
    """Return what a repeat of a request says again: its alerts, without times that move on."""
    moving = ("endsAt", "date", "last_updated", "id")
    return [
        {key: one for key, one in alert.items() if key not in moving} | {"over": alert.get("status") == "resolved"}
        if isinstance(alert, dict)
        else alert
        for alert in _alerts(body)
    ]


def _whose(body: Any) -> list[Any]:
    return [
        alert.get("labels") or alert.get("alert_id") if isinstance(alert, dict) else None for alert in _alerts(body)
    ]


def _silences(found: Captured) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """Yield the silences and windows, each from when it counts; what is withdrawn or replaced ends there."""
    standing: set[str] = set()
    for at, policy in found.policies:
        moment = max(at, found.begins)
        if policy.withdrawn or policy.ends_at is None:
            if policy.policy_id in standing:
                standing.discard(policy.policy_id)
                yield moment, {"expire": policy.policy_id}
            continue
        moment = max(moment, policy.starts_at)
        standing.add(policy.policy_id)
        said: dict[str, Any] = {
            "id": policy.policy_id,
            "matchers": [matcher_text(one) for one in policy.matchers],
            "for": written(max(_round(policy.ends_at - moment), MILLISECOND)),
        }
        if policy.kind is PolicyKind.MAINTENANCE:
            said["maintenance"] = True
        yield moment, {"silence": said}


def _answers(found: Captured, redactor: Redactor) -> Iterator[tuple[datetime, dict[str, Any]]]:
    labels = _labels(found.view.root.labels, redactor)
    for said in found.answers:
        if said.kind in ANSWERS:
            yield said.at, {ANSWERS[said.kind]: labels, "by": "somebody"}


def _policies(
    inboxes: Inboxes, view: IncidentView, begins: datetime, until: datetime
) -> Iterator[tuple[datetime, Policy]]:
    """Yield every version of the silences and windows that can have muted a member."""
    labels = [one.member.labels for one in view.members]
    for record in _since(inboxes, POLICIES, None):
        policy = _read(Policy, record)
        if policy is None or policy.kind is PolicyKind.ARM or policy.ends_at is None or record.now > until:
            continue
        touches = policy.matchers and any(all_match(policy.matchers, one) for one in labels)
        if touches and (policy.withdrawn or (policy.ends_at > begins and policy.starts_at <= until)):
            yield record.now, policy


def _ours(record: Record, ours: frozenset[str]) -> tuple[str, Any] | None:
    """Return source and body of a raw record with only those alerts that are ours, None where none is."""
    raw = RawAlert.decode(record.value, record.headers)
    try:
        source, body = recognise(raw)
        listed = body["alerts"] if isinstance(body, dict) and isinstance(body.get("alerts"), list) else body
        if not isinstance(listed, list):
            return (source, body) if _is_ours(source, body, record.now, ours) else None
        wrap = (lambda some: {**body, "alerts": some}) if isinstance(body, dict) else list
        kept = [alert for alert in listed if _is_ours(source, wrap([alert]), record.now, ours)]
    except Rejected:
        return None
    return (source, wrap(kept)) if kept else None


def _is_ours(source: str, body: Any, now: datetime, ours: frozenset[str]) -> bool:
    alerts, _ = SOURCES[source].read(body, now)
    return any(alert.fingerprint in ours for alert in alerts)


def _since(inboxes: Inboxes, topic: str, moment: datetime | None) -> Iterator[Record]:
    for partition in inboxes.partitions(topic):
        start = inboxes.start(topic, partition) if moment is None else inboxes.at(topic, partition, moment - EARLIER)
        yield from inboxes.records(topic, partition, start)


EARLIER = timedelta(minutes=5)
"""A record may be appended so long before the moment that it says."""


def _read(kind: type[Any], record: Record) -> Any:
    """Return the event of a record, None where it is of another type, or cannot be read."""
    if record.headers.get("type") != kind.TYPE.encode():
        return None
    try:
        return kind.decode(record.value, record.headers)
    except ValidationError:
        return None


def _round(span: timedelta) -> timedelta:
    return round(span / MILLISECOND) * MILLISECOND


def slug(text: str) -> str:
    """Return a text as part of a file's name."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:60] or "incident"
