"""Alert -> Episode: the first of a kind opens, repeats are counted, what matters is passed on, a resolve closes.

Inbox alerts, keyed by fingerprint; emits episodes. Owns EPISODE, bounded by `forget_after`. Order is by event time:
bridges without keys reorder, so a resolve leaves a tombstone, and what is older than it changes nothing. A watchdog is
the other way round: nothing is said while it fires, and its silence opens an episode.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from streamproc.core.event import Scalar, Wake
from streamproc.core.identity import digest
from streamproc.core.step import NOTHING, Stage, StageConfig, Step
from streamproc.core.table import Rows
from streamproc.events.alert import Alert, Episode, EpisodeChange
from streamproc.events.canary import LABEL, is_canary
from streamproc.state import EPISODE, SOURCE, EpisodeRow, SourceRow
from streamproc.watchdogs import Watchdog, find, silence_of

HOUR = timedelta(hours=1)
TO_THE_MINUTE = timedelta(minutes=1)
"""A source's row is written so often at most."""
HEARD_SHARE = 0.5
"""An alert expires only if its source was heard within this share of `expire_after` before."""
LATE_WAKE = timedelta(minutes=1)
"""A timer that comes so much later than it was due says that nothing ran in between, so that nothing could be heard."""
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


class Config(StageConfig):
    """How alerts are made episodes."""

    expire_after: timedelta = Field(default=timedelta(hours=12), ge=timedelta(hours=5))
    """A firing alert that its source no longer repeats is closed after this. Longer than Alertmanager's repeat interval
    (4 h), else a live outage is closed; never applied to Datadog, which says a firing alert once."""
    forget_after: timedelta = Field(default=timedelta(hours=6), ge=timedelta(minutes=5))
    """How long a resolved alert is remembered, so that late and repeated notifications of it change nothing."""
    reorder_within: timedelta = Field(default=timedelta(minutes=2), ge=timedelta(0))
    """A firing notification with the old start that comes this soon after the resolve was overtaken by it. A later one
    says that the alert fires again: Alertmanager keeps `startsAt` when it lost sight of an alert and sees it again."""
    watchdogs: Mapping[str, Watchdog] = {}
    """Alerts that must always fire, by a name of yours: nothing is said while they are heard, their silence pages."""


class Reason(StrEnum):
    """What a notification is."""

    OPENED = "opened"
    REOPENED = "reopened"
    REPEAT = "repeat"
    CHANGED = "changed"
    RESOLVED = "resolved"
    RESOLVED_UNSEEN = "resolved_unseen"
    RESOLVED_AGAIN = "resolved_again"
    LATE = "late"
    EXPIRED = "expired"
    PUT_OFF = "put_off"
    """Not expired: the source itself was not heard."""
    HEARTBEAT = "heartbeat"
    """A watchdog is heard, as it must be."""
    HEARTBEAT_BACK = "heartbeat_back"
    HEARTBEAT_AWAITED = "heartbeat_awaited"
    """A watchdog was not heard in time, but neither were we there to hear it: it has as much time again."""
    SILENT = "silent"
    FORGOTTEN = "forgotten"


def step(event: Alert | Wake, rows: Rows, now: datetime, config: Config) -> Step:
    """Decide what a notification says that was not known."""
    if isinstance(event, Wake):
        return _look_again(event, rows, now, config)
    seen = rows.get(EPISODE, event.fingerprint)
    watchdog = find(config.watchdogs, event) if config.watchdogs else None
    if watchdog is not None and (event.status == "firing" or (seen is not None and seen.watchdog)):
        noticed = _listen(event, seen, watchdog, now, config)
    elif seen is not None and seen.watchdog:
        noticed = _notice(event, None, now, config)  # it is no watchdog any more
        noticed = noticed._replace(emit=(*_back(seen, now), *noticed.emit))
    else:
        noticed = _notice(event, seen, now, config)
    name = _heard_from(event)
    source = rows.get(SOURCE, name)
    if source is not None and now - source.heard_at < TO_THE_MINUTE:
        return noticed
    heard = {SOURCE.at(name): SourceRow(heard_at=now)}
    return noticed._replace(changes={**noticed.changes, **heard})


def _heard_from(event: Alert) -> str:
    """Return whom an alert is heard from: our own canary says nothing of other alerts of its kind of source."""
    return LABEL if is_canary(event) else event.source


