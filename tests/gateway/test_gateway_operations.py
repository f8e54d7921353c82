"""Health, metrics and the operations API, and that OpenAPI describes them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from streamproc.gateway.app import utc_now
from streamproc.gateway.config import hash_token
from streamproc.ports import Entry, Overloaded
from tests.gateway.gateway_fakes import OPEN_ID, QUOTED_ID, SHUT_ID, STATUS, Stand, reason_of

LETTER = "alerts.raw:0:7:0"


async def test_it_lives_even_when_it_is_not_ready() -> None:
    stand = Stand()
    stand.desk.stands = STATUS.model_copy(update={"ready": False, "why_not": "the sender catches up"})
    assert (await stand.get("/live")).status_code == 200
    answer = await stand.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "why_not": "the sender catches up"})


async def test_it_is_ready_when_events_are_processed() -> None:
    answer = await Stand().get("/ready")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)


async def test_probes_need_no_token() -> None:
    stand = Stand(ingest_tokens=(hash_token("s3cret"),))
    assert [(await stand.get(path)).status_code for path in ("/live", "/ready", "/metrics")] == [200] * 3


async def test_metrics_are_of_the_given_registry() -> None:
    stand = Stand()
    await stand.get("/live")
    await stand.get("/no/such/path")
    answer = await stand.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'streamproc_http_requests_total{route="/live",status="200"} 1.0' in answer.text
    assert 'streamproc_http_requests_total{route="unmatched",status="404"} 1.0' in answer.text


async def test_the_status() -> None:
    assert (await Stand().get("/v1/status")).json() == STATUS.model_dump(mode="json")


async def test_without_a_key_nothing_is_reconciled() -> None:
    told = (await Stand().get("/v1/reconciliation")).json()
    assert told == {"enabled": False, "error": "", "last": None}


@pytest.mark.parametrize(
    ("query", "ids", "following"),
    [
        pytest.param("", [OPEN_ID, QUOTED_ID], None, id="open is the default"),
        pytest.param("?status=resolved", [SHUT_ID], None, id="resolved"),
        pytest.param("?status=all&limit=2", [OPEN_ID, QUOTED_ID], QUOTED_ID, id="first page"),
        pytest.param("?status=all&limit=2&before=" + QUOTED_ID.replace("%", "%25"), [SHUT_ID], None, id="second page"),
    ],
)
async def test_incidents_are_listed_in_pages(query: str, ids: list[str], following: str | None) -> None:
    told = (await Stand().get(f"/v1/incidents{query}")).json()
    assert [one["incident_id"] for one in told["incidents"]] == ids
    assert told["next"] == following


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"/v1/incidents/{OPEN_ID}", id="as it is"),
        pytest.param(f"/v1/incidents/{OPEN_ID.replace(':', '%3A')}", id="quoted"),
        pytest.param(f"/v1/incidents/{QUOTED_ID}", id="percent sign as it is"),
        pytest.param(f"/v1/incidents/{QUOTED_ID.replace('%', '%25')}?x=1", id="percent sign quoted"),
    ],
)
async def test_an_incident_is_told_whole(path: str) -> None:
    told = (await Stand().get(path)).json()
    assert told["summary"]["incident_id"] in {OPEN_ID, QUOTED_ID}
    assert told["chain"][0]["reason"] == "opened"
    assert {"members", "timeline", "pages"} <= told.keys()


async def test_dead_letters_are_listed_without_their_bytes() -> None:
    stand = Stand()
    told = (await stand.get("/v1/dead-letters?limit=1")).json()
    (first,) = told["dead_letters"]
    assert (first["letter_id"], first["size"], len(first["preview"])) == (LETTER, 512, 200)
    assert told["next"] == LETTER
    rest = (await stand.get(f"/v1/dead-letters?before={LETTER}")).json()
    assert len(rest["dead_letters"]) == 2
    assert rest["next"] is None


async def test_a_dead_letter_is_told_byte_for_byte() -> None:
    stand = Stand()
    text = (await stand.get(f"/v1/dead-letters/{LETTER}")).json()
    binary = (await stand.get("/v1/dead-letters/alerts.raw:0:3:0")).json()
    assert base64.b64decode(text["value"]) == stand.desk.letters[0].value == text["text"].encode()
    assert base64.b64decode(binary["value"], validate=True) == b"\xff\xfe\x00"
    assert binary["text"] is None


async def test_a_retry_puts_the_record_into_the_inbox_that_refused_it() -> None:
    stand = Stand()
    answer = await stand.post(f"/v1/dead-letters/{LETTER}/retry")
    assert (answer.status_code, answer.json()) == (202, {"retried": LETTER})
    headers = {"type": b"raw-alert.v1", "source": b"generic"}
    letter = stand.desk.letters[0]
    assert stand.inlet.entries == [Entry("alerts.raw", b"", letter.value, headers, letter.partition)]


async def test_a_retry_while_the_log_is_down_is_503() -> None:
    stand = Stand()
    stand.inlet.fails = Overloaded("the log is down", 7)
    answer = await stand.post(f"/v1/dead-letters/{LETTER}/retry")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


async def test_what_was_too_large_for_a_dead_letter_cannot_be_retried() -> None:
    stand = Stand()
    stand.desk.letters = [stand.desk.letters[0].model_copy(update={"value": b"", "left_out": 7_000_000})]
    answer = await stand.post(f"/v1/dead-letters/{LETTER}/retry")
    assert (answer.status_code, reason_of(answer), stand.inlet.entries) == (409, "not_retryable", [])


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        pytest.param("GET", "/v1/incidents/nonsense", 404, "not_found", id="unknown incident"),
        pytest.param("GET", "/v1/dead-letters/nonsense", 404, "not_found", id="unknown dead letter"),
        pytest.param("POST", "/v1/dead-letters/nonsense/retry", 404, "not_found", id="unknown retry"),
        pytest.param("POST", "/v1/dead-letters/:0:1:0/retry", 409, "not_retryable", id="of no inbox"),
        pytest.param("GET", "/v1/incidents?status=lost", 422, "invalid", id="unknown status"),
        pytest.param("GET", "/v1/incidents?limit=0", 422, "invalid", id="limit too small"),
        pytest.param("GET", "/v1/nonsense", 404, "not_found", id="unknown path"),
        pytest.param("DELETE", "/v1/status", 405, "method_not_allowed", id="wrong method"),
    ],
)
async def test_errors_have_one_shape(method: str, path: str, status: int, reason: str) -> None:
    answer = await Stand().send(method, path)
    assert (answer.status_code, reason_of(answer)) == (status, reason)


async def test_a_defect_of_the_desk_is_500_in_the_same_shape() -> None:
    stand = Stand()
    stand.desk.fails = RuntimeError("broken")
    answer = await stand.get("/ready")
    assert (answer.status_code, reason_of(answer)) == (500, "internal")
    assert stand.count("streamproc_http_requests_total", route="/ready", status="500") == 1


@pytest.mark.parametrize(
    "path", ["/v1/status", "/v1/reconciliation", "/v1/incidents", f"/v1/incidents/{OPEN_ID}", "/v1/dead-letters", "/"]
)
async def test_the_operations_api_asks_for_the_token(path: str) -> None:
    stand = Stand(ingest_tokens=(hash_token("s3cret"),))
    assert (await stand.get(path)).status_code == 401
    assert (await stand.get(path, headers={"authorization": "Bearer s3cret"})).status_code == 200


async def test_a_foreign_page_may_not_retry() -> None:
    stand = Stand()
    answer = await stand.post(f"/v1/dead-letters/{LETTER}/retry", sec_fetch_site="cross-site")
    assert (answer.status_code, reason_of(answer)) == (403, "cross_site")
    assert stand.inlet.entries == []


async def test_nothing_is_stored_or_guessed_on_the_way() -> None:
    headers = (await Stand().get("/v1/status")).headers
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


async def test_openapi_describes_every_path_and_every_reference_resolves() -> None:
    described = (await Stand().get("/openapi.json")).json()
    assert set(described["paths"]) == {
        "/live",
        "/ready",
        "/metrics",
        "/v1/status",
        "/v1/incidents",
        "/v1/incidents/{incident_id}",
        "/v1/dead-letters",
        "/v1/dead-letters/{letter_id}",
        "/v1/dead-letters/{letter_id}/retry",
        "/v1/feedback",
        "/v1/feedback/pagerduty",
        "/v1/ingest/{source}",
        "/v1/reconciliation",
    }
    for reference in _references(described):
        node = described
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    assert set(described["paths"]["/v1/ingest/{source}"]["post"]["responses"]) >= {"202", "401", "413", "503"}
    assert described["paths"]["/v1/incidents"]["get"]["security"] == [{"token": []}]
    assert "token" in described["components"]["securitySchemes"]
    assert "HTTPValidationError" not in described["components"]["schemas"]


async def test_servers_that_speak_lifespan_may() -> None:
    sent: list[str] = []
    coming = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, Any]:
        return {"type": next(coming)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await Stand().app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_clock_is_utc() -> None:
    assert utc_now().utcoffset() == timedelta(0)
