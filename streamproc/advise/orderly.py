"""What is in disorder without costing a page today: services of nobody, and silences that never end. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from streamproc.advise.change import Change, literal
from streamproc.advise.evidence import Evidence, Standing, count_of
from streamproc.advise.proposal import Candidate, Kind
from streamproc.advise.severity import quiet_severity
from streamproc.events.feedback import Matcher
from streamproc.policies import PREFIX
from streamproc.services import DEFAULT_DESTINATION, Catalogue
from streamproc.settings import Settings

RENEWED = 3
"""A silence that was renewed so often is permanent."""
LONG = timedelta(days=14)
"""So is one that stands for so long."""
LISTED = 30
"""Services of nobody that one proposal lists, those that page most."""
NAMED = 5
MOST_SILENCES = 5


def unowned(evidence: Evidence, settings: Settings, catalogue: Catalogue) -> Iterator[Candidate]:
    """Yield one catalogue entry for every service that pages and of which it is not known whose it is, or where to."""
    several = set(settings.pagerduty.destinations) - {DEFAULT_DESTINATION}
    lacking: dict[str, dict[str, Any]] = {}
    counts = Counter(page.service for page in evidence.pages if page.service)
    for service, _ in counts.most_common():
        entry = _entry(service, evidence.teams.get(service, ""), several, catalogue)
        if entry and len(lacking) < LISTED:
            lacking[catalogue.name_of(service)] = entry
    if not lacking:
        return
    pages = [page for page in evidence.pages if catalogue.name_of(page.service) in lacking]
    nobody = [name for name, entry in lacking.items() if entry.get("owner") == ""]
    why = [f"{count_of(len(pages), 'page')} of {count_of(len(lacking), 'service')}: {_most(lacking, NAMED)}."]
    if len(nobody) < len(lacking):
        why.append("Where their alerts always name the same team, it is filled in.")
    if nobody:
        why.append(f"To be filled in, since their alerts name no team: {_most(nobody, NAMED)}.")
    yield Candidate(
        Kind.UNOWNED,
        f"Name an owner of {count_of(len(lacking), 'service')} that {'page' if len(lacking) > 1 else 'pages'}",
        tuple(why),
        Change(services=lacking),
        0,
        len(pages),
        len({page.at.date() for page in pages}),
    )


def _entry(service: str, team: str, several: set[str], catalogue: Catalogue) -> dict[str, Any]:
    """Return the fields that a service lacks; `owner` is empty where nobody can guess it."""
    known = catalogue.find(service)
    found: dict[str, Any] = {}
    if known is None or not (known.owner or known.team):
        found["owner"] = team
    if team in several and (known is None or not known.destination):
        found["destination"] = team
    return found


def _most(names: Mapping[str, Any] | Sequence[str], most: int) -> str:
    shown = list(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def spoken(evidence: Evidence, settings: Settings, _catalogue: Catalogue) -> Iterator[Candidate]:
    """Yield silences that have become permanent: as a rule that makes tickets, else to be lifted.

    A silence that mutes a rule whose pages were acted upon is only ever lifted.
    """
    permanent = [each for each in evidence.standing if _permanent(each, evidence)]
    for each in sorted(permanent, key=lambda one: (-sum(one.muted.values()), one.names))[:MOST_SILENCES]:
        yield _replaced(each, evidence, settings)


def _permanent(one: Standing, evidence: Evidence) -> bool:
    if one.until is not None and one.until <= evidence.last_at:
        return False
    return one.renewals >= RENEWED or evidence.last_at - one.since >= LONG


def _replaced(one: Standing, evidence: Evidence, settings: Settings) -> Candidate:
    written = " ".join(f"{each.name}{each.op}{literal(each.value)}" for each in one.matchers)
    severity, when = quiet_severity(settings), _condition(one.matchers)
    rules = frozenset(one.muted)
    named = {each.value for each in one.matchers if each.name == "alertname" and each.op == "="}
    lift_only = severity is None or when is None or bool((rules | named) & evidence.acted_rules)
    own = frozenset(name.removeprefix(PREFIX) for name in one.names if name.startswith(PREFIX))
    rule = {"name": f"advise: {one.names[0].removeprefix(PREFIX)}", "when": when, "set": {"severity": str(severity)}}
    change = Change(
        rules=() if lift_only else (rule,),
        lifted=frozenset(name for name in one.names if not name.startswith(PREFIX)),
        dropped=own & settings.policies.keys(),
    )
    stood = f"It stands since {one.since.date()}"
    if one.renewals:
        stood += f", and was renewed {count_of(one.renewals, 'time')}"
    why = [f"{stood}; the last to want it was {one.author or 'nobody named'}: {one.reason or 'no reason given'}."]
    muted = sum(one.muted.values())
    if muted:
        why.append(f"It muted {count_of(muted, 'alert')} of {_most(sorted(one.muted), NAMED)}, which nobody saw.")
    else:
        why.append("It muted nothing in this recording.")
    if lift_only and rules & evidence.acted_rules:
        why.append("It mutes rules of which pages were acted upon, so that it is only to be lifted.")
    kept = "and say so in a rule" if severity not in settings.escalate.ticket else "and make tickets of what it mutes"
    title = f"Lift the silence on {written}" + ("" if lift_only else f", {kept}")
    return Candidate(Kind.SILENCE, title, tuple(why), change, 0, muted, 0, rules)


def _condition(matchers: Sequence[Matcher]) -> str | None:
    """Return matchers as a CEL condition; None where it might mean another thing.

    In CEL a label that is not there is no match, in Alertmanager it is the empty text; so only equality is taken over.
    """
    if any(each.op != "=" or not each.value for each in matchers):
        return None
    return " && ".join(f"alert.labels[{literal(each.name)}] == {literal(each.value)}" for each in matchers)