def _notice(event: Alert, seen: EpisodeRow | None, now: datetime, config: Config) -> Step:
    if seen is not None and seen.status == "firing" and seen.scope != event.scope:
        # An open episode stays in the scope that it opened in, whatever the rules say by now: its incident is there.
        event = event.model_copy(update={"scope": seen.scope})
    reason = decide(event, seen, now, config)
    at = min(event.at, now)
    if reason is Reason.LATE or (reason is Reason.RESOLVED_AGAIN and seen is not None and at <= seen.at):
        return Step({}, reason)
    if reason in (Reason.RESOLVED_UNSEEN, Reason.RESOLVED_AGAIN):
        return _write(event.fingerprint, _tombstone(event, at, now, config), reason)
    repeats = seen.repeats if seen else 0
    figures: Mapping[str, Scalar] = {"repeats": repeats, "severity": event.severity.value}
    if reason is Reason.RESOLVED and seen is not None:
        emit = Episode(scope=seen.scope, change=EpisodeChange.RESOLVED, alert=event, repeats=repeats)
        return _write(event.fingerprint, _tombstone(event, at, now, config), reason, emit, figures)
    if reason is Reason.REPEAT and seen is not None:
        heard = {
            "repeats": repeats + 1,
            "at": max(seen.at, at),
            "expires": event.expires,
            "seen_at": now,
            "alert": seen.alert or _kept(event),
            "wake_at": _expiry(event, now, config),
        }
        return _write(event.fingerprint, seen.model_copy(update=heard), reason)
    return _open(event, seen, at, now, config, reason, figures)


def decide(event: Alert, seen: EpisodeRow | None, now: datetime, config: Config) -> Reason:
    """Return what a notification is, given what is known of its fingerprint. Total, no side effects."""
    at = min(event.at, now)  # a producer's clock that runs ahead must not make all that follows look late
    if seen is None:
        return Reason.OPENED if event.status == "firing" else Reason.RESOLVED_UNSEEN
    if seen.status == "resolved":
        if event.status == "resolved":
            return Reason.RESOLVED_AGAIN
        if at > seen.at and event.starts_at != seen.starts_at:
            return Reason.REOPENED
        repeats_without_time = event.expires and event.starts_at >= seen.starts_at
        again = repeats_without_time and now - seen.seen_at > config.reorder_within
        return Reason.REOPENED if again else Reason.LATE
    if at < seen.at:
        # Alertmanager moves a start back where another Prometheus knows an earlier one: it fires all the same.
        return Reason.REPEAT if event.expires and event.status == "firing" else Reason.LATE
    if event.status == "resolved":
        return Reason.RESOLVED
    another = event.expires and event.starts_at != seen.starts_at
    return Reason.CHANGED if another or meaning(event) != seen.meaning else Reason.REPEAT


def meaning(event: Alert) -> str:
    """Return a hash of what a responder would act upon. Numbers in the text do not count: they move at every scrape."""
    text = NUMBER.sub("#", f"{event.summary}\n{event.description}")
    return digest(event.severity, event.name, event.service, event.scope, text)[:16]


def _open(
    event: Alert,
    seen: EpisodeRow | None,
    at: datetime,
    now: datetime,
    config: Config,
    reason: Reason,
    figures: Mapping[str, Scalar],
) -> Step:
    """Open an episode, or pass on what changed in an open one."""
    running = seen if reason is Reason.CHANGED else None
    repeats = running.repeats + 1 if running else 0
    keeps_start = running is not None and not event.expires
    row = EpisodeRow.trusted(
        status="firing",
        scope=event.scope,
        starts_at=running.starts_at if running and keeps_start else event.starts_at,
        at=at,
        severity=event.severity,
        meaning=meaning(event),
        repeats=repeats,
        expires=event.expires,
        seen_at=now,
        alert=_kept(event),
        wake_at=_expiry(event, now, config),
    )
    change = EpisodeChange.CHANGED if running else EpisodeChange.OPENED
    emit = Episode.trusted(scope=event.scope, change=change, alert=event, repeats=repeats)
    return _write(event.fingerprint, row, reason, emit, figures)


def _kept(event: Alert) -> str:
    return event.model_copy(update={"trail": ()}).model_dump_json() if event.expires else ""


def _expiry(event: Alert, now: datetime, config: Config) -> datetime | None:
    return now + config.expire_after if event.expires else None


def _tombstone(event: Alert, at: datetime, now: datetime, config: Config) -> EpisodeRow:
    return EpisodeRow(
        status="resolved",
        scope=event.scope,
        starts_at=event.starts_at,
        at=at,
        severity=event.severity,
        meaning="",
        seen_at=now,
        wake_at=now + config.forget_after,
    )


def _look_again(wake: Wake, rows: Rows, now: datetime, config: Config) -> Step:
    row = rows.get(EPISODE, wake.key)
    if row is None or row.status == "resolved":
        return Step({EPISODE.at(wake.key): None}, Reason.FORGOTTEN)
    if row.watchdog:
        return _miss(wake, row, now, config)
    last = Alert.model_validate_json(row.alert)
    source = rows.get(SOURCE, _heard_from(last))
    silent = now - (source.heard_at if source else row.seen_at)
    if silent > config.expire_after * HEARD_SHARE:
        # We or the source were away, so its silence about this alert says nothing: a live outage must not be closed.
        later = row.model_copy(update={"wake_at": now + config.expire_after})
        return _write(wake.key, later, Reason.PUT_OFF, figures={"source_silent_hours": round(silent / HOUR, 2)})
    gone = last.model_copy(update={"status": "resolved", "ends_at": now, "at": max(now, row.at)})
    emit = Episode(scope=row.scope, change=EpisodeChange.RESOLVED, alert=gone, repeats=row.repeats, expired=True)
    figures = {"silent_hours": round((now - row.seen_at) / HOUR, 2)}
    # No tombstone: nothing overtook anything here, and a source that speaks again says that the alert fires.
    return Step({EPISODE.at(wake.key): None}, Reason.EXPIRED, (emit,), figures=figures)


