"""Spans of nodes and of requests, and the way to a collector: bounded, counted, never waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from streamproc.core.event import Wake
from streamproc.core.fold import Folded
from streamproc.core.record import Position, Record
from streamproc.core.trace import Decision, Followed, Moment, Span, Trace
from streamproc.events.escalation import Escalation, Verdict
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.latency import NodeLatency
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.runtime.sensors import Sensors
from streamproc.runtime.traces.config import Config
from streamproc.runtime.traces.exporting import exporting
from streamproc.runtime.traces.folding import SpanSensor, node_span
from streamproc.runtime.traces.otlp import Exporter
from streamproc.runtime.traces.sending import SendSpan
from streamproc.topology import TOPOLOGY
from tests.support.collector import Collector, collecting
from tests.support.sending import Answer, World
from tests.support.toy import LETTERS, TOPICS, TOY, Line

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PARENT = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
PATIENCE = 60.0


class Kept:
    """Keeps spans; `share` says whether traces begin here."""

    def __init__(self, *, share: bool = True) -> None:
        self.share = share
        self.spans: list[Span] = []

    def samples(self, trace_id: str) -> bool:
        assert len(trace_id) == 32
        return self.share

    def add(self, span: Span) -> None:
        self.spans.append(span)


def record(stamp: datetime = T0) -> Record:
    return Record("alerts", 3, 17, b"", stamp, b"", {"traceparent": PARENT.header()})


def span(number: int = 1) -> Span:
    return Span("decide", "consumer", PARENT.derive(str(number)), PARENT, T0, T0 + SECOND, {"number": number})


# -- nodes -----------------------------------------------------------------------------------------------------------


def test_the_span_of_a_node_tells_what_it_decided_on_which_record() -> None:
    made = [Decision("count", "counted", True, {"count": 1}), Decision("gather", "lost", False, {})]
    followed = Followed(record(), PARENT, PARENT.derive("x"), made, "in:v1:prod:1")
    told = node_span("decide", followed, T0 + SECOND)
    assert (told.name, told.kind, told.trace, told.parent) == ("decide", "consumer", followed.span, PARENT)
    assert (told.start, told.end) == (T0, T0 + SECOND)
    assert told.attributes == {
        "streamproc.node": "decide",
        "streamproc.reasons": ("count/counted", "gather/lost"),
        "streamproc.incident_id": "in:v1:prod:1",
        "messaging.operation.type": "process",
        "messaging.destination.name": "alerts",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 17,
    }
    assert told.moments[0] == Moment("count/counted", T0 + SECOND, {"count": 1})
    assert told.error == "gather/lost"


def test_a_batch_without_traces_makes_no_spans() -> None:
    kept = Kept()
    SpanSensor(kept, ManualClock(T0)).folded("decide", 0, 1, Folded(Position(1, T0)), 0.1)
    assert kept.spans == []


def test_a_record_that_another_clock_stamped_later_makes_no_span_that_ends_before_it_starts() -> None:
    told = node_span("decide", Followed(record(T0 + SECOND), PARENT, PARENT.derive("x")), T0)
    assert (told.start, told.end) == (T0, T0)
    assert "streamproc.incident_id" not in told.attributes
    assert not told.error


def test_two_runs_over_the_same_log_make_the_same_spans() -> None:
    def play() -> list[Span]:
        kept, clock = Kept(), ManualClock(T0)
        memory = Memory(TOY, LETTERS, MemoryJournal(TOPICS), clock, sensor=SpanSensor(kept, clock))
        memory.put("lines", Line(sender="a", text="three"), "a")
        entry = Entry.of("lines", Line(sender="a", text="one two two ?"), "a")
        memory.append([replace(entry, headers={**entry.headers, "traceparent": PARENT.header()})])
        memory.run()
        return kept.spans

    first, again = play(), play()
    assert first == again
    assert len({one.trace.span_id for one in first}) == len(first) > 3
    ids = {one.trace.span_id for one in first}
    assert [one.parent.span_id in ids for one in first if one.parent] == [False, *[True] * (len(first) - 1)]


# -- requests --------------------------------------------------------------------------------------------------------


def said(traceparent: str = "") -> Escalation:
    return World().say("i1").model_copy(update={"traceparent": traceparent})


ANSWERED = Answer(Verdict.DELIVERED, 202, "", attempts=2)


def test_the_span_of_a_request_continues_the_trace_of_what_is_said() -> None:
    told = said(PARENT.header().decode())
    begun = SendSpan.begin(Kept(share=False), told, T0)
    assert begun is not None
    made = begun.end(ANSWERED, T0 + SECOND)
    assert (made.kind, made.parent, made.trace.trace_id) == ("client", PARENT, PARENT.trace_id)
    assert (made.start, made.end, made.error) == (T0, T0 + SECOND, "")
    assert made.attributes["http.response.status_code"] == 202
    assert made.attributes["streamproc.attempts"] == 2
    assert made.attributes["streamproc.incident_id"] == told.incident_id


def test_every_request_for_the_same_has_a_span_of_its_own() -> None:
    told = said(PARENT.header().decode())
    spans = {begun.trace.span_id for at in (T0, T0 + SECOND) if (begun := SendSpan.begin(Kept(), told, at))}
    assert len(spans) == 2


def test_an_answer_that_is_none_is_an_error() -> None:
    begun = SendSpan.begin(Kept(), said(PARENT.header().decode()), T0)
    assert begun is not None
    made = begun.end(Answer(Verdict.AGAIN, None, "", attempts=1), T0)
    assert made.error == "again"
    assert "http.response.status_code" not in made.attributes


def test_what_a_timer_decided_begins_a_trace_the_same_for_every_attempt() -> None:
    first, again = (SendSpan.begin(Kept(), said(), at) for at in (T0, T0 + SECOND))
    assert first is not None
    assert again is not None
    assert first.parent is None
    assert first.trace.trace_id == again.trace.trace_id
    assert first.trace.span_id != again.trace.span_id


@pytest.mark.parametrize(
    ("traces", "traceparent"),
    [
        pytest.param(None, PARENT.header().decode(), id="no traces are made"),
        pytest.param(Kept(), replace(PARENT, sampled=False).header().decode(), id="its sender wants none"),
        pytest.param(Kept(share=False), "", id="not of the share that begins here"),
    ],
)
def test_no_span_is_made_where_none_is_wanted(traces: Kept | None, traceparent: str) -> None:
    assert SendSpan.begin(traces, said(traceparent), T0) is None


async def test_the_sender_tells_of_its_requests_and_the_outcome_continues_them() -> None:
    world = World()
    world.traces = kept = Kept()
    await world.begin()
    await world.want(said(PARENT.header().decode()))
    await world.end()
    (sent,) = kept.spans
    assert sent.parent == PARENT
    assert world.log.traceparents == [sent.trace.header()]


async def test_a_sender_that_makes_no_spans_hands_the_trace_on() -> None:
    world = World()
    await world.begin()
    await world.want(said(PARENT.header().decode()), world.say("i2"))
    await world.end()
    assert sorted(map(str, world.log.traceparents)) == sorted([str(PARENT.header()), "None"])


# -- to a collector --------------------------------------------------------------------------------------------------


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


class Out:
    """An exporter and its figures."""

    def __init__(self, url: str, **settings: object) -> None:
        self.registry = CollectorRegistry()
        config = Config.model_validate({"endpoint": url, **settings})
        assert config.endpoint is not None
        self.exporter = Exporter(config, config.endpoint, "one", self.registry)

    def count(self, result: str) -> float:
        return self.registry.get_sample_value("streamproc_spans_total", {"result": result}) or 0.0


def wait(holds: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if holds():
            return
        waiting.wait(0.01)
    raise AssertionError("it never came")


def test_a_span_is_posted_as_it_is(collector: Collector) -> None:
    out = Out(collector.url)
    made = replace(
        span(),
        kind="client",
        attributes={"text": "a", "many": ("x", "y"), "absent": None},
        moments=(Moment("count/counted", T0, {"count": 1, "was": None}),),
        error="lost",
    )
    out.exporter.add(made)
    out.exporter.add(replace(span(2), parent=None))
    out.exporter.close()
    first, second = collector.spans
    assert (first.trace_id, first.span_id, first.parent_id) == (PARENT.trace_id, made.trace.span_id, PARENT.span_id)
    assert first.end - first.start == 10**9
    assert first.start == int(T0.timestamp()) * 10**9
    assert first.attributes == {"text": "a", "many": ("x", "y")}
    assert first.events == (("count/counted", {"count": 1}),)
    assert first.failed
    assert (second.parent_id, second.failed) == ("", False)
    assert [out.count(result) for result in ("exported", "failed", "dropped")] == [2, 0, 0]


def test_what_does_not_fit_is_dropped_and_counted(collector: Collector) -> None:
    collector.held.clear()
    out = Out(collector.url, queue=2)
    for number in range(50):
        out.exporter.add(span(number))
    wait(lambda: out.count("dropped") > 0)
    collector.held.set()
    out.exporter.close()
    assert out.count("exported") + out.count("dropped") == 50
    assert len(collector.spans) == out.count("exported") >= 2


def test_many_spans_are_posted_before_their_second_is_over(collector: Collector) -> None:
    out = Out(collector.url)
    for number in range(600):
        out.exporter.add(span(number))
    out.exporter.close()
    assert len(collector.spans) == 600
    assert len(collector.paths) >= 2, "a request has a bound"


def test_a_collector_that_refuses_is_counted_and_taken_up_again(collector: Collector) -> None:
    collector.status = 400
    out = Out(collector.url)
    out.exporter.add(span())
    wait(lambda: out.count("failed") == 1)
    collector.status = 200
    out.exporter.add(span(2))
    wait(lambda: out.count("exported") == 1)
    out.exporter.close()


def test_nobody_waits_for_a_collector_that_does_not_answer_at_the_end(collector: Collector) -> None:
    collector.held.clear()
    out = Out(collector.url)
    out.exporter.add(span())
    out.exporter.close()
    assert not collector.spans


@pytest.mark.parametrize(
    ("ratio", "low", "wanted"),
    [
        pytest.param(1.0, "f" * 16, True, id="all"),
        pytest.param(0.0, "0" * 16, False, id="none"),
        pytest.param(0.5, "7" + "f" * 15, True, id="just in half"),
        pytest.param(0.5, "8" + "0" * 15, False, id="just not in half"),
    ],
)
def test_the_share_is_by_trace_id(collector: Collector, ratio: float, low: str, wanted: bool) -> None:  # noqa: FBT001  a case
    out = Out(collector.url, ratio=ratio)
    assert out.exporter.samples("a" * 16 + low) is wanted
    out.exporter.close()


async def test_nothing_is_exported_without_an_endpoint() -> None:
    registry = CollectorRegistry()
    async with exporting(Config(), registry) as traces:
        assert traces is None
    assert not list(registry.collect())


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        pytest.param("http://127.0.0.1:4318", "http://127.0.0.1:4318", id="base"),
        pytest.param(" https://jaeger.example/otlp/ ", "https://jaeger.example/otlp", id="with a path"),
        pytest.param("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318", id="the whole address"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="none"),
    ],
)
def test_an_endpoint_is_taken(given: str | None, taken: str | None) -> None:
    assert Config(endpoint=given).endpoint == taken


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("127.0.0.1:4318", id="no scheme"),
        pytest.param("grpc://127.0.0.1:4317", id="gRPC"),
        pytest.param("http://", id="no host"),
        pytest.param("http://host:port", id="no port"),
        pytest.param("http://host:4318?x=1", id="a query"),
    ],
)
def test_an_endpoint_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="not the address of a collector"):
        Config(endpoint=given)


# -- the latency budget ----------------------------------------------------------------------------------------------


def test_the_latency_of_a_node_is_that_of_the_first_record_of_a_type() -> None:
    registry, clock = CollectorRegistry(), ManualClock(T0 + 5 * SECOND)
    sensor = Sensors(NodeLatency(TOPOLOGY, registry, clock))
    first = Record("episodes", 0, 0, b"", T0 + 3 * SECOND, b"", {"now": T0.isoformat().encode()})
    ahead = Record("episodes", 0, 1, b"", T0 + 9 * SECOND)
    folded = Folded(Position(2, T0), oldest={"episode.v1": first, "feedback.v1": ahead})
    sensor.folded("decide", 0, 2, folded, 0.1)

    def sums(event: str) -> tuple[float | None, ...]:
        labels = {"node": "decide", "event": event}
        names = ("streamproc_node_latency_seconds", "streamproc_node_share_seconds")
        return tuple(registry.get_sample_value(f"{name}_sum", labels) for name in names)

    assert sums("episode.v1") == (5.0, 2.0)
    assert sums("feedback.v1") == (0.0, 0.0)
    assert (
        registry.get_sample_value("streamproc_node_share_seconds_count", {"node": "decide", "event": Wake.TYPE}) is None
    )
