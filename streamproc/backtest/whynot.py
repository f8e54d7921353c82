"""The small changes that could have made an alert page, the smallest first. Pure: folding says which of them would.

A change is one thing that was otherwise: a silence that had not stood, a word in the alert, a setting with one other
value, a dependency, a person's answer. Source of the idea: counterfactual explanations (Wachter et al., 2017,
https://arxiv.org/abs/1711.00399), here over records and settings instead of a model's inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any

from streamproc.events.alert import Alert, Severity
from streamproc.events.feedback import Feedback, Policy, PolicyKind
from streamproc.stages.deduplicate import Config as Deduplicate
from streamproc.stages.escalate import Config as Escalate
from streamproc.watchdogs import find

PERSON, WORD, SETTING, WHOLE = 1, 2, 3, 4
"""Sizes: a person's wish lifted; one word of the alert; one setting; a setting that decides what belongs together."""
MADE_UP_KEY = "0" * 32
NONE = "PT0S"
SECOND = "PT1S"
LIKE = ("same_service", "neighbour", "named", "alike")
"""Reasons of correlate by which an alert is in an incident because it is like its alerts."""
KINDS = {PolicyKind.SILENCE: "silence", PolicyKind.MAINTENANCE: "maintenance window"}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was otherwise."""

    name: str
    """Short and stable, for programs: `silence:abc`."""
    words: str
    """Begins with "if"."""
    size: int
    settings: tuple[tuple[str, str, Any], ...] = ()
    """Section, name and value, as JSON, of settings of stages."""
    policy: str = ""
    """The silence or window that did not stand."""
    feedback: str = ""
    """The id of what a person did not do."""
    dependency: tuple[str, str] | None = None
    """The service, and what the catalogue does not say that it needs."""
    armed: bool = False
    """The pipeline was armed all the time, and adopted nothing."""
    severity: Severity | None = None
    """What the alert said."""
    starts_at: datetime | None = None
    """When the alert said that it began."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an alert that did not page."""

    alert: Alert
    """Its first notification."""
    heard: datetime
    """When that came in."""
    reasons: frozenset[tuple[str, str]]
    """What was decided on it and on its incident: stage and reason."""
    config: Mapping[str, Any]
    """The settings of the stages at that time, as the log holds them."""
    policies: tuple[Policy, ...] = ()
    """Silences and windows that matched it and stood while it fired."""
    answers: tuple[Feedback, ...] = ()
    """By which people resolved its incident at PagerDuty."""
    dependencies: tuple[tuple[str, str], ...] = ()
    """By which the catalogue could have brought it into its incident: a service, and what that one needs."""
    dry_run: bool = False
    adopted: bool = False
    keyless: bool = False
    """True where its destination has no routing key."""


def candidates(facts: Facts) -> list[Change]:
    """Return the changes that are worth trying, the smallest first. Total."""
    found = (*_people(facts), *_words(facts), *_settings(facts), *_together(facts))
    return sorted(found, key=lambda change: change.size)


def pairs(singles: Sequence[Change]) -> list[tuple[Change, Change]]:
    """Return two changes at once, the smallest pairs first; none that says two things of the same."""
    found = [(one, other) for one, other in combinations(singles, 2) if not _same_thing(one, other)]
    return sorted(found, key=lambda pair: pair[0].size + pair[1].size)


def _same_thing(one: Change, other: Change) -> bool:
    """Return whether two changes are two ways to the same: another severity, or the same setting."""
    ways = [
        {name for _, name, _ in change.settings} | ({"page"} if change.severity else set()) for change in (one, other)
    ]
    return bool(ways[0] & ways[1])


def _people(facts: Facts) -> Iterator[Change]:
    for policy in facts.policies:
        until = "" if policy.ends_at is None else f", until {_time(policy.ends_at, facts.heard)}"
        by, kind = policy.author or "nobody named", KINDS[policy.kind]
        words = f"if {kind} `{policy.policy_id}` (by {by}{until}) had not stood"
        yield Change(f"{policy.kind}:{policy.policy_id}", words, PERSON, policy=policy.policy_id)
    if facts.dry_run:
        yield Change("armed", "if the pipeline had been armed", PERSON, armed=True)
    if facts.adopted:
        yield Change("adopted", "if arming had not adopted what fired already", PERSON, armed=True)
    for answer in facts.answers:
        words = f"if {answer.by or 'somebody'} had not resolved it at PagerDuty at {_time(answer.at, facts.heard)}"
        yield Change(f"feedback:{answer.feedback_id}", words, PERSON, feedback=answer.feedback_id)


