"""What a recording says of its pages: who acted on them, how long they stood, which silences never ended. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from streamproc.backtest.difference import Call, Kind
from streamproc.backtest.ledger import NIGHT_BEGINS, NIGHT_ENDS
from streamproc.events.feedback import Feedback, FeedbackKind, Matcher, Policy

SHARE = 2 / 3
"""Of the time of a recording: so much proposes, the rest confirms."""
ACTS = frozenset(
    {
        FeedbackKind.ACKNOWLEDGED,
        FeedbackKind.ANNOTATED,
        FeedbackKind.ESCALATED,
        FeedbackKind.MERGED,
        FeedbackKind.PRIORITY,
        FeedbackKind.REASSIGNED,
        FeedbackKind.REOPENED,
        FeedbackKind.RESOLVED,
        FeedbackKind.URGENCY,
    }
)
"""By any of these a person acts upon a page."""
SEAM = timedelta(days=1)
"""A silence that begins so soon after the end of another one of the same matchers renews it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page, and what became of it."""

    call: Call
    rule: str
    """The alert rule that the incident was named after when it paged."""
    service: str
    scope: str
    rules: frozenset[str]
    """Rules in whose name it called: that one, and the one of the alert that had joined last."""
    ended: datetime | None = None
    """When it was resolved at PagerDuty; None where it was open to the end."""
    acted: bool = False
    """A person acted upon it, or said that it was worth it."""
    needless: bool = False
    """A person said that it was not worth it, and nobody acted."""

    @property
    def at(self) -> datetime:
        """When it called."""
        return self.call.at

    @property
    def night(self) -> str:
        """The day on whose evening the night began that it disturbed; empty by day."""
        return night_of(self.call.at)

    @property
    def lasted(self) -> timedelta | None:
        """How long it stood; None where it was open to the end."""
        return None if self.ended is None else self.ended - self.at


@dataclass(frozen=True, slots=True)
class Standing:
    """A silence or a maintenance window that has been renewed, or stands for long."""

    names: tuple[str, ...]
    """Ids of the policies that it was made of, the first one first."""
    matchers: tuple[Matcher, ...]
    since: datetime
    until: datetime | None
    renewals: int
    author: str
    reason: str
    muted: Mapping[str, int] = field(default_factory=dict)
    """How many alerts of which rule it muted in the recording."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a recording says."""

    pages: tuple[Page, ...]
    """In order of time, of the whole recording."""
    first_at: datetime
    last_at: datetime
    acted_alerts: frozenset[str]
    """Producers' ids of alerts that were acted upon, as they were live and as they are replayed."""
    acted_rules: frozenset[str]
    """Rules whose pages were acted upon."""
    teams: Mapping[str, str] = field(default_factory=dict)
    """The team of a service, where its alerts name one and always the same."""
    standing: tuple[Standing, ...] = ()

    @property
    def split(self) -> datetime:
        """What is older proposes, the rest confirms."""
        return self.first_at + SHARE * (self.last_at - self.first_at)

    @property
    def learned(self) -> tuple[Page, ...]:
        """The first pages of their incidents, before the split: what proposals are made from."""
        return tuple(page for page in self.pages if page.at < self.split and page.call.kind is Kind.FIRST)

    @property
    def acted(self) -> int:
        """Pages that were acted upon."""
        return sum(page.acted for page in self.pages)


def night_of(moment: datetime) -> str:
    """Return the day on whose evening a night began, empty for a moment of the day. Hours are UTC."""
    if NIGHT_ENDS <= moment.hour < NIGHT_BEGINS:
        return ""
    return (moment - timedelta(hours=NIGHT_ENDS)).date().isoformat()


def verdict_of(said: Feedback) -> bool | None:
    """Return whether feedback says that a page was worth it: True, False, or None where it says neither."""
    if said.kind is FeedbackKind.LABEL:
        return said.page
    return True if said.person and said.kind in ACTS else None


def standing(told: Iterable[tuple[datetime, Policy]], muted: Mapping[str, Mapping[str, int]]) -> tuple[Standing, ...]:
    """Return the silences of a log, those of the same matchers that follow one another as one.

    Args:
        told: every version of every policy with the moment at which it was told, in that order.
        muted: how many alerts of which rule each policy muted.
    """
    chains: dict[tuple[Matcher, ...], Standing] = {}
    for moment, policy in told:
        key = tuple(sorted(policy.matchers, key=lambda each: (each.name, each.op, each.value)))
        known = chains.get(key)
        if policy.withdrawn:
            if known is not None and policy.policy_id in known.names:
                chains[key] = replace(known, until=moment if known.until is None else min(moment, known.until))
        elif known is not None and (known.until is None or policy.starts_at - known.until <= SEAM):
            names = tuple(dict.fromkeys((*known.names, policy.policy_id)))
            chains[key] = replace(
                known,
                names=names,
                until=policy.ends_at,
                renewals=known.renewals + 1,
                author=policy.author,
                reason=policy.reason,
            )
        elif key:
            chains[key] = Standing(
                (policy.policy_id,), key, policy.starts_at, policy.ends_at, 0, policy.author, policy.reason
            )
    return tuple(replace(each, muted=_counted(each.names, muted)) for each in chains.values())


def _counted(names: Iterable[str], muted: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for name in names:
        total.update(muted.get(name, {}))
    return dict(total)


def days_of(pages: Iterable[Page]) -> int:
    """Return on how many days (UTC) pages were made."""
    return len({page.at.date() for page in pages})


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def minutes_of(span: timedelta) -> str:
    """Return a span of time in minutes."""
    return f"{span.total_seconds() / 60:.0f} min"
