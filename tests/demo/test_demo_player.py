from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest

from streamproc.demo.player import Player
from streamproc.demo.scenario import Deed, Post, Scenario

TAKEN = httpx.Response(202, json={"accepted": 2})


def post(at: float, lane: str = "a", body: bytes = b"{}", awaits: str = "", follows: str = "") -> Post:
    return Post(at, lane, "alertmanager", "Alertmanager/0.28.1", body, alerts=2, awaits=awaits, follows=follows)


def scenario(*posts: Post, deeds: tuple[Deed, ...] = ()) -> Scenario:
    return Scenario(posts, deeds, (), ())


async def play(
    played: Scenario,
    gateway: Callable[[httpx.Request], httpx.Response],
    pagerduty: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(404),
    patience: float = 30.0,
    decided: Callable[[], bool] = lambda: True,
) -> Player:
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(gateway), base_url="http://gateway") as one,
        httpx.AsyncClient(transport=httpx.MockTransport(pagerduty), base_url="http://pagerduty") as other,
    ):
        player = Player(one, other, 1000.0, patience)
        await player.play(played, asyncio.get_running_loop().time(), decided)
    return player


async def test_webhooks_of_a_lane_go_in_order_and_are_counted() -> None:
    got: list[bytes] = []

    def gateway(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/ingest/alertmanager"
        assert request.headers["User-Agent"] == "Alertmanager/0.28.1"
        got.append(request.content)
        return TAKEN

    player = await play(scenario(post(2.0, body=b"2"), post(1.0, body=b"1"), post(0.0, "b", b"0")), gateway)
    assert sorted(got) == [b"0", b"1", b"2"]
    assert got.index(b"1") < got.index(b"2")
    assert (player.webhooks, player.alerts) == (3, 6)


async def test_a_webhook_that_is_not_taken_is_sent_again() -> None:
    answers = iter((None, httpx.Response(503, headers={"Retry-After": "0"}), TAKEN))

    def gateway(request: httpx.Request) -> httpx.Response:
        answer = next(answers)
        if answer is None:
            raise httpx.ConnectError("refused", request=request)
        return answer

    player = await play(scenario(post(0.0)), gateway)
    assert player.webhooks == 1


async def test_a_refused_webhook_is_noted() -> None:
    player = await play(scenario(post(0.0)), lambda _: httpx.Response(400, text="no such"))
    assert player.failures == ["the gateway refused a webhook of alertmanager: no such"]
    assert player.webhooks == 0


async def test_a_gateway_that_stays_away_is_noted() -> None:
    away = httpx.Response(503, headers={"Retry-After": "9"})
    player = await play(scenario(post(0.0)), lambda _: away, patience=0.01)
    assert player.failures == ["the gateway took no webhook of alertmanager within 0.01 s"]


def alert(status: str, service: str, incident: str) -> dict[str, object]:
    return {"status": status, "incident_id": incident, "event": {"payload": {"component": service}}}


async def test_a_person_waits_for_the_page_and_answers_it() -> None:
    listed = iter(
        (
            [],
            [alert("resolved", "search", "Q1"), alert("triggered", "mail", "Q2")],
            [alert("triggered", "search", "Q3")],
        )
    )
    done: list[tuple[str, bytes]] = []

    def pagerduty(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=next(listed))
        done.append((request.url.path, request.content))
        return httpx.Response(200)

    await play(scenario(deeds=(Deed(0.0, "search", "Ada"),)), lambda _: TAKEN, pagerduty)
    assert done == [("/_emulator/incidents/Q3/acknowledge", b'{"by":"Ada"}')]


async def test_a_page_that_never_comes_is_noted() -> None:
    deeds = (Deed(0.0, "search", "Ada"),)
    player = await play(scenario(deeds=deeds), lambda _: TAKEN, lambda _: httpx.Response(200, json=[]), patience=0.01)
    assert player.failures == ["no page of search came for Ada within 0.01 s"]


async def test_an_answer_that_pagerduty_does_not_take_is_noted() -> None:
    def pagerduty(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=[alert("triggered", "search", "Q3")])
        return httpx.Response(409, text="it is resolved")

    player = await play(scenario(deeds=(Deed(0.0, "search", "Ada"),)), lambda _: TAKEN, pagerduty)
    assert player.failures == ["Ada could not acknowledge search: it is resolved"]


@pytest.mark.parametrize("answered", [pytest.param(True, id="answered"), pytest.param(False, id="paged")])
async def test_what_people_must_hear_of_first_waits_for_them(*, answered: bool) -> None:
    happened: list[str] = []
    listed: Iterator[list[dict[str, object]]] = iter(([],))

    def gateway(_: httpx.Request) -> httpx.Response:
        happened.append("resolved")
        return TAKEN

    def pagerduty(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            happened.append("answered")
            return httpx.Response(200)
        alerts = next(listed, [alert("triggered", "search", "Q3")])
        happened.append("paged" if alerts else "not yet")
        return httpx.Response(200, json=alerts)

    deeds = (Deed(0.0, "search", "Ada"),) if answered else ()
    await play(scenario(post(0.0, awaits="search"), deeds=deeds), gateway, pagerduty)
    assert happened == ["not yet", "paged", *(["answered"] if answered else []), "resolved"]


async def test_nobody_who_hears_of_it_is_noted_and_the_play_goes_on() -> None:
    nothing = httpx.Response(200, json=[])
    player = await play(scenario(post(0.0, awaits="search")), lambda _: TAKEN, lambda _: nothing, patience=0.01)
    assert player.failures == ["nobody heard of the trouble of search within 0.01 s"]
    assert player.webhooks == 1


async def test_what_hangs_on_a_service_breaks_after_its_page() -> None:
    listed = iter(([], [alert("triggered", "search", "Q3")]))
    happened: list[str] = []

    def gateway(_: httpx.Request) -> httpx.Response:
        happened.append("told")
        return TAKEN

    def pagerduty(_: httpx.Request) -> httpx.Response:
        happened.append("looked")
        return httpx.Response(200, json=next(listed))

    await play(scenario(post(0.0, follows="search")), gateway, pagerduty)
    assert happened == ["looked", "looked", "told"]


async def test_what_is_mended_after_a_mishap_waits_until_all_is_decided() -> None:
    decided = iter((False, True))
    heard = httpx.Response(200, json=[alert("triggered", "search", "Q3")])
    played = replace(scenario(post(0.1, awaits="search"), post(0.3, awaits="search")), mishap=0.2)
    player = await play(played, lambda _: TAKEN, lambda _: heard, decided=lambda: next(decided))
    assert player.webhooks == 2
    assert next(decided, None) is None
