"""Spans to a collector by OTLP over HTTP, in a thread of its own. The only module that knows OpenTelemetry.

Whoever adds a span never waits: the queue is bounded, and what does not fit is dropped and counted. So is what the
collector does not take: spans are worth less than what they tell of.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from prometheus_client import CollectorRegistry, Counter

from streamproc import __version__
from streamproc.core.trace import Attribute, Span, Trace
from streamproc.runtime.traces.config import PATH, Config

log = structlog.get_logger(__name__)

BATCH = 512
"""Spans of one request."""
EVERY = 1.0
"""Seconds that a span waits for others at most."""
END_WITHIN = 0.5
"""Seconds at the end for what still waits, and as many again for the request under way."""
RESULTS = ("exported", "failed", "dropped")
KINDS = {"server": api.SpanKind.SERVER, "consumer": api.SpanKind.CONSUMER, "client": api.SpanKind.CLIENT}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOW = 2**64 - 1
"""The bits of a trace id that decide about sampling, as in OpenTelemetry's own sampler by ratio: so all agree."""


class Exporter:
    """Takes spans and posts them.

    Args:
        config: how many may wait, and the share of traces that are wanted.
        endpoint: base address of the collector.
        instance: which process of the installation this is.
        registry: where metrics are kept.
    """

    def __init__(self, config: Config, endpoint: str, instance: str, registry: CollectorRegistry) -> None:
        # It says every failed attempt, for as long as the collector is away; ours says it once.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._below = round(config.ratio * (LOW + 1))
        self._host = urlsplit(endpoint).netloc.rpartition("@")[2]
        self._exporter = OTLPSpanExporter(endpoint + PATH)
        self._sdk = _Sdk(instance)
        self._queue: queue.Queue[Span] = queue.Queue(config.queue)
        self._wanted = threading.Event()
        self._stopping = False
        self._reached = True
        self._counted = counter(registry)
        self._thread = threading.Thread(target=self._work, name="streamproc-traces", daemon=True)
        self._thread.start()

    def samples(self, trace_id: str) -> bool:
        """Return whether spans of a trace that begins here are wanted."""
        return int(trace_id, 16) & LOW < self._below

    def add(self, span: Span) -> None:
        """Take a span, from any thread; never waits, never fails."""
        try:
            self._queue.put_nowait(span)
        except queue.Full:
            self._counted.labels("dropped").inc()
            return
        if self._queue.qsize() >= BATCH:
            self._wanted.set()

    def close(self) -> None:
        """Post what waits, within twice `END_WITHIN` seconds; what is left then is dropped."""
        self._stopping = True
        self._wanted.set()
        self._thread.join(END_WITHIN)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # breaks off the pause before another attempt
        self._thread.join(END_WITHIN)
        self._counted.labels("dropped").inc(len(self._some(self._queue.qsize())))

    def _work(self) -> None:
        while True:
            self._wanted.wait(EVERY)
            self._wanted.clear()
            stopping = self._stopping
            while spans := self._some(BATCH):
                self._post(spans)
            if stopping:
                return

    def _some(self, most: int) -> list[Span]:
        found: list[Span] = []
        try:
            while len(found) < most:
                found.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return found

    def _post(self, spans: Sequence[Span]) -> None:
        taken = self._exporter.export(self._sdk.spans(spans)) is SpanExportResult.SUCCESS
        self._counted.labels("exported" if taken else "failed").inc(len(spans))
        if taken is self._reached:
            return
        self._reached = taken
        if taken:
            log.info("The collector takes spans again.", collector=self._host)
        else:
            log.warning("The collector takes no spans; nothing else depends on it.", collector=self._host)


def counter(registry: CollectorRegistry) -> Counter:
    """Return the counter of spans, all label sets from the start."""
    counted = Counter("streamproc_spans_total", "Spans, and what came of them.", ("result",), registry=registry)
    for result in RESULTS:
        counted.labels(result)
    return counted


class _Sdk(SpanProcessor):
    """Makes OpenTelemetry's spans of ours, which have their ids and times already. For one thread."""

    def __init__(self, instance: str) -> None:
        self._ids = _GivenIds()
        self._ended: list[ReadableSpan] = []
        resource = Resource.create(
            {"service.name": "streamproc", "service.version": __version__, "service.instance.id": instance}
        )
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        provider.add_span_processor(self)
        self._tracer = provider.get_tracer("streamproc", __version__)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span that is over."""
        self._ended.append(span)

    def spans(self, spans: Sequence[Span]) -> list[ReadableSpan]:
        """Return them as the exporter takes them."""
        for span in spans:
            self._make(span)
        ended, self._ended = self._ended, []
        return ended

    def _make(self, span: Span) -> None:
        self._ids.trace_id, self._ids.span_id = int(span.trace.trace_id, 16), int(span.trace.span_id, 16)
        made = self._tracer.start_span(
            span.name,
            api.set_span_in_context(api.NonRecordingSpan(_context(span.parent))),
            KINDS[span.kind],
            {name: value for name, value in span.attributes.items() if value is not None},
            start_time=_nanoseconds(span.start),
        )
        for moment in span.moments:
            figures: dict[str, Attribute] = {name: told for name, told in moment.attributes.items() if told is not None}
            made.add_event(moment.name, figures, _nanoseconds(moment.at))
        if span.error:
            made.set_status(api.StatusCode.ERROR, span.error)
        made.end(_nanoseconds(span.end))


class _GivenIds(IdGenerator):
    """Gives the ids that it is told."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        """Return the id of the trace."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Return the id of the span."""
        return self.span_id


def _context(parent: Trace | None) -> api.SpanContext:
    if parent is None:
        return api.INVALID_SPAN_CONTEXT
    flags = api.TraceFlags(api.TraceFlags.SAMPLED)
    return api.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)


def _nanoseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000
