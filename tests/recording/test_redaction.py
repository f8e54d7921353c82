"""What is redacted, what stays, and that pseudonyms keep what decides: equal values equal, others different."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.backtest.reading import Recording, Tally, traffic
from streamproc.backtest.replay import Replay
from streamproc.core.errors import Unusable
from streamproc.recording.keys import any_key, key_of
from streamproc.recording.pseudonyms import Pseudonyms
from streamproc.recording.redaction import Redactor
from streamproc.recording.rules import Rules
from streamproc.settings import load

KEY = b"a key of at least sixteen bytes"
NAMES = Pseudonyms(KEY)


def redactor(redact: str = "", keep: str = "") -> Redactor:
    return Redactor(Rules.of([redact], [keep]), KEY)


def px(value: str) -> str:
    return NAMES.of(value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param("ask anna.b+x@example.co.uk now", f"ask {px('anna.b+x@example.co.uk')} now", id="an e-mail"),
        pytest.param("host 10.1.2.3 is down", f"host {px('10.1.2.3')} is down", id="an IPv4 address"),
        pytest.param("10.1.2.3:9100", f"{px('10.1.2.3')}:9100", id="its port stays"),
        pytest.param("http://10.1.2.3:9090/g", f"http://{px('10.1.2.3')}:9090/g", id="in an address"),
        pytest.param("to fe80::1:2 from ::", f"to {px('fe80::1:2')} from ::", id="an IPv6 address"),
        pytest.param("ip-10-1-2-3.ec2", f"ip-{px('10.1.2.3')}.ec2", id="as AWS names machines"),
        pytest.param("at 12:30:05, v1.2.3, 999.1.1.1", "at 12:30:05, v1.2.3, 999.1.1.1", id="times and versions stay"),
        pytest.param("token=abcd1234 x", f"token={px('abcd1234')} x", id="a named secret"),
        pytest.param("Authorization: Bearer abc.def", f"Authorization: Bearer {px('abc.def')}", id="a bearer"),
        pytest.param("https://u:pw@h/x", f"https://{px('u:pw')}@h/x", id="a password in an address"),
        pytest.param("ghp_" + "a1" * 15, px("ghp_" + "a1" * 15), id="a token of GitHub"),
        pytest.param("xoxb-1234567890-ab", px("xoxb-1234567890-ab"), id="a token of Slack"),
        pytest.param("AKIA" + "A1" * 8, px("AKIA" + "A1" * 8), id="a key of AWS"),
        pytest.param("key " + "0af1" * 8, "key " + px("0af1" * 8), id="a routing key"),
        pytest.param("eyJhbGciOiJI.eyJzdWIiOiIx.sig", px("eyJhbGciOiJI.eyJzdWIiOiIx.sig"), id="a JWT"),
        pytest.param(
            "the db of eu-1 is down since deadbeef", "the db of eu-1 is down since deadbeef", id="plain words"
        ),
    ],
)
def test_what_is_found_in_texts(text: str, wanted: str) -> None:
    assert redactor().text(text) == wanted
    assert redactor().text(wanted) == wanted


def test_what_is_kept_is_not_looked_for() -> None:
    text = "anna@example.com 10.1.2.3 token=abcd1234"
    assert redactor(keep="email, ip,token").text(text) == text


def test_hosts_of_addresses_go_where_that_is_wanted() -> None:
    text = "http://prom.corp.example:9090/graph?g0.expr=up and https://x.example/"
    assert redactor().text(text) == text
    wanted = f"http://{px('prom.corp.example')}:9090/graph?g0.expr=up and https://{px('x.example')}/"
    assert redactor("host").text(text) == wanted


BODY: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}/{team="pay"}:{instance="db-1.corp:9100", alertname="Down"}',
    "groupLabels": {"instance": "db-1.corp:9100"},
    "commonAnnotations": {},
    "externalURL": "http://am.corp",
    "truncatedAlerts": 0,
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Down", "severity": "critical", "service": "db", "instance": "db-1.corp:9100"},
            "annotations": {"summary": "db-1.corp:9100 is down", "owner": "Anna"},
            "startsAt": "2026-03-01T12:00:00Z",
            "generatorURL": "http://prom/graph?expr=up%7Binstance%3D%22db-1.corp%3A9100%22%7D",
            "fingerprint": "0123456789abcdef",
        }
    ],
}


def test_a_label_is_redacted_wherever_it_stands() -> None:
    done = redactor("labels.instance,annotations.owner").body(BODY)
    name = px("db-1.corp:9100")
    assert name == f"{px('db-1.corp')}:9100"
    (alert,) = done["alerts"]
    assert alert["labels"] == {"alertname": "Down", "severity": "critical", "service": "db", "instance": name}
    assert alert["annotations"] == {"summary": f"{name} is down", "owner": px("Anna")}
    assert alert["startsAt"] == "2026-03-01T12:00:00Z"
    assert alert["fingerprint"] == NAMES.digest("0123456789abcdef")
    assert done["groupLabels"] == {"instance": name}
    assert done["groupKey"] == f'{{}}/{{team="pay"}}:{{instance="{name}", alertname="Down"}}'
    assert "db-1.corp" not in json.dumps(done)
    assert (done["version"], done["truncatedAlerts"], done["externalURL"]) == ("4", 0, "http://am.corp")


def test_a_pattern_leaves_how_bad_what_and_whose_it_is() -> None:
    labels = redactor("labels.*", "labels.team").body(
        {"labels": {**BODY["alerts"][0]["labels"], "team": "pay", "n": 5}}
    )["labels"]
    assert labels == {
        "alertname": "Down",
        "severity": "critical",
        "service": "db",
        "team": "pay",
        "instance": px("db-1.corp:9100"),
        "n": 5,
    }
    assert redactor("labels.service").body({"labels": {"service": "db"}})["labels"] == {"service": px("db")}


def test_an_event_of_datadog() -> None:
    event = {
        "alert_id": "42",
        "alert_transition": "Triggered",
        "title": "[Triggered on {host:i-123}] Disk of i-123",
        "body": "i-123 is full, see anna@example.com",
        "tags": "env:prod, host:i-123,untagged,ip:10.1.2.3",
        "alert_scope": ["host:i-123"],
        "hostname": "i-123",
        "org_id": 77,
        "nested": {"deep": ["10.1.2.3", None, True]},
    }
    done = redactor("labels.host,fields.org_id").body(event)
    name = px("i-123")
    assert done == {
        "alert_id": "42",
        "alert_transition": "Triggered",
        "title": f"[Triggered on {{host:{name}}}] Disk of i-123",
        "body": f"{name} is full, see {px('anna@example.com')}",
        "tags": f"env:prod, host:{name},untagged,ip:{px('10.1.2.3')}",
        "alert_scope": [f"host:{name}"],
        "hostname": name,
        "org_id": px("77"),
        "nested": {"deep": [px("10.1.2.3"), None, True]},
    }


def test_bodies_that_are_told_as_text_and_feedback() -> None:
    done = redactor("labels.pod")
    line = {"at": "2026-03-01T12:00:00Z", "source": "generic", "body": json.dumps({"labels": {"pod": "p-1"}})}
    assert json.loads(orjson.loads(done.line(orjson.dumps(line)))["body"]) == {"labels": {"pod": px("p-1")}}
    broken = orjson.loads(done.line(orjson.dumps({**line, "body": "no JSON of 10.1.2.3"})))
    assert broken["body"] == f"no JSON of {px('10.1.2.3')}"
    said = {"at": "2026-03-01T12:00:00Z", "alert": "0123456789abcdef@2026", "field": "page", "value": True}
    assert orjson.loads(done.line(orjson.dumps(said)))["alert"] == f"{NAMES.digest('0123456789abcdef')}@2026"
    assert orjson.loads(done.line(orjson.dumps({**said, "alert": "e1"})))["alert"] == "e1"


@pytest.mark.parametrize(
    "text", [pytest.param(b"{", id="no JSON"), pytest.param(b"[]", id="no object"), pytest.param(b"\xff", id="no text")]
)
def test_what_cannot_be_read_is_not_kept(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|object|unexpected|UTF-8"):
        redactor().line(text)


def test_a_body_that_is_nested_too_deep_is_not_kept() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        redactor().line(b'{"at": "x", "body": ' + b'{"a": [' * 480 + b"1" + b"]}" * 480 + b"}")


def test_another_key_makes_others_and_an_empty_value_stays() -> None:
    assert Pseudonyms(b"another key, as long as it is").of("x") != px("x")
    assert px("") == ""
    assert px("::1").startswith("px-")
    assert px("[::1]:80") == f"{px('::1')}:80"


@pytest.mark.parametrize("text", ["labels", "labels.", "label.x", "mail"])
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(Unusable, match="names nothing that can be redacted"):
        Rules.of([text], [])


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY.decode()}\n")
    assert key_of(file, "ignored") == KEY
    assert key_of(None, "") is None
    assert key_of(None, " sixteen bytes ok ") == b"sixteen bytes ok"
    assert any_key() != any_key()
    with pytest.raises(Unusable, match="has 5 bytes"):
        key_of(None, "short")
    file.write_text("short")
    with pytest.raises(Unusable, match="key has 5 bytes"):
        key_of(file, "")
    with pytest.raises(Unusable, match="openssl rand"):
        key_of(tmp_path / "none", "")


# -- the law ------------------------------------------------------------------------------------------------------

HOSTS = ("10.0.0.1:9100", "10.0.0.2:9100", "db-1", "db-2", "db", "web", "anna@example.com", "")


@st.composite
def recordings(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw webhooks in which a few alerts of a few hosts come and go.

    Texts name none of them, and other labels do not have them: words of texts, and a group that is named as the
    resource is, have a say in what belongs together.
    """
    found, seconds = [], 0
    alerts = st.tuples(
        st.sampled_from(["Down", "Slow", "Full"]),
        st.sampled_from(["db", "web", "pay"]),
        st.sampled_from(HOSTS),
        st.sampled_from(["eu-1", "10.0.0.3", "us-1", ""]),
        st.sampled_from(["firing", "firing", "resolved"]),
        st.sampled_from(["critical", "error", "warning"]),
    )
    bodies = st.tuples(st.sampled_from([0, 20, 150, 700]), st.booleans(), st.lists(alerts, min_size=1, max_size=3))
    for wait, grouped, listed in draw(st.lists(bodies, min_size=1, max_size=10)):
        seconds += wait
        cluster = listed[0][3]
        body: dict[str, Any] = {"version": "4", "groupKey": "{}:{}", "groupLabels": {}, "receiver": "x"}
        if grouped:
            body |= {"groupKey": f'{{}}:{{cluster="{cluster}"}}', "groupLabels": {"cluster": cluster}}
        body["alerts"] = [
            {
                "status": status,
                "labels": {"alertname": name, "service": service, "instance": host, "cluster": where, "severity": how},
                "annotations": {"summary": f"{name} of {service}"},
                "startsAt": "2026-03-01T12:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-03-01T12:00:01Z",
            }
            for name, service, host, where, status, how in listed
        ]
        minute, second = divmod(seconds, 60)
        hour, minute = divmod(minute, 60)
        found.append(
            {"at": f"2026-03-01T{12 + hour:02}:{minute:02}:{second:02}Z", "source": "alertmanager", "body": body}
        )
    return found


