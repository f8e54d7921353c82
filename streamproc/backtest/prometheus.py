"""What Prometheus remembers of its alerts, told as the webhooks that an Alertmanager would have sent of them.

Prometheus keeps, for each rule that holds, the series ALERTS{alertstate="firing"} and ALERTS_FOR_STATE, whose value is
when the rule began to hold: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/ . They are asked
for by its HTTP API: https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries . What it does not keep:
annotations, labels that are added on the way to Alertmanager (external_labels, alert_relabel_configs), and what lasted
less than a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Self

import httpx
import orjson

from streamproc import __version__
from streamproc.backtest.reading import Line, Tally
from streamproc.core.errors import Transient, Unusable
from streamproc.sources.alertmanager import NAME

FIRING, SINCE = 'ALERTS{alertstate="firing"}', "ALERTS_FOR_STATE"
POINTS = 10_000
"""Moments in one answer; Prometheus refuses more than 11,000 of a series."""
SPAN = timedelta(days=1)
"""Longest stretch that is asked for at once: so many series come and go in it."""
REPEAT = timedelta(hours=4)
"""What still fires is notified again after so long: `repeat_interval` as Alertmanager has it by default."""
TIMEOUT = 60.0
"""Seconds for one answer; the server's own limit is two minutes by default."""
SPLIT = 4
"""A stretch that is too much for the server is asked for in halves, so often."""
KEPT = ("summary", "description", "runbook_url")
"""Annotations that are taken from the rules."""
DROPPED = frozenset({"__name__", "alertstate"})
ASKS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
SHOWN = 200
Labels = tuple[tuple[str, str], ...]


class _TooMuch(Exception):
    """The server cannot answer for so long a stretch."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What the rules say of one alert name today."""

    annotations: dict[str, str]
    held: timedelta
    """For how long it must hold before it fires."""


@dataclass(slots=True)
class _Occurrence:
    """One alert that fires."""

    began: float
    """Unix seconds: when its rule began to hold, as far as that is known; else when it was first seen."""
    starts: datetime
    seen: datetime
    """When it was last seen firing."""
    told: datetime
    """When it was last notified."""


_Change = tuple[Labels, _Occurrence, datetime | None]


@dataclass(slots=True)
class _Look:
    """What fires at one moment: the labels, and when each rule began to hold."""

    at: datetime
    firing: dict[Labels, float] = field(default_factory=dict)


