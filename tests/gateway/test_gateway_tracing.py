"""Where traces begin: the span of an ingest request."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from streamproc.core.trace import Span, Trace, parse
from streamproc.gateway.app import build
from streamproc.gateway.config import GatewayConfig, hash_token
from streamproc.ports import Overloaded
from tests.gateway.gateway_fakes import ALERT, NOW, Stand

GENERIC = "/v1/ingest/generic"
CALLER = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


class Kept:
    def __init__(self, *, share: bool) -> None:
        self.share = share
        self.spans: list[Span] = []

    def samples(self, trace_id: str) -> bool:
        return self.share

    def add(self, span: Span) -> None:
        self.spans.append(span)


class Traced(Stand):
    def __init__(self, *, share: bool = True, **settings: object) -> None:
        super().__init__()
        self.traces = Kept(share=share)
        config = GatewayConfig.model_validate(settings)
        registry = CollectorRegistry()
        self.app = build(config, self.inlet, self.desk, registry, lambda: NOW, traces=self.traces)

    @property
    def carried(self) -> Trace | None:
        (entry,) = self.inlet.entries
        header = entry.headers.get("traceparent")
        return None if header is None else parse(header)


async def test_a_request_begins_a_trace_that_its_record_continues() -> None:
    stand = Traced()
    await stand.post(GENERIC, ALERT)
    (span,) = stand.traces.spans
    assert stand.carried == span.trace
    assert (span.name, span.kind, span.parent) == ("POST /v1/ingest/{source}", "server", None)
    assert span.attributes["http.response.status_code"] == 202
    assert span.attributes["streamproc.source"] == "generic"
    assert not span.error


async def test_two_requests_are_two_traces() -> None:
    stand = Traced()
    await stand.post(GENERIC, ALERT)
    await stand.post(GENERIC, ALERT)
    assert len({span.trace.trace_id for span in stand.traces.spans}) == 2


@pytest.mark.parametrize("share", [pytest.param(True, id="all"), pytest.param(False, id="of the share or not")])
async def test_a_request_joins_the_trace_of_its_sender(*, share: bool) -> None:
    stand = Traced(share=share)
    await stand.post(GENERIC, ALERT, traceparent=CALLER.header().decode())
    (span,) = stand.traces.spans
    assert span.parent == CALLER
    assert span.trace.trace_id == CALLER.trace_id
    assert span.trace.span_id != CALLER.span_id
    assert stand.carried == span.trace


async def test_a_trace_of_which_nobody_wants_spans_is_handed_on() -> None:
    stand = Traced()
    unwanted = Trace(CALLER.trace_id, CALLER.span_id, sampled=False)
    await stand.post(GENERIC, ALERT, traceparent=unwanted.header().decode())
    assert stand.traces.spans == []
    assert stand.carried == unwanted


async def test_what_is_not_of_the_share_has_no_trace() -> None:
    stand = Traced(share=False)
    await stand.post(GENERIC, ALERT)
    assert stand.traces.spans == []
    assert stand.carried is None


async def test_garbage_counts_as_absent() -> None:
    stand = Traced()
    await stand.post(GENERIC, ALERT, traceparent="garbage")
    (span,) = stand.traces.spans
    assert span.parent is None


async def test_a_request_that_cannot_be_taken_is_an_error() -> None:
    stand = Traced()
    stand.inlet.fails = Overloaded("full")
    await stand.post(GENERIC, ALERT)
    (span,) = stand.traces.spans
    assert span.attributes["http.response.status_code"] == 503
    assert span.error == "answered 503"


async def test_a_body_that_is_refused_is_none() -> None:
    stand = Traced()
    await stand.post(GENERIC, b"{")
    (span,) = stand.traces.spans
    assert span.attributes["http.response.status_code"] == 400
    assert not span.error


async def test_strangers_make_no_spans() -> None:
    stand = Traced(ingest_tokens=(hash_token("t" * 32),))
    await stand.post(GENERIC, ALERT)
    await stand.post("/v1/ingest/nobody", ALERT, authorization=f"Bearer {'t' * 32}")
    await stand.send("GET", GENERIC)
    assert stand.traces.spans == []
