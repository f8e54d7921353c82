"""Traces decide nothing: with them and without, the log holds the same and the rows are the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings

from streamproc.core.record import Record
from streamproc.core.trace import TRACEPARENT, Trace
from streamproc.ports import Entry
from streamproc.runtime.memory import Memory
from tests.laws.crash import CrashAt, Point, Push, Rig, Script
from tests.laws.real_world import A_BAD_DAY, REAL_WORLD, scripts

FEW = settings(max_examples=max(2, settings().max_examples // 5))
HEADERS = (
    b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    b"garbage",
)
KEPT = re.compile(rb',"traceparent":"[^"]*"')
"""In an intent for its sender, in a dead letter for its retry."""


def with_traces(script: Script) -> Script:
    """Return the script with a trace, one that nobody wants, or garbage, in what edges append."""

    def traced(act: Push, header: bytes) -> Push:
        def entries(memory: Memory) -> Sequence[Entry]:
            return [replace(entry, headers={**entry.headers, TRACEPARENT: header}) for entry in act.entries(memory)]

        return Push(entries)

    return [traced(act, HEADERS[at % len(HEADERS)]) if isinstance(act, Push) else act for at, act in enumerate(script)]


def logged(rig: Rig) -> dict[tuple[str, int], list[tuple[bytes, bytes, dict[str, bytes]]]]:
    def bare(record: Record) -> tuple[bytes, bytes, dict[str, bytes]]:
        headers = {name: text for name, text in record.headers.items() if name != TRACEPARENT}
        return record.key, KEPT.sub(b"", record.value), headers

    return {place: [bare(record) for record in records] for place, records in rig.journal.logs.items()}


def rows(rig: Rig) -> dict[object, object]:
    """Return all rows, without the trace that an intent keeps for its sender."""
    return {
        (place, address): KEPT.sub(b"", raw)
        for place, kept in rig.journal.rows.items()
        for address, raw in kept.items()
    }


def check_same(script: Script, traced: Rig) -> None:
    plain = Rig(REAL_WORLD).play(script)
    assert logged(traced) == logged(plain)
    assert rows(traced) == rows(plain)
    assert traced.journal.positions == plain.journal.positions


def test_a_bad_day_is_the_same_with_traces() -> None:
    traced = Rig(REAL_WORLD).play(with_traces(A_BAD_DAY))
    check_same(A_BAD_DAY, traced)
    pages = [record.headers.get(TRACEPARENT, b"") for record in traced.memory.records("escalations")]
    assert any(header[3:35] == HEADERS[0][3:35] for header in pages)


@FEW
@given(scripts(8))
def test_any_day_is_the_same_with_traces(script: Script) -> None:
    check_same(script, Rig(REAL_WORLD).play(with_traces(script)))


def test_a_crash_changes_no_span_id() -> None:
    def spans(rig: Rig) -> list[bytes]:
        return [record.headers.get(TRACEPARENT, b"") for records in rig.journal.logs.values() for record in records]

    script = with_traces(A_BAD_DAY)
    plain, crashed = Rig(REAL_WORLD).play(script), Rig(REAL_WORLD, CrashAt(9, Point.BEFORE)).play(script)
    assert crashed.crashes == 1
    assert spans(crashed) == spans(plain)


def test_whoever_continues_a_trace_names_a_span_of_it() -> None:
    traced = Rig(REAL_WORLD).play(with_traces(A_BAD_DAY))
    ids = {
        record.headers[TRACEPARENT]
        for record in traced.memory.records("alerts")
        if TRACEPARENT in record.headers and record.headers["type"] == b"alert.v1"
    }
    derived = {
        Trace(HEADERS[0][3:35].decode(), HEADERS[0][36:52].decode()).derive(record.origin, "normalise").header()
        for record in traced.memory.records("alerts.raw")
        if record.headers.get(TRACEPARENT) == HEADERS[0]
    }
    assert derived & ids
    assert ids <= derived | {HEADERS[1]}