def hear(event: Alert, seen: EpisodeRow | None, now: datetime) -> Reason:
    """Return what a notification about a watchdog is, given what is known of it. Total, no side effects."""
    known = seen if seen is not None and seen.watchdog else None
    at = min(event.at, now)
    silent = known is not None and known.watchdog == "silent"
    if event.status == "resolved":
        if known is not None and at <= known.at:
            return Reason.LATE
        return Reason.RESOLVED_AGAIN if silent else Reason.SILENT
    if known is not None and at < known.at and not event.expires:
        return Reason.LATE
    return Reason.HEARTBEAT_BACK if silent else Reason.HEARTBEAT


def _listen(event: Alert, seen: EpisodeRow | None, watchdog: Watchdog, now: datetime, config: Config) -> Step:
    """Take in what is said of a watchdog."""
    reason = hear(event, seen, now)
    if reason in (Reason.LATE, Reason.RESOLVED_AGAIN):
        return Step({}, reason)
    at = min(event.at, now)
    row = EpisodeRow(
        status="firing",
        scope=event.scope,
        starts_at=event.starts_at,
        at=max(at, seen.at) if seen is not None and seen.watchdog else at,
        severity=watchdog.severity,
        meaning="",
        expires=event.expires,
        seen_at=now,
        alert=event.model_copy(update={"trail": ()}).model_dump_json(),
        wake_at=now + watchdog.within,
        watchdog="heard",
    )
    if reason is Reason.SILENT:
        return _say_silent(event.fingerprint, row, event, watchdog, now, config)
    heard = _write(event.fingerprint, row, reason)
    if seen is None or seen.status == "resolved":
        return heard
    if seen.watchdog:
        return heard._replace(emit=_back(seen, now))
    gone = event.model_copy(update={"status": "resolved", "scope": seen.scope, "ends_at": now})
    was = Episode(scope=seen.scope, change=EpisodeChange.RESOLVED, alert=gone, repeats=seen.repeats)
    return heard._replace(emit=(was,))  # it was no watchdog until now


def _miss(wake: Wake, row: EpisodeRow, now: datetime, config: Config) -> Step:
    """Decide what it means that a watchdog was not heard in time."""
    last = Alert.model_validate_json(row.alert)
    watchdog = find(config.watchdogs, last)
    if watchdog is None:
        return Step({EPISODE.at(wake.key): None}, Reason.FORGOTTEN, _back(row, now))
    if row.watchdog == "silent":  # looked at only in case it is no watchdog any more
        return _write(wake.key, row.model_copy(update={"wake_at": now + config.expire_after}), Reason.SILENT)
    fired = wake.fired or now
    if row.watchdog == "heard" and fired - wake.due > LATE_WAKE:
        later = row.model_copy(update={"watchdog": "late", "wake_at": fired + watchdog.within})
        figures = {"away_minutes": round((fired - wake.due) / TO_THE_MINUTE, 1)}
        return _write(wake.key, later, Reason.HEARTBEAT_AWAITED, figures=figures)
    return _say_silent(wake.key, row, last, watchdog, now, config)


def _say_silent(key: str, row: EpisodeRow, last: Alert, watchdog: Watchdog, now: datetime, config: Config) -> Step:
    """Open the episode of a watchdog's silence."""
    alert = silence_of(last, watchdog, now, row.seen_at)
    silent = row.model_copy(
        update={
            "scope": alert.scope,
            "alert": alert.model_copy(update={"trail": ()}).model_dump_json(),
            "watchdog": "silent",
            "wake_at": now + config.expire_after,
        }
    )
    emit = Episode(scope=alert.scope, change=EpisodeChange.OPENED, alert=alert)
    figures = {"silent_minutes": round((now - row.seen_at) / TO_THE_MINUTE, 1)}
    return _write(key, silent, Reason.SILENT, emit, figures)


def _back(row: EpisodeRow, now: datetime) -> tuple[Episode, ...]:
    """Return the end of a watchdog's silence, nothing where it was not silent."""
    if row.watchdog != "silent":
        return ()
    alert = Alert.model_validate_json(row.alert).model_copy(update={"status": "resolved", "ends_at": now, "at": now})
    return (Episode(scope=row.scope, change=EpisodeChange.RESOLVED, alert=alert),)


def _write(
    key: str, row: EpisodeRow, reason: Reason, emit: Episode | None = None, figures: Mapping[str, Scalar] = NOTHING
) -> Step:
    wake = () if row.wake_at is None else (Wake.trusted(table=EPISODE.name, key=key, due=row.wake_at),)
    return Step({EPISODE.at(key): row}, reason, () if emit is None else (emit,), wake, figures)


STAGE = Stage(
    "deduplicate",
    step,
    takes=(Alert,),
    reasons=Reason,
    config=Config,
    owns=(EPISODE, SOURCE),
    unintended=frozenset({Reason.LATE}),
)
