"""The canary: an alert of our own, known as one wherever it has come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamproc.events.alert import Alert
from streamproc.events.canary import LABEL, NAME, canary, canary_id, is_canary
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ODD = 'gate"way@host/7 ü'


@pytest.mark.parametrize("process", [pytest.param("gateway-1", id="plain"), pytest.param(ODD, id="odd")])
def test_it_is_read_as_any_alert_and_known_again(process: str) -> None:
    memory = Memory(TOPOLOGY, LETTERS, MemoryJournal(TOPICS), ManualClock(T0))
    until = T0 + timedelta(minutes=1)
    memory.append([Entry.of("alerts.raw", sent) for sent in (canary(process, T0), canary(process, T0, until))])
    memory.run()
    fired, ended = (Alert.model_validate_json(record.value) for record in memory.records("alerts"))
    assert (is_canary(fired), is_canary(ended)) == (True, True)
    assert (fired.status, ended.status) == ("firing", "resolved")
    assert fired.alert_id == ended.alert_id == canary_id(process, T0)
    assert fired.fingerprint == ended.fingerprint
    assert fired.scope.startswith("streamproc:")
    assert (fired.starts_at, ended.ends_at, fired.expires, fired.service) == (T0, until, True, "")


def alert(**changes: Any) -> Alert:
    given = {
        "fingerprint": "fp:v1:ca",
        "alert_id": "a",
        "source": "generic",
        "status": "firing",
        "name": NAME,
        "severity": "info",
        "summary": "",
        "labels": {LABEL: "gate"},
        "scope": "-",
        "starts_at": T0,
        "at": T0,
    }
    return Alert.model_validate({**given, **changes})


@pytest.mark.parametrize(
    ("changes", "is_one"),
    [
        pytest.param({}, True, id="a canary"),
        pytest.param({"name": "Down"}, False, id="another name"),
        pytest.param({"source": "alertmanager"}, False, id="another source"),
        pytest.param({"labels": {"a": "b"}}, False, id="without the label"),
    ],
)
def test_what_is_one(changes: dict[str, Any], *, is_one: bool) -> None:
    assert is_canary(alert(**changes)) is is_one
