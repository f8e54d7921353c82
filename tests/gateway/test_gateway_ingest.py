"""POST /v1/ingest/{source}: what is taken, what is refused and how, and that nothing makes it fail."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.gateway.config import hash_token
from streamproc.ports import Entry, Overloaded
from tests.gateway.gateway_fakes import ALERT, Stand, reason_of

ALERTMANAGER = json.dumps(
    {
        "version": "4",
        "groupKey": '{}:{alertname="DiskFull"}',
        "status": "firing",
        "alerts": [
            {"status": "firing", "labels": {"alertname": "DiskFull", "n": str(n)}, "startsAt": "2026-11-22T10:00:00Z"}
            for n in range(3)
        ],
    }
).encode()
GENERIC = "/v1/ingest/generic"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_alerts_are_accepted_once_the_log_has_them() -> None:
    stand = Stand()
    answer = await stand.post("/v1/ingest/alertmanager", ALERTMANAGER, content_type="application/json")
    assert (answer.status_code, answer.json()) == (202, {"accepted": 3})
    headers = {"type": b"raw-alert.v1", "source": b"alertmanager"}
    assert stand.inlet.entries == [Entry("alerts.raw", b'{}:{alertname="DiskFull"}', ALERTMANAGER, headers)]
    assert stand.count("streamproc_http_requests_total", route="/v1/ingest/{source}", status="202") == 1
    assert stand.count("streamproc_ingest_alerts_total", source="alertmanager") == 3


async def test_the_answer_waits_for_the_log() -> None:
    stand = Stand()
    stand.inlet.released.clear()
    asking = asyncio.create_task(stand.post(GENERIC, ALERT))
    await stand.inlet.entered.wait()
    assert not asking.done()
    stand.inlet.released.set()
    assert (await asking).status_code == 202


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param({"traceparent": TRACE}, TRACE.encode(), id="kept"),
        pytest.param({"traceparent": "x" * 9000}, None, id="no trace context"),
        pytest.param({}, None, id="absent"),
    ],
)
async def test_traceparent_goes_into_the_record(sent: dict[str, str], kept: bytes | None) -> None:
    stand = Stand()
    await stand.post(GENERIC, ALERT, **sent)
    assert stand.inlet.entries[0].headers.get("traceparent") == kept


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no content type"),
        pytest.param({"content_type": "application/json; charset=utf-8"}, id="with parameters"),
        pytest.param({"content_type": "Application/JSON"}, id="upper case"),
        pytest.param({"content_type": "application/cloudevents+json"}, id="json suffix"),
        pytest.param({"content_type": "text/plain"}, id="text"),
        pytest.param({"content_type": "application/x-www-form-urlencoded"}, id="what curl -d says"),
        pytest.param({"content_encoding": "identity"}, id="identity"),
        pytest.param({"sec_fetch_site": "none"}, id="typed into a browser"),
        pytest.param({"origin": "http://localhost:8080", "sec_fetch_site": "same-origin"}, id="from our own page"),
        pytest.param({"host": "[::1]:9000"}, id="an address"),
        pytest.param({"host": "host.docker.internal:8080"}, id="a name of this machine"),
    ],
)
async def test_odd_senders_are_understood(headers: dict[str, str]) -> None:
    stand = Stand()
    assert (await stand.post(GENERIC, ALERT, **headers)).status_code == 202
    assert stand.inlet.entries[0].value == ALERT


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(gzip.compress(ALERT), id="one member"),
        pytest.param(gzip.compress(ALERT[:9]) + gzip.compress(ALERT[9:]), id="two members"),
    ],
)
async def test_gzip_is_unpacked(body: bytes) -> None:
    stand = Stand()
    assert (await stand.post(GENERIC, body, content_encoding="gzip")).status_code == 202
    assert stand.inlet.entries[0].value == ALERT


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        pytest.param(GENERIC, b"", {}, 400, "not_json", id="empty"),
        pytest.param(GENERIC, b"{", {}, 400, "not_json", id="cut JSON"),
        pytest.param(GENERIC, b"name=DiskFull", {}, 400, "not_json", id="a form"),
        pytest.param(GENERIC, b'"\xff"', {}, 400, "not_json", id="not UTF-8"),
        pytest.param(GENERIC, b"7", {}, 422, "wrong_shape", id="a number"),
        pytest.param("/v1/ingest/alertmanager", b'{"alerts": 1}', {}, 422, "wrong_shape", id="wrong envelope"),
        pytest.param(GENERIC, b" " * 2001, {}, 413, "too_large", id="too large"),
        pytest.param(GENERIC, b" " * 9000, {}, 413, "too_large", id="so large that it is not even read"),
        pytest.param(
            GENERIC, gzip.compress(b" " * 2001), {"content_encoding": "gzip"}, 413, "too_large", id="too large unpacked"
        ),
        pytest.param(GENERIC, ALERT, {"content_encoding": "gzip"}, 400, "broken_gzip", id="no gzip"),
        pytest.param(
            GENERIC, gzip.compress(ALERT)[:-9], {"content_encoding": "x-gzip"}, 400, "broken_gzip", id="cut gzip"
        ),
        pytest.param(GENERIC, ALERT, {"content_encoding": "br"}, 415, "content_encoding", id="brotli"),
        pytest.param(GENERIC, ALERT, {"content_type": "application/xml"}, 415, "content_type", id="XML"),
        pytest.param(GENERIC, ALERT, {"sec_fetch_site": "cross-site"}, 403, "cross_site", id="a foreign page"),
        pytest.param(GENERIC, ALERT, {"origin": "null"}, 403, "cross_site", id="a sandboxed page"),
        pytest.param(GENERIC, ALERT, {"host": "rebound.example.com"}, 403, "public_host", id="a rebound name"),
        pytest.param(GENERIC, ALERT, {"host": "[::1"}, 403, "public_host", id="a broken host"),
        pytest.param("/v1/ingest/nagios", ALERT, {}, 404, "unknown_source", id="unknown source"),
        pytest.param("/v1/ingest/", ALERT, {}, 404, "unknown_source", id="no source"),
    ],
)
async def test_bad_requests_say_what_is_wrong(
    path: str, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    stand = Stand(body_limit=2000)
    answer = await stand.post(path, body, **headers)
    assert (answer.status_code, reason_of(answer)) == (status, reason)
    assert stand.inlet.entries == []
    source = path.rpartition("/")[2]
    label = source if source in {"generic", "alertmanager"} else "unknown"
    assert stand.count("streamproc_http_rejected_total", source=label, reason=reason) == 1


async def test_only_post_is_understood() -> None:
    answer = await Stand().get(GENERIC)
    assert (answer.status_code, reason_of(answer), answer.headers["allow"]) == (405, "method_not_allowed", "POST")


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        pytest.param((ALERT[:5], b"", ALERT[5:]), 202, id="within the limit"),
        pytest.param((ALERT, b" " * 2000, ALERT), 413, id="too large, and read off"),
        pytest.param((b" " * 2000,) * 9, 413, id="endless, and cut off"),
    ],
)
async def test_a_body_in_pieces_is_limited_without_a_content_length(pieces: tuple[bytes, ...], status: int) -> None:
    stand = Stand(body_limit=2000)
    assert (await stand.post(GENERIC, _pieces(*pieces))).status_code == status


async def test_a_content_length_that_lies_is_not_believed() -> None:
    stand = Stand(body_limit=2000)
    answer = await stand.post(GENERIC, _pieces(b" " * 1500, b" " * 1500), content_length="10")
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


class Authorization:
    """Headers that carry the token `s3cret`, and some that do not."""

    BEARER = "Bearer s3cret"
    BASIC = "Basic " + base64.b64encode(b"anyone:s3cret").decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        pytest.param(Authorization.BEARER, 202, id="bearer"),
        pytest.param(Authorization.BEARER.replace("Bearer", "bearer "), 202, id="bearer, small and spaced"),
        pytest.param("Bearer older", 202, id="the other token of a rotation"),
        pytest.param(Authorization.BASIC, 202, id="as the password of Basic"),
        pytest.param("Bearer wrong", 401, id="wrong"),
        pytest.param("Bearer " + hash_token("s3cret"), 401, id="the hash is no token"),
        pytest.param("Basic !!", 401, id="broken Basic"),
        pytest.param("Digest s3cret", 401, id="another scheme"),
        pytest.param("", 401, id="empty"),
        pytest.param(None, 401, id="absent"),
    ],
)
async def test_tokens(authorization: str | None, status: int) -> None:
    stand = Stand(ingest_tokens=(hash_token("older"), hash_token("s3cret")))
    sent = {} if authorization is None else {"authorization": authorization}
    answer = await stand.post(GENERIC, ALERT, host="public.example.com", **sent)
    assert answer.status_code == status
    if status == 401:
        assert reason_of(answer) == "unauthorized"
        assert "Bearer" in answer.headers["www-authenticate"]
        assert stand.inlet.entries == []


async def test_a_token_in_the_query_is_no_token() -> None:
    stand = Stand(ingest_tokens=(hash_token("s3cret"),))
    assert (await stand.post(f"{GENERIC}?token=s3cret", ALERT)).status_code == 401


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        pytest.param(Overloaded("the log is full"), "5", id="no time named"),
        pytest.param(Overloaded("the log is full", 0.01), "1", id="at least a second"),
        pytest.param(Overloaded("the log is full", 2.2), "3", id="rounded up"),
    ],
)
async def test_backpressure_is_503_so_that_senders_repeat(error: Overloaded, retry_after: str) -> None:
    stand = Stand()
    stand.inlet.fails = error
    answer = await stand.post(GENERIC, ALERT)
    assert (answer.status_code, reason_of(answer)) == (503, "overloaded")
    assert answer.headers["retry-after"] == retry_after


async def test_a_log_that_does_not_answer_is_503() -> None:
    stand = Stand(append_timeout=0.01)
    stand.inlet.released.clear()
    answer = await stand.post(GENERIC, ALERT)
    assert (answer.status_code, reason_of(answer)) == (503, "overloaded")


async def test_one_more_than_may_wait_is_503_at_once() -> None:
    stand = Stand(max_in_flight=1)
    stand.inlet.released.clear()
    first = asyncio.create_task(stand.post(GENERIC, ALERT))
    await stand.inlet.entered.wait()
    second = await stand.post(GENERIC, ALERT)
    assert (second.status_code, reason_of(second)) == (503, "too_many_in_flight")
    assert int(second.headers["retry-after"]) >= 1
    stand.inlet.released.set()
    assert (await first).status_code == 202
    assert (await stand.post(GENERIC, ALERT)).status_code == 202


async def test_a_defect_is_500_in_the_same_shape_and_reaches_the_servers_log() -> None:
    stand = Stand()
    stand.inlet.fails = RuntimeError("broken")
    answer = await stand.post(GENERIC, ALERT)
    assert (answer.status_code, reason_of(answer)) == (500, "internal")
    assert stand.count("streamproc_http_rejected_total", source="generic", reason="internal") == 1
    with pytest.raises(RuntimeError, match="broken"):
        await _call(stand, GENERIC, [], ALERT)


def test_label_sets_stand_from_the_start() -> None:
    stand = Stand()
    assert stand.count("streamproc_http_requests_total", route="/v1/ingest/{source}", status="503") == 0
    assert stand.count("streamproc_http_rejected_total", source="datadog", reason="wrong_shape") == 0
    assert stand.count("streamproc_http_rejected_total", source="unknown", reason="unknown_source") == 0
    assert stand.count("streamproc_feedback_total", kind="acknowledged") == 0
    assert stand.count("streamproc_feedback_total", kind="foreign") == 0


async def _call(stand: Stand, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, Any]:
    """Speak ASGI without a client in between, which would mend what is sent."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    await stand.app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["alerts", "groupKey", "labels", "name", "id"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=12,
)
BODIES = st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 5000)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"content-type",
                b"content-encoding",
                b"content-length",
                b"authorization",
                b"host",
                b"origin",
                b"traceparent",
                b"sec-fetch-site",
            ]
        ),
        st.binary(max_size=40) | st.sampled_from([b"application/json", b"gzip", b"10", b"Basic YTpi", b"localhost"]),
    ),
    max_size=4,
)


@given(
    source=st.sampled_from(["alertmanager", "datadog", "generic", "", "né"]),
    headers=HEADERS,
    body=BODIES | BODIES.map(gzip.compress),
    guarded=st.booleans(),
)
def test_no_request_makes_it_fail(
    source: str, headers: list[tuple[bytes, bytes]], body: bytes, *, guarded: bool
) -> None:
    stand = Stand(body_limit=4000, ingest_tokens=(hash_token("b"),) if guarded else ())
    status, said = asyncio.run(_call(stand, f"/v1/ingest/{source}", headers, body))
    assert status in {202, 400, 401, 403, 404, 413, 415, 422}
    assert (said.keys() == {"accepted"}) == (status == 202)
    assert len(stand.inlet.entries) == (status == 202)
