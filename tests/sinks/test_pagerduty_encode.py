"""Encoder: golden wire bytes, named cases of cutting, and the law that every body passes the emulator's contract."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.event import Why
from streamproc.emulator.contract import check
from streamproc.events.alert import Link, Severity
from streamproc.events.escalation import Escalation, PageAction, PageText, Receipt
from streamproc.sinks.pagerduty.cutting import LEAST, cut, fit, size
from streamproc.sinks.pagerduty.encode import MOST_BYTES, Encoded, encode

GOLDEN = Path(__file__).parent.parent / "golden" / "pagerduty"
AT = datetime(2026, 11, 22, 8, 30, 0, 250_000, tzinfo=UTC)
KEY = "0123456789abcdef0123456789abcdef"
TEXT = PageText(
    summary="checkout: error rate 12 % (+3 more)",
    source="prod:eu-1",
    severity=Severity.CRITICAL,
    component="checkout",
    group="shop",
    kind="HighErrorRate",
    details={
        "owner": "team-shop",
        "tier": 1,
        "firing": ["HighErrorRate on checkout", "Latency on cart"],
        "p_page": 0.93,
    },
    links=(
        Link(href="https://runbooks.example/high-error-rate", text="Runbook"),
        Link(href="http://grafana.example/d/1"),
    ),
    images=(Link(href="https://grafana.example/render/1.png", text="Error rate"), Link(href="https://g.example/2.png")),
)
TRAIL = (
    Why(stage="normalise", reason="mapped", now=AT, origin="alerts.raw/0/12", figures={"severity": "page", "n": 1}),
    Why(stage="deduplicate", reason="opened", now=AT, origin="alerts/0/12"),
    Why(stage="escalate", reason="paged", now=AT, origin="episodes/0/9", figures={"p_page": 0.931234, "open": 4}),
)


def escalation(action: PageAction = PageAction.TRIGGER, text: PageText | None = TEXT, **given: Any) -> Escalation:
    fields: dict[str, Any] = {
        "incident_id": "in:v1:prod:eu-1:00112233445566aa",
        "scope": "prod:eu-1",
        "destination": "shop",
        "routing_key": KEY,
        "dedup_key": "in:v1:prod:eu-1:00112233445566aa",
        "action": action,
        "seq": 1,
        "text": text,
        "at": AT,
        "trail": TRAIL,
        "receipt": Receipt(inbox="ab" * 32, config_version=3, catalogue_version=2, model_version=7),
    }
    return Escalation.model_construct(**(fields | given))


def violations(encoded: Encoded) -> tuple[str, ...]:
    kind: Literal["alert", "change"] = "change" if "change" in encoded.path else "alert"
    return check(kind, "application/json", encoded.body).errors


def sent(encoded: Encoded) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(encoded.body)
    return body


def details(encoded: Encoded) -> dict[str, Any]:
    given: dict[str, Any] = sent(encoded)["payload"]["custom_details"]
    return given


LONG = TEXT.model_copy(
    update={
        "summary": "s" * 1100,
        "component": "c" * 1025,
        "details": {"short": "kept"},
        "images": (Link(href="http://grafana.example/insecure.png"),),
    }
)


@pytest.mark.parametrize(
    ("name", "given", "delayed_by"),
    [
        pytest.param("trigger", escalation(), None, id="trigger"),
        pytest.param("delayed", escalation(), timedelta(minutes=12), id="trigger that was delayed"),
        pytest.param("acknowledge", escalation(PageAction.ACKNOWLEDGE, None), None, id="acknowledge"),
        pytest.param("resolve", escalation(PageAction.RESOLVE, None), None, id="resolve"),
        pytest.param("change", escalation(PageAction.CHANGE), None, id="change event"),
        pytest.param("truncated", escalation(text=LONG), None, id="truncated"),
    ],
)
def test_wire_bytes(name: str, given: Escalation, delayed_by: timedelta | None, tmp_path: Path) -> None:
    encoded = encode(given, delayed_by=delayed_by, client_url="https://streamproc.example/")
    fresh = tmp_path / f"{name}.json"
    fresh.write_bytes(encoded.body)
    assert encoded.body == (GOLDEN / f"{name}.json").read_bytes(), f"if that is meant, copy {fresh}"
    assert violations(encoded) == ()


@pytest.mark.parametrize("action", [PageAction.ACKNOWLEDGE, PageAction.RESOLVE])
def test_follow_ups_carry_no_payload(action: PageAction) -> None:
    encoded = encode(escalation(action), delayed_by=timedelta(minutes=1))
    assert sent(encoded) == {
        "routing_key": KEY,
        "event_action": str(action),
        "dedup_key": "in:v1:prod:eu-1:00112233445566aa",
    }
    assert encoded.cut == ()
    assert encoded.path == "/v2/enqueue"


@pytest.mark.parametrize(
    ("late", "mark"),
    [
        pytest.param(timedelta(minutes=12), "[delayed 12 min] ", id="whole minutes"),
        pytest.param(timedelta(seconds=61), "[delayed 2 min] ", id="a begun minute counts"),
        pytest.param(timedelta(seconds=5), "[delayed 1 min] ", id="never zero"),
        pytest.param(None, "", id="in time"),
    ],
)
def test_delay_is_marked(late: timedelta | None, mark: str) -> None:
    encoded = encode(escalation(), delayed_by=late)
    assert sent(encoded)["payload"]["summary"] == f"{mark}{TEXT.summary}"
    assert ("delayed" in details(encoded)) == bool(mark)


@pytest.mark.parametrize(
    ("text", "summary", "source"),
    [
        pytest.param(
            PageText(summary=" \n", source="", severity=Severity.INFO),
            "Incident in:v1:prod:eu-1:00112233445566aa",
            "streamproc",
            id="empty text",
        ),
        pytest.param(None, "Incident in:v1:prod:eu-1:00112233445566aa", "streamproc", id="no text at all"),
        pytest.param(
            PageText.model_construct(summary="a\x00b\ud800c\r\nd", source="\x9fhost", severity=Severity.INFO),
            "a\ufffdb\ufffdc d",
            "\ufffdhost",
            id="control characters and lone surrogates",
        ),
    ],
)
def test_odd_text(text: PageText | None, summary: str, source: str) -> None:
    encoded = encode(escalation(text=text), delayed_by=None)
    payload = sent(encoded)["payload"]
    assert (payload["summary"], payload["source"]) == (summary, source)
    assert violations(encoded) == ()


def test_the_reason_chain_and_the_receipt_are_readable() -> None:
    given = details(encode(escalation(), delayed_by=None))
    assert given["why"] == [
        "normalise: mapped (severity=page, n=1) [alerts.raw/0/12]",
        "deduplicate: opened [alerts/0/12]",
        "escalate: paged (p_page=0.9312, open=4) [episodes/0/9]",
    ]
    assert given["receipt"] == {
        "inbox": "ab" * 32,
        "config_version": 3,
        "catalogue_version": 2,
        "model_version": 7,
    }
    assert next(iter(given)) == "incident_id"


def test_without_trail_and_receipt_there_is_no_empty_field() -> None:
    given = details(encode(escalation(trail=(), receipt=None), delayed_by=None))
    assert {"why", "receipt", "streamproc_cut"}.isdisjoint(given)


def test_a_long_chain_keeps_both_ends() -> None:
    trail = tuple(Why(stage=f"s{i}", reason="r" * (1000 if i == 0 else 1), now=AT, origin="o") for i in range(100))
    encoded = encode(escalation(trail=trail), delayed_by=None)
    why = details(encoded)["why"]
    assert why[0].startswith("s0: rrr")
    assert len(why[0]) == 600
    assert why[10] == "… [60 left out]"
    assert (why[11], why[-1]) == ("s70: r [o]", "s99: r [o]")
    assert encoded.cut[:2] == ("why: 60 of 100 reasons left out", "why, s0: 600 of 1,008 characters kept")


def test_dedup_keys_that_are_too_long_stay_distinct_and_pair_up() -> None:
    one, other = "k" * 300 + "1", "k" * 300 + "2"
    trigger = sent(encode(escalation(dedup_key=one), delayed_by=None))["dedup_key"]
    resolve = sent(encode(escalation(PageAction.RESOLVE, None, dedup_key=one), delayed_by=None))["dedup_key"]
    second = sent(encode(escalation(dedup_key=other), delayed_by=None))["dedup_key"]
    assert trigger == resolve
    assert trigger != second
    assert len(trigger) == 255


def test_details_never_hide_ours() -> None:
    text = TEXT.model_copy(update={"details": {"why": "mine", "incident_id": "x", "incident_id_": "y", "\x00": 1}})
    given = details(encode(escalation(text=text), delayed_by=None))
    assert given["incident_id"].startswith("in:v1:")
    assert (given["why_"], given["incident_id_"], given["incident_id__"], given["\ufffd"]) == ("mine", "x", "y", 1)


def test_numbers_that_json_readers_choke_on_become_text() -> None:
    text = TEXT.model_copy(
        update={"details": {"nan": float("nan"), "inf": float("-inf"), "big": 1 << 70, "ok": 1 << 60, "no": None}}
    )
    given = details(encode(escalation(text=text), delayed_by=None))
    assert [given[name] for name in ("nan", "inf", "big", "ok", "no")] == ["nan", "-inf", hex(1 << 70), 1 << 60, None]


def test_links_that_lead_nowhere_are_left_out_and_named() -> None:
    links = (
        Link(href="javascript:alert(1)"),
        Link(href="https://ok.example/", text="t" * 300),
        Link(href="https://long.example/" + "x" * 3000),
        *(Link(href=f"https://many.example/{i}") for i in range(10)),
    )
    encoded = encode(escalation(text=TEXT.model_copy(update={"links": links})), delayed_by=None)
    shown = sent(encoded)["links"]
    assert [link["href"] for link in shown] == ["https://ok.example/", *(f"https://many.example/{i}" for i in range(9))]
    assert len(shown[0]["text"]) == 255
    assert encoded.cut[0] == "link left out: javascript:alert(1)"
    assert encoded.cut[-2:] == ("link left out: https://many.example/9", "text of href: 255 of 300 characters kept")
    assert details(encoded)["streamproc_cut"] == list(encoded.cut)


def test_a_change_event_keeps_what_it_has_no_field_for() -> None:
    encoded = encode(escalation(PageAction.CHANGE), delayed_by=None)
    body = sent(encoded)
    assert encoded.path == "/v2/change/enqueue"
    assert set(body) == {"routing_key", "payload", "links"}
    assert set(body["payload"]) == {"summary", "source", "timestamp", "custom_details"}
    given = details(encoded)
    assert (given["severity"], given["class"]) == ("critical", "HighErrorRate")
    assert encoded.cut[0].startswith("image left out, a change event has none: https://")


def test_a_bare_change_event() -> None:
    text = PageText(summary="deploy", source="ci", severity=Severity.INFO)
    assert set(sent(encode(escalation(PageAction.CHANGE, text), delayed_by=None))) == {"routing_key", "payload"}


def test_a_bare_trigger() -> None:
    text = PageText(summary="s", source="h", severity=Severity.INFO)
    body = sent(encode(escalation(text=text), delayed_by=None, client=""))
    assert set(body) == {"routing_key", "event_action", "dedup_key", "payload"}
    assert set(body["payload"]) == {"summary", "source", "severity", "timestamp", "custom_details"}


def test_the_shown_body_has_no_routing_key() -> None:
    encoded = encode(escalation(), delayed_by=None)
    assert KEY not in encoded.shown
    assert json.loads(encoded.shown) == {k: v for k, v in sent(encoded).items() if k != "routing_key"}


def test_the_longest_details_are_cut_first_and_essentials_stay() -> None:
    text = TEXT.model_copy(
        update={
            "details": {
                "small": "s" * 1000,
                "log": 'ä"\n' * 300_000,
                "lines": ["x" * 99] * 9000,
                "one": ["y" * 800_000],
                "number": 7,
            }
        }
    )
    encoded = encode(escalation(text=text), delayed_by=timedelta(minutes=3))
    given = details(encoded)
    assert len(encoded.body) <= MOST_BYTES
    assert len(encoded.body) > 0.85 * MOST_BYTES
    assert (given["small"], given["number"]) == ("s" * 1000, 7)
    assert given["log"].endswith("… [cut: 900,000 characters in all]")
    assert given["lines"][-1] == "… [cut: 9,000 entries in all]"
    assert given["one"][0].endswith("… [cut: 800,000 characters in all]")
    assert len(given["why"]) == 3
    assert given["receipt"]["model_version"] == 7
    assert encoded.cut == (
        "log: cut, 900,000 characters in all",
        "lines: cut, 9,000 entries in all",
        "one: cut, 1 entries in all",
    )
    assert given["streamproc_cut"] == list(encoded.cut)
    assert violations(encoded) == ()


def test_too_many_details_are_left_out_from_the_end() -> None:
    text = TEXT.model_copy(update={"details": {f"{i:05d}" + "k" * 200: "v" * 300 for i in range(3000)}})
    encoded = encode(escalation(text=text), delayed_by=None)
    given = details(encoded)
    assert f"{0:05d}" in next(name for name in given if name.startswith("00000"))
    assert not any(name.startswith("02999") for name in given)
    assert encoded.cut[-1].startswith("and ")
    assert violations(encoded) == ()


def test_the_worst_of_everything_still_fits() -> None:
    wide = "\U0001f525"
    url = "https://" + wide * 2040
    text = PageText(
        summary=wide * 5000,
        source=wide * 5000,
        severity=Severity.CRITICAL,
        component=wide * 5000,
        group=wide * 5000,
        kind=wide * 5000,
        details={f"{i}{wide * 500}": wide * 5000 for i in range(500)},
        links=(Link(href=url, text=wide * 5000),) * 50,
        images=(Link(href=url, text=wide * 5000),) * 50,
    )
    trail = tuple(
        Why(stage=wide * 900, reason=wide * 900, now=AT, origin=wide * 900, figures={wide * 900: wide * 900})
        for _ in range(90)
    )
    given = escalation(text=text, trail=trail, incident_id=wide * 5000, receipt=Receipt(inbox=wide * 5000))
    encoded = encode(given, delayed_by=timedelta(days=1), client=wide * 5000, client_url=wide * 5000)
    assert violations(encoded) == ()
    assert len(details(encoded)["why"]) == 41


anything = st.text(alphabet=st.characters(), max_size=2000)
scalars = st.one_of(anything, st.integers(), st.floats(), st.booleans(), st.none(), st.lists(anything, max_size=5))
links = st.lists(
    st.builds(
        Link.model_construct,
        href=st.one_of(anything, anything.map(lambda text: f"https://{text}")),
        text=anything,
    ),
    max_size=12,
).map(tuple)
texts = st.builds(
    PageText.model_construct,
    summary=anything,
    source=anything,
    severity=st.sampled_from(Severity),
    component=anything,
    group=anything,
    kind=anything,
    details=st.dictionaries(anything, scalars, max_size=8),
    links=links,
    images=links,
)
whys = st.builds(
    Why.model_construct,
    stage=anything,
    reason=anything,
    now=st.just(AT),
    origin=anything,
    figures=st.dictionaries(anything, st.one_of(anything, st.integers(), st.floats(), st.none()), max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(
    text=texts,
    action=st.sampled_from(PageAction),
    trail=st.lists(whys, max_size=5).map(tuple),
    dedup_key=st.text(alphabet=st.characters(), min_size=1).filter(lambda text: text.strip()),
    incident_id=anything,
    at=st.datetimes(timezones=st.just(UTC)),
    delayed_by=st.none() | st.timedeltas(min_value=timedelta(0)),
)
def test_whatever_comes_in_the_body_is_valid(
    text: PageText,
    action: PageAction,
    trail: tuple[Why, ...],
    dedup_key: str,
    incident_id: str,
    at: datetime,
    delayed_by: timedelta | None,
) -> None:
    given_escalation = escalation(action, text, trail=trail, dedup_key=dedup_key, incident_id=incident_id, at=at)
    encoded = encode(given_escalation, delayed_by=delayed_by)
    assert violations(encoded) == ()
    body = encoded.body.decode("utf-8")
    assert "\\u0000" not in body
    assert encode(given_escalation, delayed_by=delayed_by) == encoded


@settings(max_examples=100, deadline=None)
@given(
    details=st.dictionaries(st.text(max_size=20), st.text(max_size=3000) | st.lists(st.text(max_size=600)), max_size=9),
    room=st.integers(min_value=0, max_value=12_000),
)
def test_fitted_details_fit_and_every_loss_is_said(details: dict[str, Any], room: int) -> None:
    fitted, notes = fit(details, room)
    assert size(fitted) <= max(room, 1) + 1
    assert list(fitted) == [name for name in details if name in fitted]
    changed = [name for name in fitted if fitted[name] != details[name]]
    assert len(notes) == len(changed) + (len(fitted) < len(details))
    if changed:
        untouched = [size(fitted[name]) for name in fitted if name not in changed]
        assert max(untouched, default=0) <= min(size(details[name]) for name in changed)


@given(
    value=st.text(min_size=300, max_size=900) | st.lists(st.text(min_size=100, max_size=900), min_size=4),
    most=st.integers(LEAST, 1000),
)
def test_a_cut_value_fits(value: str | list[str], most: int) -> None:
    if size(value) > most:
        assert size(cut(value, most)) <= most
