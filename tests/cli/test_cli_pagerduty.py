"""`streamproc pagerduty` against the emulator over loopback HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from streamproc.commands.pdreconcile import looked
from streamproc.commands.site import Directory as DataDirectory
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.directory import Directory, Policy, Schedule, Service, User, Window
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.faults import Fault, FaultKind
from streamproc.emulator.server import Served, serve
from streamproc.events.feedback import Policy as Wish
from streamproc.events.feedback import PolicyKind
from streamproc.reconcile.compare import Kind
from streamproc.service import running
from streamproc.services import Catalogue
from streamproc.settings import Environment, load
from tests.cli.playing import Pipeline, call

KEYS = {"shop": "s" * 32, "default": "d" * 32, "warehouse": "w" * 32}
DIRECTORY = Directory(
    users=[User(name="Ann", email="ann@example.com")],
    teams=["Shop", "Logistics"],
    schedules=[Schedule(name="Shop days", users=["Ann"]), Schedule(name="Nights")],
    policies=[Policy(name="Shop first", levels=[["Shop days"]]), Policy(name="Logistics first", levels=[["Nights"]])],
    services=[
        Service(name="Checkout API", routing_key=KEYS["shop"], policy="Shop first", team="Shop"),
        Service(name="Warehouse", routing_key=KEYS["warehouse"], policy="Logistics first", team="Logistics"),
    ],
)
OURS = """\
# The services of the shop.
services:
  checkout-api:
    team: Web shop   # as they call themselves
    tier: 1
  picking: {destination: warehouse}
"""


class Background:
    """An event loop in a thread, as commands run loops of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @contextmanager
    def holding(self, context: AbstractAsyncContextManager[Any]) -> Iterator[None]:
        held, over = threading.Event(), asyncio.Event()

        async def hold() -> None:
            async with context:
                held.set()
                await over.wait()

        done = asyncio.run_coroutine_threadsafe(hold(), self._loop)
        done.add_done_callback(lambda _: held.set())
        held.wait()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(over.set)
            done.result(30)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def served(background: Background) -> Iterator[Served]:
    made: Served = background.run(serve(EmulatorConfig(api_key="key", webhook_backoff=0.01)))
    made.emulator.directory = DIRECTORY
    yield made
    background.run(made.stop())


@pytest.fixture
def emulator(served: Served) -> Emulator:
    return served.emulator


