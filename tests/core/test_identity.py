from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.identity import digest, fingerprint, given_fingerprint, incident_id, scope, scope_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
AWKWARD = st.sampled_from(["", "-", ":", "::", "%", "%3A", "~", "in:v1:", "a:b", "prod", "x" * 60, "é" * 30])
PARTS = st.lists(TEXTS | AWKWARD, min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("ab", "c"), ("a", "bc"), id="where the cut is"),
        pytest.param(("a",), ("a", ""), id="an empty part"),
        pytest.param(("1:a",), ("a",), id="what looks like a length"),
        pytest.param(("a", "b"), ("b", "a"), id="order"),
        pytest.param(("a1:b",), ("a", "b"), id="what looks like a separator"),
    ],
)
def test_digests_tell_apart(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert digest(*one) != digest(*other)


@given(st.lists(TEXTS, max_size=4), st.lists(TEXTS, max_size=4))
def test_digests_are_equal_only_for_equal_parts(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) is (one == other)


def test_a_digest_bears_any_text_of_python() -> None:
    assert digest("\ud800") != digest("?")


@given(st.dictionaries(TEXTS, TEXTS, max_size=6), st.randoms(use_true_random=False))
def test_a_fingerprint_does_not_depend_on_the_order_of_labels(labels: dict[str, str], random: object) -> None:
    shuffled = list(labels.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as object
    assert fingerprint("source", dict(shuffled)) == fingerprint("source", labels)


@given(st.dictionaries(TEXTS, TEXTS, max_size=4), st.dictionaries(TEXTS, TEXTS, max_size=4))
def test_a_fingerprint_is_equal_only_for_equal_labels(one: dict[str, str], other: dict[str, str]) -> None:
    assert (fingerprint("s", one) == fingerprint("s", other)) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"ab": "c"}, {"a": "bc"}, id="name and value"),
        pytest.param({"a": "b", "c": "d"}, {"a": "bcd"}, id="one label for two"),
        pytest.param({"a": ""}, {}, id="an empty label is a label"),
    ],
)
def test_fingerprints_tell_apart(one: dict[str, str], other: dict[str, str]) -> None:
    assert fingerprint("s", one) != fingerprint("s", other)


def test_a_fingerprint_is_of_its_source_and_says_its_version() -> None:
    made = fingerprint("alertmanager", {"alertname": "DiskFull"})
    # What `printf 12:alertmanager9:alertname8:DiskFull | sha256sum` says: it must never change.
    assert made == "fp:v1:e000a7ece86d5fb2869a1c66281358cd"
    assert made != fingerprint("datadog", {"alertname": "DiskFull"})


@pytest.mark.parametrize(
    ("text", "made"),
    [
        pytest.param("0123456789abcdef", "fp:v1:0123456789abcdef", id="Alertmanager's own"),
        pytest.param("0123456789ABCDEF", "fp:v1:0123456789abcdef", id="in capitals"),
        pytest.param("abcdef12", "fp:v1:abcdef12", id="shortest"),
        pytest.param("a" * 64, f"fp:v1:{'a' * 64}", id="longest"),
    ],
)
def test_a_fingerprint_that_the_producer_gives_is_kept(text: str, made: str) -> None:
    assert given_fingerprint("alertmanager", text) == made


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("abcdef1", id="too short"),
        pytest.param("a" * 65, id="too long"),
        pytest.param("disk full on db-1", id="prose"),
        pytest.param("0123456789abcdef\n", id="with a line break"),
    ],
)
def test_another_one_is_hashed(text: str) -> None:
    made = given_fingerprint("datadog", text)
    assert len(made) == len("fp:v1:") + 32
    assert text not in made
    assert made != given_fingerprint("generic", text)


@pytest.mark.parametrize(
    ("parts", "made"),
    [
        pytest.param(("prod", "eu-1"), "prod:eu-1", id="plain"),
        pytest.param(("prod", ""), "prod:-", id="an empty part"),
        pytest.param(("a:b", "c/d e"), "a%3Ab:c%2Fd%20e", id="separators are quoted"),
        pytest.param(("x" * 48,), "x" * 48, id="just short enough"),
        pytest.param(("x" * 49,), "x" * 39 + "~" + digest("x" * 49)[:8], id="cut and hashed"),
        pytest.param(("x" * 38 + ":" * 9,), "x" * 38 + "~" + digest("x" * 38 + ":" * 9)[:8], id="cut in an escape"),
    ],
)
def test_scopes(parts: tuple[str, ...], made: str) -> None:
    assert scope(*parts) == made


@given(PARTS)
def test_an_incident_id_carries_its_scope(parts: list[str]) -> None:
    made = scope(*parts)
    incident = incident_id(made, "fp:v1:abc", "2026-03-01T12:00:00+00:00")
    assert scope_of(incident) == made
    assert made.count(":") == len(parts) - 1
    assert incident.isascii()
    assert len(incident) <= 255


@given(TEXTS)
def test_an_incident_id_carries_any_scope(text: str) -> None:
    assert scope_of(incident_id(text, "m", "t")) == text


@given(TEXTS)
def test_no_text_makes_the_reader_of_ids_fail(text: str) -> None:
    found = scope_of(text)
    assert found is None or text.startswith("in:v1:")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("in:v1", id="no scope"),
        pytest.param("in:v1:prod", id="no hash"),
        pytest.param("in:v2:prod:eu:0", id="another version"),
        pytest.param("adopted:1:prod:eu", id="another kind"),
        pytest.param("Q2ABC", id="somebody else's"),
    ],
)
def test_what_is_no_incident_id(text: str) -> None:
    assert scope_of(text) is None


def test_incidents_differ_by_scope_member_and_start() -> None:
    made = {incident_id(scope_, member, starts) for scope_ in "ab" for member in "ab" for starts in "ab"}
    assert len(made) == 8
