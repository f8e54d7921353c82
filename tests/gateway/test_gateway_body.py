"""Bodies that never end, and bodies that end too early."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamproc.gateway.body import read_body
from streamproc.gateway.config import GatewayConfig
from streamproc.gateway.refusal import Refusal


class Sender:
    """Plays ASGI messages; after the last it stays silent for ever."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = list(messages)

    async def receive(self) -> dict[str, Any]:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)


def hold(size: int) -> None:
    """Have room for everything."""


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(({"type": "http.request", "body": b"{", "more_body": True},), id="in the body"),
        pytest.param((), id="before its first byte"),
    ],
)
async def test_a_sender_that_falls_silent_is_503_and_cut_off(messages: tuple[dict[str, Any], ...]) -> None:
    sender = Sender(*messages)
    with pytest.raises(Refusal) as refused:
        await read_body({}, sender.receive, GatewayConfig(body_timeout=0.01), hold)
    assert (refused.value.status, refused.value.reason) == (503, "body_too_slow")
    assert refused.value.headers["connection"] == "close"


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(({"type": "http.disconnect"},), id="before the body"),
        pytest.param(
            ({"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}), id="in the body"
        ),
    ],
)
async def test_a_sender_that_goes_away_is_no_defect(messages: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(Refusal) as refused:
        await read_body({}, Sender(*messages).receive, GatewayConfig(), hold)
    assert refused.value.reason == "cut_short"


async def test_a_body_in_one_piece_is_limited_too() -> None:
    sender = Sender({"type": "http.request", "body": b" " * 1001})
    with pytest.raises(Refusal) as refused:
        await read_body({}, sender.receive, GatewayConfig(body_limit=1000), hold)
    assert refused.value.status == 413