@pytest.fixture(autouse=True)
def settings(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return configure(served)


def configure(served: Served, **more: Any) -> Path:
    rest = {"base_url": served.url, "api_key": "key", "retry_config": {"max_attempts": 1}}
    destinations = {name: {"routing_key": key} for name, key in KEYS.items()}
    file = Path("streamproc.yaml")
    file.write_text(yaml.safe_dump({"pagerduty": {"rest": rest, "destinations": destinations}, **more}))
    return file


def pagerduty(*arguments: str, code: int = 0) -> Result:
    answer = call("pagerduty", *arguments)
    assert answer.exit_code == code, answer.output
    return answer


# -- sync -------------------------------------------------------------------------------------------------------------


def test_a_sync_without_write_shows_what_would_change_and_who_is_on_call(tmp_path: Path, emulator: Emulator) -> None:
    now = datetime.now(UTC)
    window = Window(
        description="move", start=now - timedelta(days=1), end=now + timedelta(days=1), services=["Warehouse"]
    )
    emulator.directory = DIRECTORY.model_copy(update={"windows": [window]})
    shown = pagerduty("sync").output
    assert "+  checkout-api" in shown
    assert "on call: Shop first, level 1: Ann (Shop days)" in shown
    assert "note: nobody is on call at level 1 of Logistics first, which service Warehouse pages" in shown
    assert "note: schedule Nights has no users" in shown
    assert "(move): Warehouse do not page" in shown
    assert "Nothing is written: give --write services.yaml." in shown
    assert [file.name for file in tmp_path.iterdir()] == ["streamproc.yaml"]


def test_a_first_sync_makes_the_catalogue() -> None:
    assert "Wrote services.yaml: 2 services." in pagerduty("sync", "--write", "services.yaml").output
    services = Catalogue.model_validate(yaml.safe_load(Path("services.yaml").read_text())).services
    assert services["checkout-api"].model_dump(exclude_defaults=True) == {
        "team": "Shop",
        "owner": "Shop first",
        "destination": "shop",
        "aliases": ("Checkout API",),
    }
    assert call("services", "check", "services.yaml").exit_code == 0
    again = pagerduty("sync", "--write", "services.yaml").output
    assert "Nothing changes: 2 services in PagerDuty, all known." in again
    assert "services.yaml stays as it is." in again


def test_what_people_wrote_stays_comments_too() -> None:
    file = Path("services.yaml")
    file.write_text(OURS)
    file.chmod(0o640)
    shown = pagerduty("sync", "--write", "services.yaml").output
    assert "checkout-api  owner: none > Shop first; destination: none > shop" in shown
    text = file.read_text()
    assert "# The services of the shop." in text
    assert "team: Web shop   # as they call themselves" in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    services = Catalogue.model_validate(yaml.safe_load(text)).services
    assert (services["checkout-api"].team, services["checkout-api"].tier) == ("Web shop", 1)
    # Its destination leads to PagerDuty's Warehouse, so it is that.
    assert (services["picking"].team, services["picking"].owner) == ("Logistics", "Logistics first")
    assert set(services) == {"checkout-api", "picking"}


def test_what_the_last_sync_wrote_follows_pagerduty(emulator: Emulator) -> None:
    Path("services.yaml").write_text(OURS)
    pagerduty("sync", "--write", "services.yaml")
    moved = DIRECTORY.services[0].model_copy(update={"team": "Logistics", "policy": "Logistics first"})
    emulator.directory = DIRECTORY.model_copy(update={"services": [moved]})
    shown = pagerduty("sync", "--write", "services.yaml").output
    services = Catalogue.model_validate(yaml.safe_load(Path("services.yaml").read_text())).services
    assert (services["checkout-api"].team, services["checkout-api"].owner) == ("Web shop", "Logistics first")
    assert "note: service picking is no longer in PagerDuty" in shown


def test_the_file_of_the_settings_is_compared_with(served: Served) -> None:
    Path("services.yaml").write_text(OURS)
    configure(served, services="services.yaml")
    assert "~  checkout-api" in pagerduty("sync").output
    assert Path("services.yaml").read_text() == OURS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("services: [", "cannot be read", id="no YAML"),
        pytest.param("services:\n  a: {}\n  a: {}\n", "cannot be edited", id="a service twice"),
        pytest.param("services:\n  picking: {team: 5}\n", "cannot be used", id="no catalogue"),
    ],
)
def test_a_catalogue_that_cannot_be_edited_is_left_alone(text: str, said: str) -> None:
    Path("services.yaml").write_text(text)
    assert said in pagerduty("sync", "--write", "services.yaml", code=2).stderr
    assert Path("services.yaml").read_text() == text


def test_a_place_that_cannot_be_written_is_said() -> None:
    answer = pagerduty("sync", "--write", "nowhere/services.yaml", code=2)
    assert "nowhere/services.yaml cannot be written: No such file or directory" in answer.stderr


@pytest.mark.parametrize(
    ("env", "code", "said"),
    [
        pytest.param({"PAGERDUTY_API_KEY": "other"}, 2, "the API key is not known there", id="another key"),
        pytest.param({"PAGERDUTY_API_URL": "http://127.0.0.1:9"}, 5, "cannot be reached", id="nothing there"),
        pytest.param({"PAGERDUTY_API_URL": "http://example.com"}, 2, "PAGERDUTY_API_URL: ", id="unencrypted"),
    ],
)
def test_what_keeps_from_asking_is_one_line(env: dict[str, str], code: int, said: str) -> None:
    answer = call("pagerduty", "sync", **env)
    assert (answer.exit_code, answer.stderr.count("\n")) == (code, 1)
    assert said in answer.stderr


def test_without_a_key_the_mend_is_named() -> None:
    Path("streamproc.yaml").write_text("")
    assert "set PAGERDUTY_API_KEY" in pagerduty("sync", code=2).stderr


# -- webhook ----------------------------------------------------------------------------------------------------------

HOOK = "http://127.0.0.1:9/v1/feedback/pagerduty"


def test_a_subscription_is_made_and_its_secret_kept_for_its_owner(emulator: Emulator) -> None:
    Path("gateway.env").write_text("OTHER=1\nPAGERDUTY_WEBHOOK_SECRET=old\n")
    answer = pagerduty("webhook", "create", "--url", HOOK, "--secret-file", "gateway.env")
    (made,) = emulator.webhooks.subscriptions.values()
    assert made.secret not in answer.output
    assert Path("gateway.env").read_text() == f"OTHER=1\nPAGERDUTY_WEBHOOK_SECRET=old,{made.secret}\n"
    assert stat.S_IMODE(Path("gateway.env").stat().st_mode) == 0o600
    assert "incident.acknowledged" in made.events
    assert (made.url, made.service_id) == (HOOK, "")


