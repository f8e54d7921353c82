from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from streamproc.core.errors import Defect, Rejected, StreamprocError, Transient, Unusable
from streamproc.core.event import Activated, Artifact, DeadLetter, Event, Wake, iso
from streamproc.core.record import EMPTY, Record
from tests.support.toy import Line

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SUM = "ab" * 32


def test_bytes_of_a_dead_letter_survive_whatever_they_are() -> None:
    letter = DeadLetter(reason="r", detail="d", topic="alerts", partition=1, offset=2, part=3, value=bytes(range(256)))
    assert DeadLetter.decode(letter.encode(), EMPTY) == letter
    assert letter.letter_id == "alerts:1:2:3"


def test_an_artifact_is_known_by_kind_version_and_checksum() -> None:
    assert Artifact(kind="config", version=2, checksum=SUM, body="{}").artifact_id == f"config/2/{SUM}"


@pytest.mark.parametrize(
    ("version", "checksum"),
    [
        pytest.param(0, SUM, id="version 0"),
        pytest.param(1, "AB" * 32, id="capitals"),
        pytest.param(1, "ab", id="short"),
    ],
)
def test_an_activation_is_checked(version: int, checksum: str) -> None:
    with pytest.raises(ValidationError):
        Activated(kind="config", version=version, checksum=checksum)


def test_an_event_ignores_what_a_newer_writer_adds_and_is_frozen() -> None:
    line = Line.decode(b'{"sender": "ann", "text": "x", "mood": "good"}', EMPTY)
    assert line == Line(sender="ann", text="x")
    with pytest.raises(ValidationError):
        line.text = "y"  # type: ignore[misc]  # that is what is tested


@pytest.mark.parametrize(
    "update",
    [
        pytest.param(None, id="nothing"),
        pytest.param({}, id="no fields"),
        pytest.param({"detail": "other", "headers": {"b": "2"}}, id="some fields"),
    ],
)
def test_a_copy_is_what_pydantic_would_make(update: dict[str, object] | None) -> None:
    letter = DeadLetter(reason="r", detail="d", headers={"a": "1"})
    before = letter.model_dump()
    copied = letter.model_copy(update=update)
    assert copied == BaseModel.model_copy(letter, update=update)
    assert copied.encode() == BaseModel.model_copy(letter, update=update).encode()
    assert (type(copied), letter.model_dump()) == (DeadLetter, before)
    with pytest.raises(ValidationError):
        copied.reason = "s"  # type: ignore[misc]  # that is what is tested


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"table": "t", "key": "k", "due": T0}, id="defaults are filled in"),
        pytest.param({"fired": T0, "forced": True, "due": T0, "key": "k", "table": "t"}, id="in another order"),
    ],
)
def test_a_trusted_model_is_what_a_validated_one_would_be(values: dict[str, Any]) -> None:
    trusted, validated = Wake.trusted(**values), Wake(**values)
    assert trusted == validated
    assert trusted.encode() == validated.encode()
    assert trusted.model_fields_set == validated.model_fields_set
    assert trusted.model_copy(update={"forced": False}) == validated.model_copy(update={"forced": False})


def test_a_deep_copy_shares_nothing() -> None:
    letter = DeadLetter(reason="r", detail="d", headers={"a": "1"})
    copied = letter.model_copy(deep=True)
    assert copied == letter
    assert copied.headers is not letter.headers


def test_an_event_has_no_headers_of_its_own_unless_it_says_so() -> None:
    assert Event.extra_headers(Line(sender="", text="")) == {}


def test_moments_in_headers_keep_their_microseconds() -> None:
    assert iso(T0) == b"2026-03-01T12:00:00.000000+00:00"


def test_a_record_says_where_it_stands() -> None:
    assert Record("alerts", 3, 14, b"", T0).origin == "alerts/3/14"


def test_the_exception_tree() -> None:
    raised = [Rejected("word", "message"), Transient("message", 2.5), Unusable("message"), Defect("message")]
    assert all(isinstance(error, StreamprocError) for error in raised)
    assert all(str(error) == "message" for error in raised)
    assert raised[0].reason == "word"  # type: ignore[attr-defined]  # the first is a Rejected
    assert raised[1].retry_after == 2.5  # type: ignore[attr-defined]  # the second is a Transient
    assert Transient("message").retry_after is None