class History:
    """The alerts of a Prometheus in a stretch of time. To be used as a context.

    Args:
        url: address of the Prometheus; may hold user and password, and a path.
        since: first moment.
        until: last moment.
        step: between two looks. What lasts less may be missed, and moments are later by up to so much.
        transport: stands in for the network.

    Raises:
        Unusable: the address is none.
    """

    def __init__(
        self,
        url: str,
        since: datetime,
        until: datetime,
        step: timedelta,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if step < timedelta(seconds=1):
            raise Unusable("--step is a second at the least")
        try:
            where = httpx.URL(url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise Unusable(f"{url} is no address: {error}") from error
        if not where.host:
            raise Unusable(f"{url} is no address; give for example http://prometheus:9090")
        self._shown = str(where.copy_with(username=None, password=None))
        self._begin, self._end, self._step = since.replace(microsecond=0), until.replace(microsecond=0), step
        self.seconds = max(1.0, (self._end - self._begin).total_seconds())
        auth = httpx.BasicAuth(where.username, where.password) if where.username else None
        self._client = httpx.Client(
            base_url=where.copy_with(username=None, password=None),
            auth=auth,
            timeout=TIMEOUT,
            follow_redirects=True,
            headers={"User-Agent": f"streamproc/{__version__}"},
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def lines(self, tally: Tally, notes: list[str]) -> Iterator[Line]:
        """Yield the webhooks, in order of time: of what begins to fire, of what ends, and of what lasts every 4 hours.

        They are grouped by `alertname`, as the example of Alertmanager's own configuration does.

        Args:
            tally: is filled.
            notes: is filled with what a person should know.

        Raises:
            Unusable: it wants other credentials, no Prometheus answers there, or it remembers no alert of that time.
            Transient: it cannot be reached, or cannot answer.
        """
        rules = self._rules(notes)
        known: dict[Labels, _Occurrence] = {}
        for look in self._looks(notes):
            for body in _webhooks(_changes(look, known, rules), rules):
                tally.lines += 1
                tally.first_at, tally.last_at = tally.first_at or look.at, look.at
                read = int((look.at - self._begin).total_seconds())
                yield Line(look.at, tally.lines, NAME, orjson.dumps(body), read)
        if not tally.lines:
            raise Unusable(
                f"{self._shown} remembers no alert that fired between {self._begin.isoformat()} and "
                f"{self._end.isoformat()}; is it the one that has the alerting rules, and does it keep data so long?"
            )

    # -- asking -----------------------------------------------------------------------------------------------------

    def _looks(self, notes: list[str]) -> Iterator[_Look]:
        """Yield what fires at every step, one stretch after the other."""
        span = min(SPAN, POINTS * self._step)
        count = max(1, span // self._step)
        begin = self._begin
        while begin <= self._end:
            end = min(begin + (count - 1) * self._step, self._end)
            yield from self._stretch(begin, end, SPLIT, notes)
            begin = begin + count * self._step

    def _stretch(self, begin: datetime, end: datetime, splits: int, notes: list[str]) -> Iterator[_Look]:
        steps = (end - begin) // self._step
        try:
            firing = self._range(FIRING, begin, end, notes)
            since = self._range(SINCE, begin, end, notes) if firing else []
        except _TooMuch as error:
            if not splits or not steps:
                raise Transient(
                    f"{self._shown} cannot answer for so much at once: {error}; try a longer --step"
                ) from error
            middle = begin + steps // 2 * self._step
            yield from self._stretch(begin, middle, splits - 1, notes)
            yield from self._stretch(middle + self._step, end, splits - 1, notes)
            return
        looks = {at: _Look(at) for at in (begin + n * self._step for n in range(steps + 1))}
        began = dict(since)
        for labels, values in firing:
            of_rule = began.get(labels, {})
            for at in values:
                if at in looks:
                    looks[at].firing[labels] = of_rule.get(at, 0.0)
        yield from looks.values()

    def _range(
        self, query: str, begin: datetime, end: datetime, notes: list[str]
    ) -> list[tuple[Labels, dict[datetime, float]]]:
        told = {"query": query, "start": begin.timestamp(), "end": end.timestamp(), "step": self._step.total_seconds()}
        answer = self._ask("POST", "/api/v1/query_range", told)
        for warning in answer.get("warnings") or ():
            note = f"Prometheus warns: {str(warning)[:SHOWN]}"
            if note not in notes:
                notes.append(note)
        try:
            return [_series(each) for each in answer["data"]["result"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unusable(f"{self._shown} answers something that is no range of samples: {error!r}") from error

    def _rules(self, notes: list[str]) -> dict[str, _Rule]:
        """Return what the rules say today by the alert's name; nothing where that is not told, or differs."""
        found: dict[str, _Rule] = {}
        try:
            groups = self._ask("GET", "/api/v1/rules", {"type": "alert"})["data"]["groups"]
            listed = [rule for group in groups for rule in group["rules"] if rule.get("type", "alerting") == "alerting"]
            for rule in listed:
                texts = {name: text for name, text in (rule.get("annotations") or {}).items() if name in KEPT}
                plain = {name: text for name, text in texts.items() if "{{" not in text}
                one = _Rule(plain, timedelta(seconds=float(rule.get("duration", 0))))
                same = found.setdefault(rule["name"], one)
                if same != one:
                    found[rule["name"]] = _Rule({}, min(same.held, one.held))
        except (Unusable, _TooMuch, KeyError, TypeError, ValueError, AttributeError):
            notes.append("Its rules cannot be read, so that alerts have no annotations.")
            return {}
        notes.append(
            "Annotations are those of today's rules, and only those without templates; labels that are added on the "
            "way to Alertmanager are missing."
        )
        return found

    def _ask(self, method: str, path: str, told: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if method == "POST":
                answer = self._client.post(path, data=told)
                if answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                    answer = self._client.get(path, params=told)
            else:
                answer = self._client.get(path, params=told)
        except httpx.TimeoutException as error:
            raise _TooMuch(f"no answer within {TIMEOUT:.0f} s") from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise Transient(f"{self._shown} cannot be reached: {why}") from error
        return self._understood(answer)

    def _understood(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code in ASKS:
            raise Unusable(
                f"{self._shown} answers {answer.status_code}: put user:password@ into the address, or go through a "
                "proxy that logs in"
            )
        try:
            said = orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            if answer.is_server_error:
                raise _TooMuch(f"HTTP {answer.status_code}") from error
            raise Unusable(
                f"no Prometheus answers at {self._shown} (HTTP {answer.status_code}, and no JSON): give the address of "
                "its own page, for example http://prometheus:9090"
            ) from error
        if isinstance(said, dict) and said.get("status") == "success":
            return said
        why = str(said.get("error") if isinstance(said, dict) else said)[:SHOWN]
        if answer.is_server_error or answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY or "exceeded" in why:
            raise _TooMuch(f"HTTP {answer.status_code}: {why}")
        raise Unusable(f"{self._shown} refuses (HTTP {answer.status_code}): {why}")


def _series(told: Mapping[str, Any]) -> tuple[Labels, dict[datetime, float]]:
    labels = tuple(sorted((name, str(value)) for name, value in told["metric"].items() if name not in DROPPED))
    return labels, {datetime.fromtimestamp(round(float(at)), UTC): float(value) for at, value in told["values"]}


# -- webhooks -------------------------------------------------------------------------------------------------------


def _changes(look: _Look, known: dict[Labels, _Occurrence], rules: Mapping[str, _Rule]) -> Iterator[_Change]:
    """Yield what is to be notified at a moment: labels, occurrence, and when it ended. Ends come first."""
    for labels in [labels for labels in known if labels not in look.firing]:
        yield labels, known.pop(labels), look.at
    for labels, began in look.firing.items():
        occurrence = known.get(labels)
        if occurrence is not None and began and occurrence.began != began and began > occurrence.seen.timestamp():
            yield labels, known.pop(labels), occurrence.seen  # it ended and began again between two looks
            occurrence = None
        if occurrence is None:
            held = rules[_name(labels)].held if _name(labels) in rules else timedelta()
            starts = min(look.at, datetime.fromtimestamp(began, UTC) + held) if began else look.at
            occurrence = known[labels] = _Occurrence(began, starts, look.at, look.at)
            yield labels, occurrence, None
        elif look.at - occurrence.told >= REPEAT:
            occurrence.told = look.at
            yield labels, occurrence, None
        occurrence.seen = look.at


def _webhooks(changes: Iterable[_Change], rules: Mapping[str, _Rule]) -> Iterator[dict[str, Any]]:
    """Yield one notification for each group."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for labels, occurrence, ended in changes:
        groups.setdefault(_name(labels), []).append(_alert(labels, occurrence, ended, rules.get(_name(labels))))
    for name, alerts in groups.items():
        fires = any(alert["status"] == "firing" for alert in alerts)
        yield {
            "version": "4",
            "groupKey": f'{{}}:{{alertname="{name}"}}',
            "status": "firing" if fires else "resolved",
            "receiver": "history",
            "groupLabels": {"alertname": name},
            "alerts": alerts,
        }


def _alert(labels: Labels, occurrence: _Occurrence, ended: datetime | None, rule: _Rule | None) -> dict[str, Any]:
    return {
        "status": "resolved" if ended else "firing",
        "labels": dict(labels),
        "annotations": {} if rule is None else rule.annotations,
        "startsAt": _text(occurrence.starts),
        "endsAt": _text(ended) if ended else "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint(labels),
    }


def _name(labels: Labels) -> str:
    return dict(labels).get("alertname", "")


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fingerprint(labels: Labels) -> str:
    """Return Alertmanager's fingerprint of sorted labels: FNV-1a of 64 bits, 255 after each name and value.

    Source: LabelSet.Fingerprint of github.com/prometheus/common/model.
    """
    found = 14695981039346656037
    for name, value in labels:
        for byte in (*name.encode(), 255, *value.encode(), 255):
            found = (found ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return f"{found:016x}"