def test_without_a_file_the_secret_is_printed_once_and_alone(emulator: Emulator) -> None:
    answer = pagerduty("webhook", "create", "--url", HOOK, "--service", "Warehouse")
    (made,) = emulator.webhooks.subscriptions.values()
    assert answer.stdout == f"PAGERDUTY_WEBHOOK_SECRET={made.secret}\n"
    assert made.secret not in answer.stderr
    assert made.service_id


def test_a_second_one_only_replaces_the_first(emulator: Emulator) -> None:
    pagerduty("webhook", "create", "--url", HOOK)
    (first,) = emulator.webhooks.subscriptions
    assert f"({first}): verify it, or --replace it" in pagerduty("webhook", "create", "--url", HOOK, code=2).stderr
    pagerduty("webhook", "create", "--url", HOOK, "--replace")
    (second,) = emulator.webhooks.subscriptions
    assert second != first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--url", "http://example.com/x"], "PagerDuty sends to https:// only", id="unencrypted"),
        pytest.param(["--url", "https://example.com"], "give https://example.com/v1/feedback/pagerduty", id="no path"),
        pytest.param(["--url", HOOK, "--service", "Till"], "no service 'Till'; it has Checkout API", id="no service"),
        pytest.param(["--url", HOOK, "--secret-file", "nowhere/x"], "nowhere/x cannot be written", id="no place"),
    ],
)
def test_what_cannot_be_made_is_not_made(arguments: list[str], said: str, emulator: Emulator) -> None:
    assert said in pagerduty("webhook", "create", *arguments, code=2).stderr
    assert not emulator.webhooks.subscriptions


def test_a_secret_that_cannot_be_kept_takes_its_subscription_along(emulator: Emulator) -> None:
    Path("gateway.env").write_bytes(b"\xff")
    assert (
        "no environment file"
        in pagerduty("webhook", "create", "--url", HOOK, "--secret-file", "gateway.env", code=2).stderr
    )
    assert not emulator.webhooks.subscriptions


def test_deleting(emulator: Emulator) -> None:
    pagerduty("webhook", "create", "--url", HOOK)
    assert "give --yes" in pagerduty("webhook", "delete", "--url", HOOK, code=2).stderr
    assert emulator.webhooks.subscriptions
    assert "Deleted W" in pagerduty("webhook", "delete", "--url", HOOK, "--yes").output
    assert "No subscription sends to" in pagerduty("webhook", "delete", "--url", HOOK, "--yes").output


def test_verify_names_every_fault(emulator: Emulator) -> None:
    missing = pagerduty("webhook", "verify", "--url", HOOK, code=2).stderr
    assert f"no subscription sends to {HOOK} (others: none)" in missing
    pagerduty("webhook", "create", "--url", HOOK)
    (made,) = emulator.webhooks.subscriptions.values()
    made.active, made.temporarily_disabled, made.events = False, True, frozenset({"incident.triggered"})
    said = pagerduty("webhook", "verify", "--url", HOOK, code=1).stdout
    assert "is not active" in said
    assert "is switched off by PagerDuty for 24 h" in said
    assert "does not send incident.acknowledged" in said
    assert "no signing secret is set here" in said


def test_without_a_gateway_only_the_subscription_is_verified(served: Served) -> None:
    pagerduty("webhook", "create", "--url", HOOK)
    configure(served, gateway={"webhook_secrets": ["x"], "port": free_port()})
    assert "Whether its ping arrived is not known" in pagerduty("webhook", "verify", "--url", HOOK).output
    base = f"http://127.0.0.1:{free_port()}"
    asked = pagerduty("webhook", "verify", "--url", HOOK, "--gateway", base, code=1)
    assert f"no gateway answers at {base}" in asked.output


