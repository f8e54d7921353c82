"""The scenario: what happens when, who is told by whom, and what must come of it. Pure: same arguments, same bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from streamproc.demo.payloads import AGENT, DATADOG_AGENT, Monitor, PromAlert, Transition, webhook

PEER_LAG = 0.25
"""Seconds of scenario that the second Alertmanager of the pair is behind the first."""

Sender = Literal["alertmanager", "datadog"]


@dataclass(frozen=True, slots=True)
class Post:
    """One webhook."""

    at: float
    """Seconds of scenario after its start."""
    lane: str
    """Webhooks of a lane are sent one after the other, as one sender does."""
    source: Sender
    agent: str
    body: bytes
    alerts: int
    spoiled: int = 0
    """How many of its alerts cannot be read."""
    awaits: str = ""
    """A service: what broke there is mended only after people have heard of it."""
    follows: str = ""
    """A service: what hangs on it breaks only after it is paged."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What a person does in PagerDuty."""

    at: float
    service: str
    """Service of the incident that it is done to."""
    by: str
    deed: str = "acknowledge"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a spectator should know."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Story:
    """What happens to one part of the company, and what must come of it."""

    name: str
    scope: str
    services: frozenset[str]
    pages: int
    """How many pages it is worth."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it."""

    posts: tuple[Post, ...]
    deeds: tuple[Deed, ...]
    scenes: tuple[Scene, ...]
    stories: tuple[Story, ...]
    mishap: float | None = None
    """Second at which a process of the pipeline dies, where it has several.

    What awaits people after it is mended only once all that was told is decided: partitions that had to move are behind
    others meanwhile, and alerts that resolve could overtake their neighbours that have not been heard of yet."""

    @property
    def alerts(self) -> int:
        """Alerts in all webhooks, those that cannot be read left out."""
        return sum(post.alerts for post in self.posts)

    @property
    def spoiled(self) -> int:
        """Alerts that cannot be read."""
        return sum(post.spoiled for post in self.posts)


@dataclass
class Writer:
    """Writes a scenario down.

    Args:
        start: the moment of second 0.
        speed: seconds of scenario in a second.
        storm: alerts of the storm.
        dice: where variety comes from.
    """

    start: datetime
    speed: float
    storm: int
    dice: random.Random
    posts: list[Post] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    mishap: float | None = None
    _events: int = 7_000_000

    def moment(self, at: float) -> datetime:
        """Return the moment of a second of the scenario."""
        return self.start + timedelta(seconds=at / self.speed)

    def tell(
        self,
        at: float,
        lane: str,
        alerts: Sequence[PromAlert],
        *by: str,
        spoiled: Sequence[Any] = (),
        awaits: str = "",
        follows: str = "",
    ) -> None:
        """Have both Alertmanagers of the pair send one group: each of its alerts comes twice."""
        for peer in (0, 1):
            self.posts.append(
                Post(
                    at=at + peer * PEER_LAG,
                    lane=f"{lane}/{peer}",
                    source="alertmanager",
                    agent=AGENT,
                    body=webhook(alerts, by, peer=peer, spoiled=spoiled),
                    alerts=len(alerts),
                    spoiled=len(spoiled),
                    awaits=awaits,
                    follows=follows,
                )
            )

    def monitor(
        self, at: float, monitor: Monitor, transition: Transition, happened: float | None = None, awaits: str = ""
    ) -> None:
        """Have Datadog send a transition.

        Args:
            at: when the webhook arrives.
            monitor: what it is about.
            transition: what it says.
            happened: when it happened, where the webhook was overtaken by later ones.
            awaits: a service; see `Post`.
        """
        self._events += 1
        body = monitor.said(transition, self.moment(at if happened is None else happened), self._events)
        self.posts.append(
            Post(at, f"datadog/{monitor.number}", "datadog", DATADOG_AGENT, body, alerts=1, awaits=awaits)
        )


Chapter = Callable[[Writer], None]


def write(start: datetime, chapters: Sequence[Chapter], *, storm: int, speed: float = 1.0, seed: int = 7) -> Scenario:
    """Return the scenario.

    Args:
        start: the moment of second 0; event times count from it.
        chapters: what happens.
        storm: alerts of the storm.
        speed: how many times faster it is played.
        seed: chooses pods and figures.
    """
    writer = Writer(start, speed, storm, random.Random(seed))  # noqa: S311  variety that is the same every time
    for chapter in chapters:
        chapter(writer)
    return Scenario(
        posts=tuple(sorted(writer.posts, key=lambda post: post.at)),
        deeds=tuple(sorted(writer.deeds, key=lambda deed: deed.at)),
        scenes=tuple(sorted(writer.scenes, key=lambda scene: scene.at)),
        stories=tuple(writer.stories),
        mishap=writer.mishap,
    )