def _time(moment: datetime, near: datetime) -> str:
    """Return a moment as short as is clear beside another one."""
    return f"{moment:%H:%M}" if moment.date() == near.date() else f"{moment:%Y-%m-%d %H:%M}"


def _words(facts: Facts) -> Iterator[Change]:
    pages = _escalate(facts).page
    if facts.alert.severity not in pages and pages:
        least = min(pages, key=lambda severity: severity.rank)
        yield Change(f"label:severity={least}", f"if it had said severity={least}", WORD, severity=least)
    if ("deduplicate", "late") in facts.reasons:
        words = f"if it had said that it began at {facts.heard:%H:%M:%S}, when it came in, and not before"
        yield Change("label:start", words, WORD, starts_at=facts.heard)


def _settings(facts: Facts) -> Iterator[Change]:
    config, severity, reasons = _escalate(facts), facts.alert.severity, facts.reasons
    if severity not in config.page:
        wider = sorted({*config.page, severity})
        yield _setting("escalate.page", f"had `{severity}`", "escalate", "page", wider)
    if ("escalate", "learned_quiet") in reasons:
        fewer = sorted(config.learned_may_quiet - {severity})
        words = f"had been without `{severity}`"
        yield _setting("escalate.learned_may_quiet", words, "escalate", "learned_may_quiet", fewer)
    if ("escalate", "reopened") in reasons:
        yield _setting("escalate.reopen_hold", "had been 0", "escalate", "reopen_hold", NONE)
    if facts.keyless:
        known = facts.config.get("escalate", {}).get("destinations", {})
        given = {**known, "default": {"routing_key": MADE_UP_KEY}}
        yield _setting("pagerduty.destinations", "had a routing key for `default`", "escalate", "destinations", given)
    if ("deduplicate", "late") in reasons:
        yield _setting("deduplicate.reorder_within", "had been 0", "deduplicate", "reorder_within", NONE)
    deduplicate = Deduplicate.model_validate(facts.config.get("deduplicate", {}))
    for name, watchdog in deduplicate.watchdogs.items():
        if find({name: watchdog}, facts.alert) is not None:
            rest = {each: rule for each, rule in facts.config["deduplicate"]["watchdogs"].items() if each != name}
            words = f"had no watchdog `{name}`"
            yield _setting("deduplicate.watchdogs", words, "deduplicate", "watchdogs", rest)


def _together(facts: Facts) -> Iterator[Change]:
    reasons = facts.reasons
    near = ("correlate", "neighbour") in reasons
    for service, needed in facts.dependencies if near else ():
        words = f"if the service catalogue had not said that {service} depends on {needed}"
        yield Change(f"dependency:{service}>{needed}", words, SETTING, dependency=(service, needed))
    if ("correlate", "reopened") in reasons:
        place = "pagerduty.incidents.auto_resolve_threshold"
        yield _setting(place, "had been 0", "correlate", "reopen_within", NONE, WHOLE)
    if any(("correlate", why) in reasons for why in LIKE):
        yield _setting("correlate.window", "had been 1 s", "correlate", "window", SECOND, WHOLE)
        yield _setting("correlate.join", "had been 1", "correlate", "join", 1, WHOLE)
    if ("correlate", "same_kind") in reasons:
        yield _setting("correlate.kind_gap", "had been 0", "correlate", "kind_gap", NONE, WHOLE)
    if near:
        yield _setting("correlate.hops", "had been 0", "correlate", "hops", 0, WHOLE)


def _setting(place: str, words: str, section: str, name: str, value: Any, size: int = SETTING) -> Change:
    return Change(f"setting:{place}", f"if `{place}` {words}", size, settings=((section, name, value),))


def _escalate(facts: Facts) -> Escalate:
    return Escalate.model_validate(facts.config.get("escalate", {}))
