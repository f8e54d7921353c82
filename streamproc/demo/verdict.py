"""Whether the promises held: nothing lost, nothing doubled, everything closed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from streamproc.demo.figures import Figures
from streamproc.demo.scenario import Scenario, Story
from streamproc.emulator.account import Effect
from streamproc.emulator.emulator import Taken
from streamproc.views import IncidentSummary


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one story."""

    story: Story
    alerts: int
    """Different alerts in its incidents."""
    incidents: tuple[str, ...]
    """Their ids."""
    pages: int
    """How often people were notified."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of the whole scenario."""

    stories: tuple[Told, ...]
    lost: tuple[str, ...]
    """What was lost, in words; none is as promised."""
    doubled: tuple[str, ...]
    unclosed: tuple[str, ...]
    repeated: int = 0
    """Requests that a death repeated, and PagerDuty knew by their key: the last one of an alert, once."""

    @property
    def pages_doubled(self) -> int:
        """Pages beyond those that were due."""
        return sum(max(0, told.pages - told.story.pages) for told in self.stories)

    @property
    def kept(self) -> bool:
        """True where every promise held."""
        return not (self.lost or self.doubled or self.unclosed)


def judge(
    scenario: Scenario,
    accepted: int,
    failures: Iterable[str],
    figures: Figures,
    incidents: Collection[IncidentSummary],
    requests: Iterable[Taken],
    *,
    died: bool = False,
) -> Verdict:
    """Return what came of a scenario.

    Args:
        scenario: what was played.
        accepted: alerts that the gateway said it took.
        failures: what the player says did not happen.
        figures: how it stands at the end.
        incidents: all of the pipeline's.
        requests: everything that was asked of PagerDuty.
        died: whether a process that sends was killed: then the last request of an alert may have been sent twice.
    """
    everything = list(requests)
    asked = list(_once(everything)) if died else everything
    stories = tuple(_told(story, incidents, asked) for story in scenario.stories)
    return Verdict(
        stories=stories,
        lost=(*failures, *_lost(scenario, accepted, figures, stories, asked)),
        doubled=tuple(_doubled(figures, stories, asked)),
        unclosed=tuple(_unclosed(figures)),
        repeated=len(everything) - len(asked),
    )


def _once(requests: Iterable[Taken]) -> Iterator[Taken]:
    """Leave out the first repeat of an alert's latest request, unless people were notified by it."""
    latest: dict[str, tuple[str, str]] = {}
    forgiven: set[str] = set()
    for taken in requests:
        said = (taken.action, repr(taken.event))
        same = latest.get(taken.dedup_key) == said and taken.effect is not Effect.OPENED
        if taken.dedup_key and same and taken.dedup_key not in forgiven:
            forgiven.add(taken.dedup_key)
            continue
        latest[taken.dedup_key] = said
        yield taken


def _told(story: Story, incidents: Iterable[IncidentSummary], asked: Iterable[Taken]) -> Told:
    mine = [each for each in incidents if each.scope == story.scope and each.service in story.services]
    ids = {each.incident_id for each in mine}
    return Told(
        story=story,
        alerts=sum(each.total_count for each in mine),
        incidents=tuple(sorted(ids)),
        pages=sum(taken.effect is Effect.OPENED and taken.dedup_key in ids for taken in asked),
    )


def _lost(
    scenario: Scenario, accepted: int, figures: Figures, stories: Iterable[Told], asked: Iterable[Taken]
) -> Iterator[str]:
    sent = scenario.alerts + scenario.spoiled
    if accepted < sent:
        yield f"{sent - accepted:,} alerts were sent and not taken"
    if (missing := accepted - figures.alerts - figures.letters) > 0:
        yield f"{missing:,} alerts were taken, and neither decided nor kept as dead letters"
    for told in stories:
        if told.pages < told.story.pages:
            yield f"{told.story.name}: {told.pages} pages where {told.story.pages} were due"
    for taken in asked:
        if taken.status is not None and taken.status >= HTTPStatus.BAD_REQUEST:
            yield f"PagerDuty refused a {taken.action or 'request'}: {taken.status} {'; '.join(taken.errors)}"


def _doubled(figures: Figures, stories: Iterable[Told], asked: Collection[Taken]) -> Iterator[str]:
    if figures.again:
        yield f"{figures.again:,} alerts were decided more than once"
    for told in stories:
        if told.pages > told.story.pages:
            yield f"{told.story.name}: {told.pages} pages where {told.story.pages} were due"
    bodies = Counter((taken.action, taken.dedup_key, repr(taken.event)) for taken in asked if taken.effect)
    for (action, key, _), times in bodies.items():
        if times > 1 and action == "trigger":
            yield f"{key}: the same {action} was sent {times} times"
    for taken in asked:
        if taken.effect is Effect.DROPPED:
            yield f"{taken.dedup_key}: a {taken.action} for what was not open"


def _unclosed(figures: Figures) -> Iterator[str]:
    if figures.open_incidents:
        yield f"{figures.open_incidents} incidents are open"
    if figures.open_alerts:
        yield f"{figures.open_alerts} alerts are open at PagerDuty"
    if figures.waiting:
        yield f"{figures.waiting} alerts wait for something to be said"
