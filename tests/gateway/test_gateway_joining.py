"""An answer goes out as one piece, and never less than whole."""

from __future__ import annotations

import asyncio

import pytest

from streamproc.gateway.joining import Joining
from streamproc.gateway.server import serve
from tests.gateway.gateway_fakes import ALERT, Stand

HEAD = b"HTTP/1.1 202 Accepted\r\n\r\n"


class Noting(asyncio.Transport):
    """A transport that notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.pieces.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
async def made() -> tuple[Noting, Joining]:
    transport = Noting()
    return transport, Joining(transport, asyncio.get_running_loop())


async def test_a_head_takes_its_body_along(made: tuple[Noting, Joining]) -> None:
    transport, joining = made
    joining.write(HEAD)
    joining.write(b"body")
    joining.write(b"more")
    assert transport.pieces == [HEAD + b"body", b"more"]
    await asyncio.sleep(0)
    assert transport.pieces == [HEAD + b"body", b"more"]


async def test_a_head_without_a_body_waits_for_a_turn_of_the_loop(made: tuple[Noting, Joining]) -> None:
    transport, joining = made
    joining.write(HEAD)
    assert transport.pieces == []
    await asyncio.sleep(0)
    assert transport.pieces == [HEAD]


async def test_two_heads_at_once_keep_their_order(made: tuple[Noting, Joining]) -> None:
    transport, joining = made
    joining.write(HEAD)
    joining.write(HEAD)
    await asyncio.sleep(0)
    assert b"".join(transport.pieces) == HEAD + HEAD


async def test_closing_writes_what_is_held_first(made: tuple[Noting, Joining]) -> None:
    transport, joining = made
    joining.write(HEAD)
    assert not joining.is_closing()
    joining.close()
    assert (transport.pieces, transport.closed, joining.is_closing()) == ([HEAD], True, True)


async def test_what_is_held_for_a_closed_connection_is_thrown_away(made: tuple[Noting, Joining]) -> None:
    transport, joining = made
    joining.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    assert transport.pieces == []


async def test_a_client_has_the_whole_answer_at_once() -> None:
    stand = Stand()
    async with serve(stand.app, "127.0.0.1", 0) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        for _ in range(3):
            head = b"POST /v1/ingest/generic HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(ALERT)
            writer.write(head + ALERT)
            answer = await reader.read(65_536)
            assert answer.startswith(b"HTTP/1.1 202 ")
            assert answer.endswith(b'{"accepted":1}')
        writer.close()
        await writer.wait_closed()
