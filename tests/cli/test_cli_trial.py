from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cli.playing import KEY, Answers, call

ALERTS, GROUPS = "/api/v2/alerts", "/api/v2/alerts/groups"


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAGERDUTY_ROUTING_KEY", raising=False)


def alert(name: str, severity: str, state: str = "active", minutes: int = 10, **labels: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    given = {"alertname": name, "severity": severity, "env": "prod", **labels}
    return {
        "annotations": {"summary": f"{name} of {labels.get('service', 'x')}"},
        "endsAt": (now + timedelta(days=1)).isoformat(),
        "fingerprint": f"{abs(hash(tuple(sorted(given.items())))):016x}"[:16],
        "receivers": [{"name": "team"}],
        "startsAt": (now - timedelta(minutes=minutes)).isoformat(),
        "status": {"inhibitedBy": [], "silencedBy": [], "state": state},
        "updatedAt": now.isoformat(),
        "generatorURL": "http://prometheus/graph",
        "labels": given,
    }


STORM = [
    *(alert("HighErrorRate", "page", service="checkout", pod=f"checkout-{n}", minutes=5) for n in range(8)),
    alert("DatabaseDown", "critical", service="db", minutes=8),
    *(alert("DiskWillFill", "warning", instance=f"node-{n}") for n in range(3)),
    alert("Watchdog", "none"),
    alert("Silenced", "critical", state="suppressed", service="quiet"),
]
BY_NAME = [
    {
        "labels": {"alertname": name},
        "receiver": {"name": "team"},
        "alerts": [one for one in STORM if one["labels"]["alertname"] == name],
    }
    for name in ("DiskWillFill", "HighErrorRate", "DatabaseDown", "Watchdog")
]


def asked(prepared: dict[str, tuple[int, Any]], *arguments: str) -> Any:
    with Answers(prepared) as server:
        return call("try", "--alertmanager", server.url, *arguments)


def test_what_fires_becomes_incidents_and_pages() -> None:
    answer = asked({ALERTS: (200, STORM), GROUPS: (200, BY_NAME)})
    assert answer.exit_code == 0, answer.output
    assert "12 alerts firing" not in answer.output
    assert "13 alerts firing -> 4 incidents -> 2 pages, 1 ticket, 1 nothing" in answer.output
    assert "8 alerts: HighErrorRate x8 · checkout" in answer.output
    assert "3 alerts: DiskWillFill x3 · no service named" in answer.output
    assert "Together by same group." in answer.output
    assert "1 alert that Alertmanager itself mutes is left out." in answer.output
    assert "Next: `streamproc init`" in answer.output
    words = [line.split()[0] for line in answer.output.splitlines() if line[:1].islower()]
    assert words == ["page", "page", "ticket", "nothing"]


def test_nothing_is_written() -> None:
    asked({ALERTS: (200, STORM)})
    assert list(Path().iterdir()) == []


def test_an_alertmanager_that_tells_no_groups_will_do() -> None:
    answer = asked({ALERTS: (200, STORM)})
    assert "13 alerts firing -> 4 incidents -> 2 pages, 1 ticket, 1 nothing" in answer.output


def test_the_catalogue_brings_neighbours_together() -> None:
    Path("services.yaml").write_text("services: {checkout: {depends_on: [db]}, db: {}}\n")
    without = asked({ALERTS: (200, STORM), GROUPS: (200, BY_NAME)})
    assert "Without a service catalogue" in without.output
    answer = asked({ALERTS: (200, STORM), GROUPS: (200, BY_NAME)}, "--services", "services.yaml")
    assert "13 alerts firing -> 3 incidents -> 1 page, 1 ticket, 1 nothing" in answer.output
    assert "DatabaseDown of db (+8 more)" in answer.output
    assert "Together by neighbour, same group." in answer.output


def test_the_settings_count() -> None:
    Path("streamproc.yaml").write_text(
        yaml.safe_dump(
            {
                "escalate": {"page": ["critical", "error", "warning"]},
                "pagerduty": {"destinations": {"default": {"routing_key": KEY}}},
            }
        )
    )
    answer = asked({ALERTS: (200, STORM), GROUPS: (200, BY_NAME)})
    assert "3 pages, 0 tickets" in answer.output
    assert KEY not in answer.output


def test_for_programs() -> None:
    answer = asked({ALERTS: (200, STORM), GROUPS: (200, BY_NAME)}, "--json")
    told = json.loads(answer.output)
    assert (told["firing"], told["left_out"], told["pages"], told["tickets"], told["nothing"]) == (13, 1, 2, 1, 1)
    assert len(told["incidents"]) == 4
    assert told["incidents"][0]["chain"][0]["stage"] == "normalise"


def test_what_is_odd_about_the_input_is_said() -> None:
    odd = [alert("A", "sev2x", service="a"), {**alert("B", "error"), "labels": {}}]
    answer = asked({ALERTS: (200, odd)})
    assert answer.exit_code == 0
    assert "Nobody knows these severities, so they count as the default: sev2x" in answer.output
    assert "An alert cannot be used (no_labels)" in answer.output


def test_many_kinds_are_counted() -> None:
    answer = asked({ALERTS: (200, [alert(f"Kind{n}", "error", service="a") for n in range(7)])})
    assert "7 alerts: Kind0, Kind1, Kind2, Kind3 and 3 more kinds · a" in answer.output


def test_nothing_fires() -> None:
    answer = asked({ALERTS: (200, [])})
    assert answer.exit_code == 0
    assert answer.output.startswith("Nothing is firing: no incidents, no pages.")


@pytest.mark.parametrize(
    ("prepared", "code", "said"),
    [
        pytest.param({}, 2, "no Alertmanager answers at", id="another web server"),
        pytest.param({ALERTS: (200, "<html>")}, 2, "something that is no list of alerts", id="a page"),
        pytest.param({ALERTS: (200, {"status": "success"})}, 2, "something that is no list of alerts", id="Prometheus"),
        pytest.param({ALERTS: (200, [{"a": 1}])}, 2, "something that is no list of alerts", id="a list of others"),
        pytest.param({ALERTS: (401, "")}, 5, "answers 401: put user:password@ into the address", id="wants a password"),
        pytest.param({ALERTS: (503, "")}, 5, "answers 503", id="out of order"),
    ],
)
def test_who_else_may_answer(prepared: dict[str, tuple[int, Any]], code: int, said: str) -> None:
    answer = asked(prepared)
    assert answer.exit_code == code
    assert said in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_nobody_answers() -> None:
    answer = call("try", "--alertmanager", "http://127.0.0.1:9")
    assert answer.exit_code == 5
    assert "http://127.0.0.1:9/api/v2/alerts cannot be reached" in answer.stderr


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:port", ""])
def test_what_is_no_address(url: str) -> None:
    answer = call("try", "--alertmanager", url)
    assert answer.exit_code == 2
    assert "that is no address" in answer.stderr


@pytest.mark.parametrize("form", ["{}/", "{}/#/alerts", "{}/api/v2/alerts"])
def test_an_address_as_it_stands_in_the_browser(form: str) -> None:
    with Answers({ALERTS: (200, [])}) as server:
        assert call("try", "--alertmanager", form.format(server.url)).exit_code == 0
        assert call("try", "--alertmanager", form.format(server.url.removeprefix("http://"))).exit_code == 0


def test_a_prefix_is_kept() -> None:
    with Answers({f"/monitoring/am{ALERTS}": (200, [])}) as server:
        assert call("try", "--alertmanager", f"{server.url}/monitoring/am/").exit_code == 0


def test_credentials_are_sent_and_never_shown() -> None:
    with Answers({}) as server:
        where = server.url.replace("://", "://me:s3cret@")
        answer = call("try", "--alertmanager", where, "--header", "X-Scope-OrgID: a")
    assert "s3cret" not in answer.output
    headers = server.asked[0][1]
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'me:s3cret').decode()}"
    assert headers["X-Scope-OrgID"] == "a"