def outcome(lines: list[bytes]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a backtest decides, by index."""
    told: dict[str, list[dict[str, Any]]] = {"incidents": [], "decisions": [], "pages": []}

    class Lines:
        def write(self, name: str, line: dict[str, Any]) -> None:
            told[name].append(line)

    recording = Recording(Path("raw.jsonl"), io.BytesIO(b"\n".join(lines)))
    assert Replay(load(None), None, Lines()).run(traffic(recording, Tally()), (), lambda: False)
    opened = dict.fromkeys(each["incident_id"] for each in told["decisions"] if each["incident_id"])
    names = {name: number for number, name in enumerate(opened)}
    decided = ("at", "action", "p_page", "severity", "urgency", "category", "reason")
    return {
        "incidents": sorted(
            (names.get(each["incident_id"], -1), each["opened_at"], each["resolved_at"] or "", len(each["alerts"]))
            for each in told["incidents"]
        ),
        "decisions": [
            (names.get(each["incident_id"]), *(each[name] for name in decided)) for each in told["decisions"]
        ],
        # Timers of one moment fire in the order of incident ids, which are others.
        "pages": sorted(
            (each["at"], names[each["incident_id"]], each["body"]["event_action"]) for each in told["pages"]
        ),
    }


@given(recordings(), st.sampled_from(["", "labels.instance", "labels.instance,labels.cluster", "labels.*"]))
@settings(max_examples=25)
def test_a_backtest_of_what_is_scrubbed_decides_the_same(recorded: list[dict[str, Any]], redact: str) -> None:
    lines = [orjson.dumps(line) for line in recorded]
    assert outcome([redactor(redact).line(line) for line in lines]) == outcome(lines)


@given(st.lists(st.sampled_from([*HOSTS, "10.0.0.1", "px-0123456789abcdef", "a:1", "a:2"]) | st.text(max_size=8)))
def test_equal_values_stay_equal_and_others_different(values: list[str]) -> None:
    done = redactor("labels.x")
    redacted = [done.body({"labels": {"x": value}})["labels"]["x"] for value in values]
    assert [[a == b for a in redacted] for b in redacted] == [[a == b for a in values] for b in values]
