"""What Prometheus remembers of its alerts, as webhooks; one test asks a real Prometheus."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from typer.testing import CliRunner

from streamproc.backtest.prometheus import POINTS, REPEAT, History, fingerprint
from streamproc.backtest.reading import Line, Tally
from streamproc.cli import app
from streamproc.core.errors import StreamprocError, Transient, Unusable
from tests.backtest.recording import Backtested
from tests.kafka.broker import free_ports

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DOWN = {"alertname": "Down", "service": "db", "severity": "critical"}
SLOW = {"alertname": "Slow", "service": "web", "severity": "warning"}
READY_WITHIN = 30.0
Spans = list[tuple[Mapping[str, str], float, float, float]]
"""Labels, and in minutes: first and last sample that fires, and when the rule began to hold."""


def at(minutes: float) -> datetime:
    return T0 + minutes * MINUTE


class Fake:
    """Answers as Prometheus does, of some alerts."""

    def __init__(self, spans: Spans, rules: list[dict[str, Any]] | None = None) -> None:
        self.spans = spans
        self.rules = rules
        self.asked: list[tuple[str, datetime, datetime]] = []
        self.largest = 1_000_000.0
        """Points that it answers at most."""
        self.warnings: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/rules"):
            if self.rules is None:
                return httpx.Response(404, text="404 page not found")
            return httpx.Response(200, json={"status": "success", "data": {"groups": [{"rules": self.rules}]}})
        told = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        begin, end, step = float(told["start"]), float(told["end"]), float(told["step"])
        self.asked.append((told["query"], datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)))
        if (end - begin) / step + 1 > self.largest:
            return httpx.Response(
                422, json={"status": "error", "error": "query processing would load too many samples"}
            )
        moments = [begin + n * step for n in range(int((end - begin) / step) + 1)]
        series: dict[str, dict[str, Any]] = {}
        for each in (self._series(told["query"], span, moments) for span in self.spans):
            series.setdefault(json.dumps(each["metric"]), {**each, "values": []})["values"] += each["values"]
        found = [each for each in series.values() if each["values"]]
        answer = {"status": "success", "data": {"resultType": "matrix", "result": found}, "warnings": self.warnings}
        return httpx.Response(200, json=answer)

    def _series(self, query: str, span: tuple[Any, ...], moments: list[float]) -> dict[str, Any]:
        labels, first, last, began = span
        for_state = query == "ALERTS_FOR_STATE"
        held = [
            each for each in moments if at(began if for_state else first).timestamp() <= each <= at(last).timestamp()
        ]
        more = {"__name__": query.partition("{")[0]} | ({} if for_state else {"alertstate": "firing"})
        value = str(at(began).timestamp()) if for_state else "1"
        return {"metric": {**more, **labels}, "values": [[each, value] for each in held]}


def history(
    handler: Callable[[httpx.Request], httpx.Response],
    *,
    minutes: float = 60,
    step: timedelta = MINUTE,
    url: str = "http://prometheus:9090",
) -> History:
    return History(url, T0, at(minutes), step, httpx.MockTransport(handler))


def lines(asked: History, notes: list[str] | None = None) -> list[Line]:
    with asked:
        return list(asked.lines(Tally(), [] if notes is None else notes))


def told(found: list[Line]) -> list[tuple[float, str, str]]:
    """Return minute, status and name of every alert of every webhook."""
    return [
        ((one.at - T0) / MINUTE, alert["status"], alert["labels"]["alertname"])
        for one in found
        for alert in json.loads(one.body)["alerts"]
    ]


def test_an_alert_is_notified_when_it_begins_and_when_it_ends() -> None:
    fake = Fake([(DOWN, 5, 9, 3), (SLOW, 20, 60, 20)], [{"name": "Down", "type": "alerting", "duration": 90}])
    found = lines(history(fake))
    assert told(found) == [(5, "firing", "Down"), (10, "resolved", "Down"), (20, "firing", "Slow")]
    body = json.loads(found[0].body)
    assert body["groupLabels"] == {"alertname": "Down"}
    assert body["alerts"] == [
        {
            "status": "firing",
            "labels": DOWN,
            "annotations": {},
            "startsAt": "2026-03-01T12:04:30.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": fingerprint(tuple(sorted(DOWN.items()))),
        }
    ]
    assert json.loads(found[1].body)["alerts"][0]["endsAt"] == "2026-03-01T12:10:00.000Z"
    assert [one.source for one in found] == ["alertmanager"] * 3


def test_alerts_of_a_name_that_change_together_are_one_notification() -> None:
    found = lines(history(Fake([(DOWN, 5, 9, 5), ({**DOWN, "service": "web"}, 5, 60, 5), (SLOW, 5, 60, 5)])))
    sizes = [len(json.loads(one.body)["alerts"]) for one in found]
    assert (sizes, [(one.at - T0) / MINUTE for one in found]) == ([2, 1, 1], [5, 5, 10])


def test_what_lasts_is_notified_every_four_hours_so_that_it_is_not_forgotten() -> None:
    found = lines(history(Fake([(DOWN, 0, 9 * 60, 0)]), minutes=10 * 60))
    assert told(found) == [
        (0, "firing", "Down"),
        (REPEAT / MINUTE, "firing", "Down"),
        (2 * REPEAT / MINUTE, "firing", "Down"),
        (541, "resolved", "Down"),
    ]


def test_what_ended_and_began_again_between_two_looks_is_another_occurrence() -> None:
    found = lines(history(Fake([(DOWN, 5, 9, 4), (DOWN, 10, 60, 9.5)])))
    assert told(found) == [(5, "firing", "Down"), (10, "resolved", "Down"), (10, "firing", "Down")]
    starts = [each["startsAt"] for one in found for each in json.loads(one.body)["alerts"]]
    assert starts == ["2026-03-01T12:04:00.000Z", "2026-03-01T12:04:00.000Z", "2026-03-01T12:09:30.000Z"]


def test_what_fired_before_the_beginning_keeps_its_start() -> None:
    (first, *_) = lines(history(Fake([(DOWN, -100, 9, -120)])))
    assert (first.at, json.loads(first.body)["alerts"][0]["startsAt"]) == (T0, "2026-03-01T10:00:00.000Z")


def test_stretches_are_within_what_prometheus_answers_and_leave_nothing_out() -> None:
    fake = Fake([(DOWN, 0, 3 * 1440, 0)])
    found = lines(history(fake, minutes=3 * 1440))
    assert len(found) == 1 + 3 * 6
    firing = [(begin, end) for query, begin, end in fake.asked if query.startswith("ALERTS{")]
    assert [begin - end for (_, end), (begin, _) in pairwise(firing)] == [MINUTE] * 3
    fine = Fake([(DOWN, 0, 600, 0)])
    lines(history(fine, minutes=600, step=timedelta(seconds=1)))
    assert max((end - begin).total_seconds() for _, begin, end in fine.asked) == POINTS - 1


def test_a_stretch_that_is_too_much_is_asked_for_in_halves() -> None:
    fake, small = Fake([(DOWN, 5, 9, 3)]), Fake([(DOWN, 5, 9, 3)])
    small.largest = 20
    assert lines(history(small)) == lines(history(fake))
    assert len(small.asked) > len(fake.asked)


def test_annotations_are_those_of_the_rules_without_templates() -> None:
    texts = {"summary": "It is down", "description": "{{ $labels.x }} is down", "runbook_url": "http://r", "team": "x"}
    rules: list[dict[str, Any]] = [
        {"name": "Down", "type": "alerting", "duration": 0, "annotations": texts},
        {"name": "Slow", "type": "alerting", "duration": 0, "annotations": {"summary": "a"}},
        {"name": "Slow", "type": "alerting", "duration": 60, "annotations": {"summary": "b"}},
        {"name": "sum", "type": "recording"},
    ]
    notes: list[str] = []
    found = lines(history(Fake([(DOWN, 5, 9, 5), (SLOW, 6, 9, 6)], rules)), notes)
    annotations = [json.loads(one.body)["alerts"][0]["annotations"] for one in found[:2]]
    assert annotations == [{"summary": "It is down", "runbook_url": "http://r"}, {}]
    assert [note[:32] for note in notes] == ["Annotations are those of today's"]


def test_warnings_and_missing_rules_are_told_once() -> None:
    fake, notes = Fake([(DOWN, 5, 9, 5)]), list[str]()
    fake.warnings = ["a store is away"]
    lines(history(fake), notes)
    assert notes == [
        "Its rules cannot be read, so that alerts have no annotations.",
        "Prometheus warns: a store is away",
    ]


def test_without_the_second_series_starts_are_when_it_was_first_seen() -> None:
    fake = Fake([(DOWN, 5, 9, 3)])

    def only_firing(request: httpx.Request) -> httpx.Response:
        if b"FOR_STATE" in request.content:
            return httpx.Response(200, json={"status": "success", "data": {"result": []}})
        return fake(request)

    assert json.loads(lines(history(only_firing))[0].body)["alerts"][0]["startsAt"] == "2026-03-01T12:05:00.000Z"


def test_credentials_stand_in_the_address_and_nowhere_else() -> None:
    seen: list[httpx.Request] = []

    def refuses(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(401, text="Unauthorized")

    with pytest.raises(Unusable, match="answers 401: put user:password@") as refused:
        lines(history(refuses, url="http://ann:secret@prometheus:9090/path/"))
    assert "secret" not in str(refused.value)
    assert {(each.url.path, each.headers["Authorization"][:6]) for each in seen} == {
        ("/path/api/v1/rules", "Basic "),
        ("/path/api/v1/query_range", "Basic "),
    }


def test_a_proxy_that_takes_no_post_is_asked_by_get() -> None:
    fake = Fake([(DOWN, 5, 9, 5)])

    def only_get(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(405)
        return fake(httpx.Request("POST", request.url.copy_with(query=None), content=request.url.query))

    assert len(lines(history(only_get))) == 2


def timed_out(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("too slow", request=request)


def broken_off(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body", request=request)


def answers(status: int, **what: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, **what)


@pytest.mark.parametrize(
    ("handler", "kind", "said"),
    [
        pytest.param(answers(403), Unusable, "answers 403: put user", id="forbidden"),
        pytest.param(answers(422, json={"status": "error", "error": "too many"}), Transient, "HTTP 422", id="422"),
        pytest.param(answers(503, text="busy"), Transient, "for so much at once: HTTP 503", id="no answer now"),
        pytest.param(answers(400, json={"status": "error", "error": "what"}), Unusable, "400.: what", id="refused"),
        pytest.param(answers(200, text="<html>"), Unusable, "no Prometheus answers at", id="something else"),
        pytest.param(answers(200, text='{"status": "succ'), Unusable, "and no JSON", id="cut off"),
        pytest.param(answers(200, json=[1]), Unusable, "refuses .HTTP 200.", id="other JSON"),
        pytest.param(
            answers(200, json={"status": "success", "data": {"result": [{"metric": {}}]}}),
            Unusable,
            "no range of samples",
            id="other data",
        ),
        pytest.param(
            answers(200, json={"status": "success", "data": {"result": []}}), Unusable, "remembers no", id="nothing"
        ),
        pytest.param(timed_out, Transient, "no answer within 60 s; try a longer --step", id="timeout"),
        pytest.param(broken_off, Transient, "cannot be reached: peer closed", id="broken off"),
    ],
)
def test_faults_are_told_in_one_line(
    handler: Callable[[httpx.Request], httpx.Response], kind: type[StreamprocError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        lines(history(handler))


@pytest.mark.parametrize(
    ("url", "step", "said"),
    [
        pytest.param("http://", MINUTE, "is no address", id="no host"),
        pytest.param("http://a:b:c", MINUTE, "is no address", id="no address"),
        pytest.param("http://prometheus:9090", timedelta(0), "a second at the least", id="no step"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(url: str, step: timedelta, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        History(url, T0, at(1), step)


def test_fingerprints_are_those_of_alertmanager() -> None:
    """As Alertmanager 0.25 told them by /api/v2/alerts."""
    assert fingerprint(tuple(sorted(DOWN.items()))) == "113264ec69255a85"
    assert fingerprint((("alertname", "Sättigung"), ("job", 'a="b"'))) == "96cf1bcf90db7bff"


# -- a real one ------------------------------------------------------------------------------------------------------


@contextmanager
def prometheus(folder: Path, spans: Spans) -> Iterator[str]:
    """Run a Prometheus that remembers some alerts, a sample a minute."""
    text = ["# TYPE ALERTS gauge", *samples(spans, for_state=False)]
    text += ["# TYPE ALERTS_FOR_STATE gauge", *samples(spans, for_state=True), "# EOF", ""]
    (folder / "samples.txt").write_text("\n".join(text))
    rule = {"alert": "Down", "expr": "vector(0) > 1", "for": "2m", "annotations": {"summary": "The database is down"}}
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    (folder / "prometheus.yml").write_text(json.dumps({"rule_files": ["rules.yml"]}))
    made = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "samples.txt", "tsdb"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True)  # noqa: S603  a tool of the system
    port = free_ports(1)
    options = [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.path=tsdb", "--query.lookback-delta=30s"]
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.retention.time=100y", *options]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:  # noqa: S603
        try:
            until = time.monotonic() + READY_WITHIN
            while not ready(port):
                assert time.monotonic() < until, (folder / "log").read_text()
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def samples(spans: Spans, *, for_state: bool) -> list[str]:
    found = []
    for labels, first, last, began in spans:
        pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
        name = f"ALERTS_FOR_STATE{{{pairs}}}" if for_state else f'ALERTS{{alertstate="firing",{pairs}}}'
        value = at(began).timestamp() if for_state else 1
        moments = range(int(began if for_state else first), int(last) + 1)
        found += [f"{name} {value} {at(minute).timestamp()}" for minute in moments]
    return found


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready").is_success
    except httpx.TransportError:
        return False


@pytest.mark.skipif(not (shutil.which("prometheus") and shutil.which("promtool")), reason="no Prometheus here")
def test_a_real_prometheus_is_backtested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAGERDUTY_ROUTING_KEY", raising=False)
    with prometheus(tmp_path, [(DOWN, 5, 9, 3), (SLOW, 20, 90, 20)]) as url:
        window = ["--from", T0.isoformat(), "--to", at(120).isoformat()]
        options = ["--output", "output", *window]
        result = CliRunner().invoke(app, ["backtest", "--input", url, *options])
        done = Backtested(result, tmp_path / "output")
        assert result.exit_code == 0, result.output
        none = ["--from", at(-90).isoformat(), "--to", at(-60).isoformat()]
        empty = CliRunner().invoke(app, ["backtest", "--input", url, "--output", "none", *none])
    assert (empty.exit_code, "remembers no alert" in empty.stderr) == (2, True)
    trigger, resolve = done.lines("pages")
    assert (trigger["at"][11:16], resolve["at"][11:16]) == ("12:05", "12:10")
    assert trigger["body"]["payload"]["summary"] == "db: The database is down"
    assert done.report["funnel"]["incidents"] == 2
    assert done.report["notes"][0].startswith("Annotations are those of today's rules")
    (down, _) = done.lines("incidents")
    assert down["alerts"] == [f"{fingerprint(tuple(sorted(DOWN.items())))}@2026-03-01T12:05:00.000Z"]
