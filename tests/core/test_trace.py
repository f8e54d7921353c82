"""`traceparent` as W3C has it, and spans that follow from the log."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streamproc.core.record import Record
from streamproc.core.trace import Trace, follow, parse
from streamproc.events.escalation import Escalation, PageAction

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAID = Escalation(
    incident_id="in:v1:prod:1",
    scope="prod",
    destination="default",
    routing_key="0" * 32,
    dedup_key="in:v1:prod:1",
    action=PageAction.TRIGGER,
    seq=1,
    at=T0,
)


def record(header: bytes | None, offset: int = 0) -> Record:
    return Record("alerts", 0, offset, b"", T0, b"", {} if header is None else {"traceparent": header})


@pytest.mark.parametrize(
    ("header", "said"),
    [
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-01", Trace(TRACE_ID, SPAN_ID), id="sampled"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-00", Trace(TRACE_ID, SPAN_ID, sampled=False), id="not sampled"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-03", Trace(TRACE_ID, SPAN_ID), id="sampled, of a random trace id"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-02", Trace(TRACE_ID, SPAN_ID, sampled=False), id="a random id only"),
        pytest.param(f"cc-{TRACE_ID}-{SPAN_ID}-01-what", Trace(TRACE_ID, SPAN_ID), id="a later version says more"),
        pytest.param(f"cc-{TRACE_ID}-{SPAN_ID}-01", Trace(TRACE_ID, SPAN_ID), id="a later version"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-01-what", None, id="this version says no more"),
        pytest.param(f"cc-{TRACE_ID}-{SPAN_ID}-01what", None, id="more without a dash"),
        pytest.param(f"ff-{TRACE_ID}-{SPAN_ID}-01", None, id="a version that will never be"),
        pytest.param(f"00-{'0' * 32}-{SPAN_ID}-01", None, id="no trace"),
        pytest.param(f"00-{TRACE_ID}-{'0' * 16}-01", None, id="no span"),
        pytest.param(f"00-{TRACE_ID.upper()}-{SPAN_ID}-01", None, id="upper case"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}", None, id="without flags"),
        pytest.param(f" 00-{TRACE_ID}-{SPAN_ID}-01", None, id="a blank before"),
        pytest.param(f"cc-{TRACE_ID}-{SPAN_ID}-01-{'x' * 9000}", None, id="endless"),
        pytest.param("", None, id="empty"),
        pytest.param("\xff" * 55, None, id="bytes"),
    ],
)
def test_a_header_is_read_as_w3c_says_or_ignored(header: str, said: Trace | None) -> None:
    assert parse(header.encode("latin-1")) == said


@pytest.mark.parametrize("flags", [pytest.param("01", id="sampled"), pytest.param("00", id="not sampled")])
def test_a_header_that_is_written_is_the_one_that_was_read(flags: str) -> None:
    header = f"00-{TRACE_ID}-{SPAN_ID}-{flags}".encode()
    read = parse(header)
    assert read is not None
    assert read.header() == header


def test_the_span_of_a_node_is_the_same_whenever_it_is_derived() -> None:
    first, again = (follow(record(Trace(TRACE_ID, SPAN_ID).header()), "decide") for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.span == again.span == Trace(TRACE_ID, "ff7ac9e945609dc8")


def test_a_record_without_a_trace_is_not_followed() -> None:
    assert follow(record(None), "decide") is None
    assert follow(record(b"garbage"), "decide") is None


# -- what waits for the sender keeps its trace -------------------------------------------------------------------------


def test_an_escalation_keeps_the_trace_of_its_record_and_says_nothing_without_one() -> None:
    header = Trace(TRACE_ID, SPAN_ID).header()
    kept = Escalation.decode(SAID.encode(), {"traceparent": header})
    assert kept.traceparent == header.decode()
    assert Escalation.model_validate_json(kept.encode()) == kept
    assert b"traceparent" not in SAID.encode()


@pytest.mark.parametrize(
    "headers", [pytest.param({}, id="absent"), pytest.param({"traceparent": b"\xff" * 9}, id="garbage")]
)
def test_an_escalation_without_a_trace_is_as_it_was(headers: dict[str, bytes]) -> None:
    assert Escalation.decode(SAID.encode(), headers) == SAID
