"""Versions of large things: a new body is the next version, the same one is none."""

from __future__ import annotations

import hashlib

from streamproc.core.event import Activated, Artifact
from streamproc.core.step import ActiveRow
from streamproc.versions import activation

BODY = '{"a": "ünï"}'
CHECKSUM = hashlib.sha256(BODY.encode()).hexdigest()


def test_the_first_version_goes_into_the_log_before_the_switch_to_it() -> None:
    body, switch = activation("config", BODY, None, author="ann", reason="because")
    assert (body.topic, body.key) == ("versions", f"config/1/{CHECKSUM}".encode())
    assert Artifact.decode(body.value, {}) == Artifact(kind="config", version=1, checksum=CHECKSUM, body=BODY)
    assert (switch.topic, switch.key) == ("policies", b"")
    assert Activated.decode(switch.value, {}) == Activated(
        kind="config", version=1, checksum=CHECKSUM, author="ann", reason="because"
    )
    assert (body.headers["type"], switch.headers["type"]) == (b"artifact.v1", b"activated.v1")


def test_a_changed_body_is_the_next_version() -> None:
    active = ActiveRow(kind="config", version=6, checksum="0" * 64)
    body, switch = activation("config", BODY, active, author="ann", reason="")
    assert Artifact.decode(body.value, {}).version == 7
    assert Activated.decode(switch.value, {}).version == 7


def test_the_active_body_is_no_new_version() -> None:
    assert activation("config", BODY, ActiveRow(kind="config", version=6, checksum=CHECKSUM), "ann", "") == []
