from __future__ import annotations

import errno
import socket

import pytest

from streamproc.core.errors import Unusable
from streamproc.listening import _why, listen

HOST = "127.0.0.1"


def test_it_names_its_protocol_so_that_answers_do_not_wait_for_acknowledgements() -> None:
    with listen(HOST, 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.getsockname()[1] > 0


@pytest.mark.parametrize(
    ("host", "said"),
    [
        pytest.param(HOST, "another program does", id="a port in use"),
        pytest.param("no.such.host.invalid", "cannot listen on no.such.host.invalid", id="no such address"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_clear_line(host: str, said: str) -> None:
    with listen(HOST, 0) as taken, pytest.raises(Unusable, match=said):
        listen(host, taken.getsockname()[1])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(OSError(errno.EACCES, "x"), "choose another port", id="privileged port"),
        pytest.param(OSError(errno.EADDRNOTAVAIL, "no such address"), "no such address", id="not our address"),
        pytest.param(OSError("no such name"), "no such name", id="no number"),
    ],
)
def test_why_it_cannot_listen(error: OSError, said: str) -> None:
    assert said in _why(error)
