"""Every parser of foreign bytes, with what must hold of it whatever it is given."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import orjson
import yaml
from pydantic import ValidationError

from streamproc import matching
from streamproc.beginning import catalogue_of
from streamproc.core.errors import Rejected, Unusable
from streamproc.core.event import DeadLetter
from streamproc.core.fold import FoldReason
from streamproc.core.table import RowStore, encode_rows
from streamproc.events.alert import Alert
from streamproc.events.feedback import Feedback, Matcher, Policy
from streamproc.events.incident import Incident
from streamproc.gateway.feedback import FeedbackGiven
from streamproc.gateway.operations import Letter
from streamproc.gateway.pagerduty import read, signed
from streamproc.ports import Entry
from streamproc.settings import load
from streamproc.sources import envelope
from streamproc.sources.foreign import Refused
from streamproc.sources.mapping import Rule, RuleSet
from streamproc.state import TABLES
from tests.conformance.play import T0, Play
from tests.fuzz.mutation import mutated, payload, sentence, written

FIXTURES = Path(__file__).parents[1] / "fixtures" / "payloads"
BATCH = 8
"""Hostile inputs that share a pipeline, between two good ones."""
INCIDENT = "in:v1:prod:eu-1:00000000000000aa"
ODD_HEADERS: tuple[dict[str, bytes], ...] = (
    {},
    {"type": b"raw-alert.v1"},
    {"source": b"\xff\xfe"},
    {"source": b"nagios"},
    {"type": b"\xff"},
    {"type": b"alert.v1"},
    {"now": b"0001-01-01T00:00:00+23:59"},
    {"now": b"yesterday"},
    {"now": b"\xff"},
    {"traceparent": b"\xff" * 200},
)


@dataclass(frozen=True)
class Parser:
    """A parser under attack."""

    name: str
    attack: Callable[[Random], int]
    """Makes hostile inputs of the randomness, asserts what must hold, returns how many inputs there were."""


def seeds(prefix: str) -> tuple[Any, ...]:
    return tuple(orjson.loads(file.read_bytes()) for file in sorted(FIXTURES.glob(f"{prefix}*.json")))


SEEDS: dict[str, tuple[Any, ...]] = {
    "alertmanager": (*seeds("alertmanager"), *seeds("grafana"), *seeds("google")),
    "datadog": seeds("datadog"),
    "generic": (
        *seeds("generic"),
        [{"name": "a", "status": "ok", "links": [{"href": "https://a", "text": "t"}], "labels": {"n": 1}}],
        {"alerts": [{"id": "1", "name": "b"}, {"name": "c", "starts_at": 1767225600, "annotations": {"a": "b"}}]},
    ),
}


def _good(play: Play, name: str) -> None:
    play.post({"id": name, "name": name, "status": "firing", "severity": "critical", "labels": {"service": name}})


def attack_source(source: str) -> Callable[[Random], int]:
    """Hostile bodies of a source, through the whole pipeline."""

    def attack(rng: Random) -> int:
        play = Play()
        _good(play, "before")
        sent = []
        for _ in range(BATCH):
            body = payload(rng, SEEDS[source])
            headers = dict(rng.choice(ODD_HEADERS)) if rng.randrange(6) == 0 else {"source": source.encode()}
            play.append(Entry("alerts.raw", b"", body, headers))
            sent.append((body, headers))
        _good(play, "after")
        play.run()
        play.wait(5)
        _check_bodies(play, sent)
        return BATCH

    return attack


def _check_bodies(play: Play, sent: list[tuple[bytes, dict[str, bytes]]]) -> None:
    letters = play.letters()
    assert {one.topic for one in letters} <= {"alerts.raw"}, letters
    alerts = [Alert.model_validate_json(record.value) for record in play.memory.records("alerts")]
    made = Counter(int(alert.trail[0].origin.rpartition("/")[2]) for alert in alerts)
    first, last = 0, len(sent) + 1
    assert made[first] == made[last] == 1, "a neighbour was harmed"
    refused: dict[int, list[DeadLetter]] = {}
    for letter in letters:
        assert letter.reason != FoldReason.FAILED, letter.detail
        assert letter.reason, letter
        assert letter.detail, letter
        refused.setdefault(letter.offset, []).append(letter)
    for offset, (body, headers) in enumerate(sent, start=1):
        _check_body(body, headers, made[offset], refused.get(offset, []))


def _check_body(body: bytes, headers: dict[str, bytes], made: int, letters: list[DeadLetter]) -> None:
    """Every alert of a body is an alert or in a dead letter; a body that holds none makes one letter, unless empty."""
    whole = [letter for letter in letters if not letter.stage]
    if whole:
        assert len(letters) == 1
        assert made == 0
        assert whole[0].value == body
        return
    assert headers.get("source", b"") in (b"", *(name.encode() for name in SEEDS))
    many = [letter for letter in letters if letter.reason == Refused.MANY_REFUSED]
    if headers.get("source"):
        held = envelope(headers["source"].decode(), body).count
        assert made + len(letters) == held or many, (made, letters, held)


def attack_topic(topic: str, seed: tuple[Any, ...], kind: str) -> Callable[[Random], int]:
    """Hostile records of a public topic, through the whole pipeline."""

    def attack(rng: Random) -> int:
        play = Play()
        _good(play, "before")
        play.run()
        for _ in range(BATCH):
            headers = {"type": kind.encode()} if rng.randrange(8) else dict(rng.choice(ODD_HEADERS))
            if headers.get("type") == b"alert.v1" and kind != "alert.v1":
                continue
            play.append(Entry(topic, b"", payload(rng, seed), headers))
        _good(play, "after")
        play.run()
        play.wait(5)
        failed = [letter for letter in play.letters() if letter.reason == FoldReason.FAILED]
        assert failed == [], failed
        ours = [
            record
            for record in play.memory.records("alerts")
            if b'"before"' in record.value or b'"after"' in record.value
        ]
        assert len(ours) >= 2, "a neighbour was harmed"
        return BATCH

    return attack


FEEDBACK = Feedback(feedback_id="f", incident_id=INCIDENT, kind="acknowledged", at=T0, by="ann").model_dump(mode="json")
SILENCE = Policy(
    policy_id="p",
    kind="silence",
    version=1,
    matchers=(Matcher(name="service", op="=~", value="be.*"), Matcher(name="x", op="!=", value="y")),
    starts_at=T0,
    ends_at=T0 + timedelta(minutes=3),
    author="ann",
).model_dump(mode="json")
ARM = Policy(policy_id="arm", kind="arm", version=1, starts_at=T0).model_dump(mode="json")


def _webhook(kind: str, **data: Any) -> dict[str, Any]:
    agent = {"id": "P1", "type": "user_reference", "summary": "Ann"}
    event = {"id": "01", "event_type": kind, "occurred_at": "2026-01-01T00:00:00Z", "agent": agent}
    return {"event": {**event, "data": {"incident_key": INCIDENT, **data}}}


WEBHOOKS = (
    _webhook("incident.acknowledged"),
    _webhook("incident.priority_updated", priority={"summary": "P1"}),
    _webhook("incident.reassigned", assignees=[{"summary": "Bob"}]),
    _webhook("incident.annotated", content="text", incident={"incident_key": INCIDENT}),
    _webhook("incident.urgency_updated", urgency="high"),
)


def attack_webhook(rng: Random) -> int:
    """Hostile webhooks of PagerDuty; what is feedback must be good feedback."""
    play = Play()
    for _ in range(BATCH):
        body = payload(rng, WEBHOOKS)
        heard = read(body, sentence(rng, ("webhook-1", "")))
        signed(sentence(rng, ("v1=00", "v1=00,v1=11", "v2=x")), body, [b"secret"])
        if heard.feedback is not None:
            play.append(Entry.of("feedback", heard.feedback, heard.feedback.incident_id))
    play.run()
    assert play.letters() == []
    return BATCH


@cache
def rows() -> dict[str, tuple[Any, ...]]:
    """Rows of every table as a run leaves them."""
    play = Play()
    play.configure()
    play.arm(adopt=False)
    play.fire("a", "b", service="web", severity="critical")
    play.feedback(
        "acknowledged", 1, Incident.model_validate_json(play.memory.records("incidents.enriched")[0].value).incident_id
    )
    play.silence("web", 60)
    found: dict[str, list[Any]] = {}
    for part in play.memory.engine.parts:
        for address, raw in part.rows.raw().items():
            found.setdefault(address.table, []).append(orjson.loads(raw))
    return {table: tuple(raws[:20]) for table, raws in found.items()}


def attack_rows(rng: Random) -> int:
    """Hostile bytes where a row should be: a row that comes back as it was, or none and a clear refusal."""
    name = rng.choice(sorted(rows()))
    table = next(table for table in TABLES if table.name == name)
    raw = payload(rng, rows()[name])
    if b"NaN" in raw or b"1e400" in raw:
        return 1  # JSON has no such numbers, and no row is written with one
    store = RowStore((table,))
    try:
        store.restore(table.at("k"), raw)
    except (ValueError, Unusable):
        assert len(store) == 0
        return 1
    row = store.get(table.at("k"))
    again = encode_rows({table.at("k"): row})[table.at("k")]
    assert again is not None
    assert table.row.model_validate_json(again) == row
    return 1


LETTER = DeadLetter(
    reason="wrong_shape", detail="d", node="normalise", topic="alerts.raw", partition=0, offset=1, now=T0,
    headers={"source": "generic"}, value=b"\xff{}",
).model_dump(mode="json")  # fmt: skip


def attack_letters(rng: Random) -> int:
    """Hostile bytes in the topic of dead letters: shown and retried, or a ValueError."""
    try:
        letter = DeadLetter.decode(payload(rng, (LETTER,)), {})
    except ValueError:
        return 1
    shown = Letter.of(letter)
    assert shown.size == len(letter.value)
    json.loads(shown.model_dump_json())
    Entry.again(letter)
    return 1


SETTINGS: tuple[Any, ...] = (
    {
        "environment": "prod",
        "gateway": {"port": 8080, "ingest_tokens": ["0" * 64], "body_limit": 5000000},
        "normalise": {"severities": {"gold": "critical"}, "scope": ["environment", "tenant"], "max_labels": 64},
        "deduplicate": {"expire_after": "12h"},
        "pagerduty": {"destinations": {"default": {"routing_key": "0" * 32}}},
        "services": "services.yaml",
    },
)
SERVICES: tuple[Any, ...] = (
    {
        "services": {
            "web": {"owner": "ann", "tier": 1, "depends_on": ["api"], "dashboards": [{"href": "https://a"}]},
            "api": {"aliases": ["backend"], "category": "application", "runbook": "https://b"},
            "db": None,
        }
    },
)
YAML_TEXTS = (
    "a: &a [*a]\n",
    "services: &s {web: {depends_on: [*s]}}\n",
    "gateway: &g\n  <<: *g\n",
    "gateway: {port: 2026-99-99}\n",
    "gateway: {port: !!int x, host: !!float y}\n",
    "gateway: {port: 0o99999, host: 1:99:99}\n",
    "? [a, b]\n: c\n",
    "? {a: b}\n: c\n",
    "2026-01-01: x\n.nan: y\n~: z\n",
    "services: {web: {tier: 190:20:30}, 1: {}, true: {}}\n",
    "a: " + "[" * 2000,
    "a: &x 1\nb: [" + "*x, " * 50 + "]\n",
    "!!binary aGk=: !!set {a, b}\n",
    "- a\n- b\n",
    "gateway: !!python/object/apply:os.system [x]\n",
    "%YAML 9.9\n---\na: b\n---\nc: d\n",
    "\t\n",
)


def attack_yaml(read_file: Callable[[Path], object], given: tuple[Any, ...]) -> Callable[[Random], int]:
    """Hostile YAML files: used, or refused with a message for people."""

    def attack(rng: Random) -> int:
        act = rng.randrange(3)
        if act == 0:
            raw = sentence(rng, YAML_TEXTS).encode("utf-8", "surrogatepass")
        elif act == 1:
            raw = payload(rng, given)
        else:
            text = yaml.safe_dump(orjson.loads(orjson.dumps(rng.choice(given))))
            raw = sentence(rng, (text,)).encode("utf-8", "surrogatepass")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "given.yaml"
            file.write_bytes(raw)
            try:
                read_file(file)
            except Unusable:
                return 1
        return 1

    return attack


MATCHERS = ('service="checkout"', 'alertname=~"Node.*"', "env!=dev", 'a!~"(x|y)+"', '"my label"="a\\"b"', "a=~x{2,3}")


def attack_matchers(rng: Random) -> int:
    """Hostile matchers: one that is written as it is read, or a message for people."""
    text = sentence(rng, MATCHERS)
    try:
        matcher = matching.parse(text)
    except Unusable:
        return 1
    if re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:.\-/]*", matcher.name):
        assert matching.parse(matching.written(matcher)) == matcher
    return 1


CONDITIONS = (
    'alert.labels.team == "db" && alert.severity == "critical"',
    'alert.name.matches("^a+$") || alert.labels["x"].startsWith("y")',
    'size(alert.labels) > 3 ? true : alert.summary.contains("z")',
    "alert.labels.all(k, k != alert.annotations.runbook)",
    'int(alert.labels.n) / 0 == 1 || timestamp(alert.name) > timestamp("2026-01-01T00:00:00Z")',
)
FIELDS = dict.fromkeys(("source", "name", "status", "severity_text", "description", "group"), "n")


def attack_rules(rng: Random) -> int:
    """Hostile conditions of mapping rules: refused when they are loaded, or harmless when they run."""
    try:
        rule = Rule.model_validate({"name": "r", "when": sentence(rng, CONDITIONS), "set": {"team": "t"}})
    except ValidationError:
        return 1
    said = {
        "severity": "info",
        **dict.fromkeys(("summary", "environment", "cluster", "service", "team", "resource"), ""),
    }
    value = sentence(rng, ("1", "x")).encode("utf-8", "replace").decode()  # no JSON brings half a surrogate pair
    labels = {"n": value, "team": "db"}
    RuleSet((rule,)).apply(said, {**FIELDS, "labels": labels, "annotations": {}})
    return 1


def attack_envelope(rng: Random) -> int:
    """Hostile bodies at the door: counted, or refused; never anything else."""
    source = rng.choice(sorted(SEEDS))
    try:
        found = envelope(source, payload(rng, SEEDS[source]))
    except Rejected as refusal:
        Refused(refusal.reason)
        return 1
    assert found.count >= 0
    found.group.encode()
    return 1


def attack_gateway_feedback(rng: Random) -> int:
    """Hostile feedback at the operations API: refused, or good feedback."""
    seed = {"incident_id": INCIDENT, "kind": "label", "page": True, "by": "ann", "at": "2026-01-01T00:00:00Z"}
    try:
        given = FeedbackGiven.model_validate_json(written(rng, mutated(rng, seed)))
    except ValidationError:
        return 1
    event = given.event(T0)
    assert Feedback.decode(event.encode(), {}) == event
    return 1


ALERT = {
    "fingerprint": "fp:v1:00", "alert_id": "a", "source": "generic", "status": "firing", "name": "n",
    "severity": "error", "summary": "s", "labels": {"a": "b"}, "scope": "prod:eu-1",
    "starts_at": "2026-01-01T00:00:00Z", "at": "2026-01-01T00:00:00Z", "links": [{"href": "https://a"}],
}  # fmt: skip

PARSERS = (
    *(Parser(source, attack_source(source)) for source in SEEDS),
    Parser("envelope", attack_envelope),
    Parser("webhook", attack_webhook),
    Parser("feedback", attack_topic("feedback", (FEEDBACK,), "feedback.v1")),
    Parser("given feedback", attack_gateway_feedback),
    Parser("policies", attack_topic("policies", (SILENCE, ARM), "policy.v1")),
    Parser("alerts", attack_topic("alerts", (ALERT,), "alert.v1")),
    Parser("rows", attack_rows),
    Parser("dead letters", attack_letters),
    Parser("settings", attack_yaml(load, SETTINGS)),
    Parser("services", attack_yaml(catalogue_of, SERVICES)),
    Parser("matchers", attack_matchers),
    Parser("rules", attack_rules),
)
