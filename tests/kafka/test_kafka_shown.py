"""What a worker shows beside its group offsets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.runtime.faust.shown import Shown, read_shown, shown_text

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_words_are_compact() -> None:
    text = shown_text(Shown(T0, 12, ready=True, worker="w-1"))
    assert text == '{"now":"2026-03-01T12:00:00.000000+00:00","rows":12,"ready":true,"worker":"w-1"}'


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 2**62), st.booleans(), st.text(max_size=20))
def test_what_is_shown_reads_back(now: datetime, rows: int, ready: bool, worker: str) -> None:  # noqa: FBT001  drawn
    shown = Shown(now, rows, ready, worker)
    assert read_shown(shown_text(shown)) == shown


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [
        pytest.param("2026-03-01T12:00:00+00:00", Shown(T0), id="a worker of before: a plain stamp"),
        pytest.param('{"now":"2026-03-01T12:00:00Z"}', Shown(T0), id="less than we tell"),
        pytest.param('{"now":"2026-03-01T12:00:00Z","rows":1,"more":2}', Shown(T0, 1), id="more than we tell"),
        pytest.param("", Shown(), id="nothing: the offset was set by a tool"),
        pytest.param("by hand", Shown(), id="the words of somebody else"),
        pytest.param("{", Shown(), id="no JSON"),
        pytest.param('{"rows":1}', Shown(), id="no stamp"),
        pytest.param('{"now":1}', Shown(), id="a stamp that is none"),
        pytest.param("2026-03-01T12:00:00", Shown(), id="a stamp without an offset"),
        pytest.param('{"now":"2026-03-01T12:00:00Z","rows":"1"}', Shown(), id="rows that are no number"),
        pytest.param('{"now":"2026-03-01T12:00:00Z","worker":1}', Shown(), id="a worker that is no name"),
    ],
)
def test_other_words_are_read_too(metadata: str, shown: Shown) -> None:
    assert read_shown(metadata) == shown
