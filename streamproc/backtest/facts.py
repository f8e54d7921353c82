"""What the candidates for a change are chosen by, from the log and from folding it again without a change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamproc.backtest.changing import E, read
from streamproc.backtest.heard import Target
from streamproc.backtest.reading import Beside
from streamproc.backtest.slices import AFTER, Seen, Slice
from streamproc.backtest.whynot import Facts
from streamproc.events.feedback import Feedback, FeedbackKind, Policy
from streamproc.events.incident import Decision
from streamproc.matching import all_match, fault_of
from streamproc.services import Catalogue


def facts_of(told: Slice, target: Target, decision: Decision | None, said: set[tuple[str, str]], base: Seen) -> Facts:
    """Return what the candidates are chosen by.

    Args:
        told: the stretch of the log.
        target: the alert.
        decision: the last one about its incident, None where it is in none.
        said: stages and reasons that the log tells of it.
        base: what folding again without a change came to.
    """
    return Facts(
        alert=target.alert,
        heard=target.heard,
        reasons=frozenset(base.reasons | said),
        config=told.config,
        policies=tuple(_matching(told, target)),
        answers=tuple(_resolved_by_people(told, base.incident_id)),
        dependencies=tuple(_dependencies(told.catalogue, target.alert.service)),
        dry_run=decision is not None and decision.dry_run and not decision.adopted,
        adopted=decision is not None and decision.adopted,
        keyless=not told.config.get("escalate", {}).get("destinations", {}).get("default"),
    )


def _matching(told: Slice, target: Target) -> Iterator[Policy]:
    """Yield the silences and windows that stood while the alert fired, and matched it; the newest version of each."""
    found: dict[str, Policy] = {}
    for policy in _events(told.beside, Policy):
        stands = policy.ends_at is not None and policy.starts_at < target.last + AFTER and policy.ends_at > target.heard
        usable = bool(policy.matchers) and not any(fault_of(matcher) for matcher in policy.matchers)
        if stands and usable and not policy.withdrawn and all_match(policy.matchers, target.alert.labels):
            found[policy.policy_id] = policy
    yield from found.values()


def _resolved_by_people(told: Slice, incident_id: str) -> Iterator[Feedback]:
    for said in _events(told.beside, Feedback):
        if said.kind is FeedbackKind.RESOLVED and said.person and said.incident_id == incident_id:
            yield said


def _events(beside: Iterable[Beside], kind: type[E]) -> Iterator[E]:
    return (event for came in beside for entry in came.entries if (event := read(kind, entry)) is not None)


def _dependencies(catalogue: Catalogue | None, service: str) -> Iterator[tuple[str, str]]:
    """Yield the edges of a service: those by which it may have joined another one's incident."""
    if catalogue is None or not service:
        return
    name = catalogue.name_of(service)
    for one, known in catalogue.services.items():
        for needed in known.depends_on:
            if name in (one, catalogue.name_of(needed)):
                yield one, needed