def test_a_header_that_is_none() -> None:
    answer = call("try", "--alertmanager", "http://x", "--header", "nonsense")
    assert answer.exit_code == 2
    assert "a --header is written 'Name: value'" in answer.stderr


# -- a real Alertmanager ----------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have Debian's prometheus-alertmanager")
        pytest.skip("there is no prometheus-alertmanager here (apt install prometheus-alertmanager)")
    (tmp_path / "am.yml").write_text("route: {receiver: none, group_by: [alertname]}\nreceivers: [{name: none}]\n")
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen(  # noqa: S603  found on the path
        [
            program,
            f"--config.file={tmp_path / 'am.yml'}",
            f"--storage.path={tmp_path / 'am'}",
            f"--web.listen-address={url.removeprefix('http://')}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: httpx.get(f"{url}/-/ready").is_success)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def until(holds: Any) -> None:
    """Wait for something outside; a generous bound, so that a busy machine does not fail it."""
    end = time.monotonic() + 60
    while True:
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end, "it did not come about within a minute"
        time.sleep(0.05)


@pytest.mark.alertmanager
def test_a_real_alertmanager(alertmanager: str) -> None:
    posted = [{key: one[key] for key in ("labels", "annotations", "startsAt")} for one in STORM]
    assert httpx.post(f"{alertmanager}{ALERTS}", json=posted).is_success
    silence = {
        "matchers": [{"name": "alertname", "value": "Silenced", "isRegex": False, "isEqual": True}],
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "createdBy": "test",
        "comment": "test",
    }
    assert httpx.post(f"{alertmanager}/api/v2/silences", json=silence).is_success
    # Alertmanager groups and silences on threads of its own, a moment later.
    until(lambda: sum(len(group["alerts"]) for group in httpx.get(f"{alertmanager}{GROUPS}").json()) == len(STORM))
    until(lambda: len(httpx.get(f"{alertmanager}{ALERTS}?silenced=false").json()) == len(STORM) - 1)
    answer = call("try", "--alertmanager", alertmanager)
    assert answer.exit_code == 0, answer.output
    assert "13 alerts firing -> 4 incidents -> 2 pages, 1 ticket, 1 nothing" in answer.output
    assert "1 alert that Alertmanager itself mutes is left out." in answer.output