@pytest.mark.parametrize(
    ("fault", "secret", "code", "said"),
    [
        pytest.param(None, "", 0, "its ping arrived", id="it arrives"),
        pytest.param(None, "another", 1, "the secret set there is not that of", id="another secret"),
        pytest.param(Fault(kind=FaultKind.STALL, seconds=0.0), "", 5, "", id="PagerDuty does not answer"),
    ],
)
def test_a_ping_must_arrive(
    fault: Fault | None, secret: str, code: int, said: str, background: Background, served: Served, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/feedback/pagerduty"
    pagerduty("webhook", "create", "--url", url)
    (made,) = served.emulator.webhooks.subscriptions.values()
    configure(served, gateway={"webhook_secrets": [secret or made.secret], "port": port})
    with background.holding(running(load(), tmp_path / "data", armed=False)):
        if fault is not None:
            served.emulator.faults.add(fault)
        answer = pagerduty("webhook", "verify", "--url", url, code=code)
    assert said in answer.output


def test_a_ping_that_goes_elsewhere_does_not_arrive(background: Background, served: Served, tmp_path: Path) -> None:
    pagerduty("webhook", "create", "--url", HOOK)
    configure(served, gateway={"webhook_secrets": ["x"], "port": free_port()})
    with background.holding(running(load(), tmp_path / "data", armed=False)):
        answer = pagerduty("webhook", "verify", "--url", HOOK, "--wait", "0.3", code=1)
    assert "no ping arrived" in answer.output


# -- reconcile --------------------------------------------------------------------------------------------------------


def paged(pipeline: Pipeline) -> None:
    """Let one incident be paged; PagerDuty is only said to have taken it."""
    pipeline.configure()
    pipeline.arm()
    pipeline.alert("DiskFull", service="checkout")
    pipeline.deliver()


def test_one_look_shows_what_differs_and_changes_nothing(pipeline: Pipeline) -> None:
    paged(pipeline)
    said = pagerduty("reconcile", "--data-dir", str(pipeline.folder), code=1).output
    assert "missing" in said
    assert "DiskFull of checkout" in said
    assert "1 difference: 1 incident open here, 0 alerts of ours there." in said
    told = json.loads(pagerduty("reconcile", "--data-dir", str(pipeline.folder), "--json", code=1).output)
    assert told["differences"] == {"missing": 1}
    assert told["repaired"] == {}
    assert pipeline.journal.read("feedback", 0, 0, 10) == []


def test_what_agrees_is_said(pipeline: Pipeline) -> None:
    pipeline.configure()
    said = pagerduty("reconcile", "--data-dir", str(pipeline.folder)).output
    assert said == "Nothing differs: 0 incidents open here, 0 alerts of ours there.\n"


def test_what_differs_is_mended_at_once(pipeline: Pipeline) -> None:
    paged(pipeline)
    said = pagerduty("reconcile", "--data-dir", str(pipeline.folder), "--repair", "--now").output
    assert "repaired" in said
    pipeline.run()
    (feedback,) = pipeline.journal.read("feedback", 0, 0, 10)
    assert json.loads(feedback.value)["kind"] == "missing"


@pytest.mark.parametrize("waits", [pytest.param(True, id="two looks"), pytest.param(False, id="nothing to wait for")])
def test_what_two_looks_see_is_mended(pipeline: Pipeline, *, waits: bool) -> None:
    if waits:
        paged(pipeline)
    else:
        pipeline.configure()
    sites: list[DataDirectory] = []

    @contextmanager
    def site() -> Iterator[DataDirectory]:
        sites.append(DataDirectory(pipeline.folder))
        yield sites[-1]

    report = looked(load(), site, repair=True, at_once=False, settle=timedelta(milliseconds=1))
    assert len(sites) == (2 if waits else 1)
    assert report.repaired == ({Kind.MISSING: 1} if waits else {})


def test_a_dry_run_is_said(pipeline: Pipeline) -> None:
    paged(pipeline)
    policy = Wish(policy_id="arm", kind=PolicyKind.ARM, version=2, starts_at=pipeline.clock.now(), withdrawn=True)
    pipeline.put("policies", policy)
    said = pagerduty("reconcile", "--data-dir", str(pipeline.folder), "--repair", "--now", code=1).output
    assert "A dry run mends nothing." in said


def test_nothing_is_mended_where_nobody_would_do_it(pipeline: Pipeline) -> None:
    paged(pipeline)
    pipeline.close()
    said = pagerduty("reconcile", "--data-dir", str(pipeline.folder), "--repair", code=2).stderr
    assert "no pipeline runs on" in said
    assert "--now says when to mend" in pagerduty("reconcile", "--now", code=2).stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
