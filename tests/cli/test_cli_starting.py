from __future__ import annotations

import asyncio
import json
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamproc.commands.check import Level, agreement
from streamproc.commands.fields import Section, Setting, every_section, settings_tree
from streamproc.commands.settingsfile import settings_file
from streamproc.commands.testpage import region
from streamproc.core.topic import Topic
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.server import Served, serve
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.services import CATALOGUE
from streamproc.settings import ELSEWHERE, Environment, Settings, load
from streamproc.topology import TOPICS, TOPOLOGY
from tests.cli.playing import KEY, Answers, Pipeline, call


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has a working directory and an environment of its own."""
    monkeypatch.chdir(tmp_path)
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def pagerduty() -> Iterator[tuple[str, Emulator]]:
    """A PagerDuty emulator on a thread of its own: commands run an event loop themselves."""
    found: list[Served] = []
    loop = asyncio.new_event_loop()

    async def start() -> None:
        found.append(await serve(EmulatorConfig()))

    async def end() -> None:
        await found[0].stop()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    yield found[0].url, found[0].emulator
    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


# -- init -------------------------------------------------------------------------------------------------------------


def test_init_writes_a_file_for_its_owner_alone_and_says_what_is_next() -> None:
    answer = call("init", "--routing-key", KEY)
    assert answer.exit_code == 0, answer.output
    file = Path("streamproc.yaml")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load().pagerduty.destinations["default"].routing_key.get_secret_value() == KEY
    assert KEY not in answer.output
    for part in ("continue: true", "/v1/ingest/alertmanager", "/v1/ingest/datadog", '"$ALERT_TRANSITION"'):
        assert part in answer.output
    assert [line.split()[1] for line in answer.output.splitlines() if line.startswith("  streamproc ")] == [
        "check",
        "run",
        "arm",
    ]


def test_what_is_pasted_into_alertmanager_is_yaml() -> None:
    said = call("init", "--data-dir", "elsewhere", "--config", "mine.yaml").output
    block = said.partition("see every alert.\n")[2].partition("Into Datadog")[0]
    route = yaml.safe_load(block)
    assert route["route"]["routes"][0]["continue"] is True
    assert route["receivers"][0]["webhook_configs"][0]["url"] == "http://127.0.0.1:8080/v1/ingest/alertmanager"
    payload = said.partition("Payload\n")[2].partition("\nNext:")[0]
    assert json.loads(payload)["alert_id"] == "$ALERT_ID"
    assert "streamproc run --config mine.yaml --data-dir elsewhere" in said
    assert "streamproc status --data-dir elsewhere" in said


def test_init_takes_the_key_from_the_environment() -> None:
    call("init", PAGERDUTY_ROUTING_KEY=KEY)
    assert KEY in Path("streamproc.yaml").read_text()


def test_init_without_a_key_says_that_nothing_can_page() -> None:
    assert "without a routing key: nothing can page yet" in call("init").output
    assert load() == Settings()


def test_init_does_not_overwrite() -> None:
    Path("streamproc.yaml").write_text("gateway: {port: 1}\n")
    Path("streamproc.yaml").chmod(0o644)
    answer = call("init")
    assert answer.exit_code == 2
    assert "streamproc.yaml exists; --force overwrites it" in answer.stderr
    assert load().gateway.port == 1
    assert call("init", "--force").exit_code == 0
    assert load().gateway.port == 8080
    assert stat.S_IMODE(Path("streamproc.yaml").stat().st_mode) == 0o600
    assert [file.name for file in Path().iterdir()] == ["streamproc.yaml"]


def test_init_into_a_folder_that_does_not_exist() -> None:
    answer = call("init", "--config", "nowhere/streamproc.yaml")
    assert answer.exit_code == 2
    assert "nowhere/streamproc.yaml cannot be written: No such file or directory" in answer.stderr


@pytest.mark.parametrize("key", ["short", "x" * 33, "-" * 32, "é" * 32])
def test_what_is_no_routing_key_is_refused_before_anything_is_written(key: str) -> None:
    answer = call("init", "--routing-key", key)
    assert answer.exit_code == 2
    assert "that is no routing key" in answer.stderr
    assert key not in answer.stderr
    assert not Path("streamproc.yaml").exists()


def test_a_test_page_of_init_needs_a_key() -> None:
    answer = call("init", "--test-page")
    assert answer.exit_code == 2
    assert "a test page needs a routing key" in answer.stderr


def test_init_sends_a_test_page(pagerduty: tuple[str, Emulator]) -> None:
    url, emulator = pagerduty
    answer = call("init", "--routing-key", KEY, "--test-page", PAGERDUTY_EVENTS_URL=url)
    assert "PagerDuty answered 202: Event processed. The test page is resolved again (key ...kkkk" in answer.output
    assert [taken.action for taken in emulator.requests] == ["trigger", "resolve"]


# -- the settings file ------------------------------------------------------------------------------------------------


def uncommented(text: str) -> dict[str, Any]:
    """Return what a settings file says once every # before a setting is taken away."""
    lines = [re.sub(r"^#(?!#)", "", line) for line in text.splitlines()]
    found: dict[str, Any] = yaml.safe_load("\n".join(lines))
    return found


def test_the_file_shows_every_setting_at_its_default() -> None:
    given = uncommented(settings_file(settings_tree(), {}))
    assert given["pagerduty"].pop("destinations") == {"default": {"routing_key": None, "ticket_routing_key": None}}
    assert given["deduplicate"].pop("watchdogs")["default"]["matchers"] is None
    assert given.pop("policies")["default"]["ends_at"] is None
    Path("all.yaml").write_text(yaml.safe_dump(given))
    assert load(Path("all.yaml")) == Settings()
    for section in every_section(settings_tree()):
        for child in section.children:
            assert f"{child.path[-1]}:" in settings_file(settings_tree(), {})


def test_only_what_was_given_counts() -> None:
    text = settings_file(settings_tree(), {("gateway", "port"): 9, ("pagerduty", "api", "timeout"): 3.5})
    assert yaml.safe_load(text) == {"gateway": {"port": 9}, "pagerduty": {"api": {"timeout": 3.5}}}


def test_a_key_of_digits_stays_text() -> None:
    place = ("pagerduty", "destinations", "default", "routing_key")
    given = yaml.safe_load(settings_file(settings_tree(), {place: "0" * 32}))
    assert given["pagerduty"]["destinations"]["default"]["routing_key"] == "0" * 32


def test_every_setting_and_section_is_explained() -> None:
    for section in every_section(settings_tree()):
        for child in section.children:
            if isinstance(child, Setting) or child.path[-1] != "default":  # an entry of a map, under a name of theirs
                assert child.explanation, child.path


def test_every_environment_variable_has_its_setting() -> None:
    found = {
        one.variable
        for section in every_section(settings_tree())
        for one in section.children
        if isinstance(one, Setting) and one.variable
    }
    assert found == {name.upper() for name in Environment.model_fields}


@pytest.mark.parametrize("path", ELSEWHERE, ids=".".join)
def test_settings_that_stand_elsewhere_are_shown_there_alone(path: tuple[str, str]) -> None:
    assert _setting(ELSEWHERE[path]) is not None
    assert _setting(path) is None


def _setting(path: tuple[str, ...]) -> Section | Setting | None:
    listed = [child for section in every_section(settings_tree()) for child in section.children]
    return next((child for child in listed if child.path == path), None)


# -- test-page --------------------------------------------------------------------------------------------------------


def test_a_test_page_is_marked_and_resolved(pagerduty: tuple[str, Emulator]) -> None:
    url, emulator = pagerduty
    answer = call("test-page", PAGERDUTY_EVENTS_URL=url, PAGERDUTY_ROUTING_KEY=KEY)
    assert answer.exit_code == 0, answer.output
    assert answer.output.startswith("PagerDuty answered 202")
    trigger, resolve = emulator.requests
    assert trigger.event["payload"]["summary"].startswith("TEST of streamproc")
    assert trigger.event["payload"]["severity"] == "info"
    assert (trigger.dedup_key, trigger.routing_key) == (resolve.dedup_key, KEY)
    (incident,) = emulator.account.incidents.values()
    assert incident.status == "resolved"


def test_a_test_page_may_stay_open(pagerduty: tuple[str, Emulator]) -> None:
    url, emulator = pagerduty
    answer = call("test-page", "--keep", "--routing-key", KEY, PAGERDUTY_EVENTS_URL=url)
    assert "The test page stays open" in answer.output
    assert [taken.action for taken in emulator.requests] == ["trigger"]


def test_a_test_page_goes_to_the_default_destination_of_the_settings(pagerduty: tuple[str, Emulator]) -> None:
    url, emulator = pagerduty
    settings = {"pagerduty": {"api": {"base_url": url}, "destinations": {"default": {"routing_key": KEY}}}}
    Path("mine.yaml").write_text(yaml.safe_dump(settings))
    assert call("test-page", "--config", "mine.yaml").exit_code == 0
    assert len(emulator.requests) == 2


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(
            400, "refused the test page with 400: invalid event: no such key; check that the key", id="refused"
        ),
        pytest.param(429, "could not take the test page (429", id="too much at once"),
        pytest.param(500, "could not take the test page (500", id="out of order"),
    ],
)
def test_a_test_page_that_is_not_taken_names_the_mend(status: int, said: str) -> None:
    body = {"status": "x", "message": "invalid event", "errors": ["no such key"]}
    with Answers({"/v2/enqueue": (status, body)}) as server:
        answer = call("test-page", "--routing-key", KEY, PAGERDUTY_EVENTS_URL=server.url)
    assert answer.exit_code == 5
    assert f"{server.url} {said}" in answer.stderr
    assert KEY not in answer.stderr
    assert len(server.asked) == 1


def test_a_pagerduty_that_cannot_be_reached() -> None:
    answer = call("test-page", "--routing-key", KEY, PAGERDUTY_EVENTS_URL="http://127.0.0.1:9")
    assert answer.exit_code == 5
    assert "http://127.0.0.1:9 cannot be reached" in answer.stderr


def test_the_region_is_a_hint_where_it_may_be_the_other() -> None:
    assert region("https://events.pagerduty.com").endswith(
        "the EU needs pagerduty.api.base_url: https://events.eu.pagerduty.com"
    )
    assert "the US needs" in region("https://events.eu.pagerduty.com")
    assert region("http://127.0.0.1:1") == ""


def test_a_test_page_without_a_key() -> None:
    answer = call("test-page")
    assert answer.exit_code == 2
    assert "there is no routing key" in answer.stderr


# -- check ------------------------------------------------------------------------------------------------------------


def checked(**settings: Any) -> tuple[int, dict[str, list[str]]]:
    Path("streamproc.yaml").write_text(yaml.safe_dump(settings))
    Path("streamproc.yaml").chmod(0o600)
    answer = call("check", "--json")
    told = json.loads(answer.output)
    assert told["ok"] is (answer.exit_code == 0)
    found: dict[str, list[str]] = {"good": [], "note": [], "problem": []}
    for finding in told["findings"]:
        found[finding["level"]].append(f"{finding['area']}: {finding['said']}")
    return answer.exit_code, found


NOBODY = "nobody is told when PagerDuty, or streamproc itself, fails"
GOOD: dict[str, Any] = {"pagerduty": {"destinations": {"default": {"routing_key": KEY}}}}


def test_check_of_good_settings() -> None:
    code, found = checked(**GOOD)
    assert (code, found["problem"]) == (0, [])
    assert found["good"] == [
        "topics: 12 topics and 7 nodes agree",
        "settings: streamproc.yaml",
        "gateway: 127.0.0.1:8080, from this machine alone, without a token",
        "destinations: default at https://events.pagerduty.com",
    ]
    said = call("check").output
    assert said.endswith("\nAll is well.\n")
    assert KEY not in said


def test_check_of_nothing_at_all() -> None:
    answer = call("check")
    assert answer.exit_code == 1
    assert "there is no streamproc.yaml: defaults and the environment are used" in answer.output
    assert "`default` has no routing key, so pages go nowhere: set PAGERDUTY_ROUTING_KEY" in answer.output
    assert answer.output.endswith("\n1 problem.\n")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"gatewya": {}}, "settings: streamproc.yaml: gatewya: there is no such setting", id="a typo"),
        pytest.param({"gateway": {"host": "0.0.0.0"}}, "gateway: gateway.host is '0.0.0.0'", id="open to all"),  # noqa: S104
        pytest.param({"services": "none.yaml"}, "services: none.yaml cannot be read", id="no catalogue file"),
        pytest.param(
            {"pagerduty": {"destinations": {"default": {"routing_key": "x"}}}},
            "destinations: the routing key of default has 1 characters",
            id="no routing key",
        ),
        pytest.param(
            {"pagerduty": {"notifications": {"channels": ["nonsense"]}}}, "channels: fallback URL 1", id="no channel"
        ),
    ],
)
def test_check_finds_what_would_not_work(settings: dict[str, Any], said: str) -> None:
    code, found = checked(**settings)
    assert code == 1
    assert any(problem.startswith(said) for problem in found["problem"]), found


def test_check_of_topics_that_do_not_fit() -> None:
    orphan = Topic(name="orphan", version=1, title="x", key="", events=(), partitions=1, producer="x", consumers=())
    node = TOPOLOGY[1]
    inbox = node.inbox.model_copy(update={"events": (*node.inbox.events, "page.v1")})
    found = list(agreement((*TOPOLOGY, replace(node, inbox=inbox)), {**TOPICS, "orphan": orphan}))
    assert [(finding.level, finding.said) for finding in found] == [
        (Level.PROBLEM, "alerts.raw may hold page.v1, which normalise does not take"),
        (Level.PROBLEM, "no node reads or writes orphan"),
    ]


def test_check_notes_what_is_worth_a_look() -> None:
    Path("services.yaml").write_text("services: {web: {depends_on: [api]}}\n")
    token = "0" * 64
    code, found = checked(
        **GOOD,
        services="services.yaml",
        gateway={"ingest_tokens": [token], "webhook_secrets": ["s"], "host": "0.0.0.0"},  # noqa: S104
    )
    assert code == 0
    assert "services: services.yaml: 1 service" in found["good"]
    assert "gateway: 0.0.0.0:8080, with a token" in found["good"]
    assert found["note"] == [
        "services: service web depends on api, which is not in the catalogue",
        "services: service web names no destination: its pages go to `default`",
        f"channels: pagerduty.notifications.channels is empty: {NOBODY}",
    ]


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise's own
def test_check_counts_the_channels() -> None:
    pagerduty = {**GOOD["pagerduty"], "notifications": {"channels": ["json://localhost"]}}
    assert "channels: 1 way to people beside PagerDuty" in checked(pagerduty=pagerduty)[1]["good"]


def test_check_notes_a_file_that_others_may_read() -> None:
    Path("open.yaml").write_text(yaml.safe_dump(GOOD))
    Path("open.yaml").chmod(0o644)
    assert "others may read open.yaml" in call("check", "--config", "open.yaml").output


# -- services ---------------------------------------------------------------------------------------------------------


def test_a_catalogue_is_applied_and_shown(pipeline: Pipeline) -> None:
    pipeline.close()
    where = ("--data-dir", str(pipeline.folder))
    Path("a.yaml").write_text("services: {web: {owner: team-web, depends_on: [api]}, api: {}, old: {}}\n")
    Path("b.yaml").write_text(
        "services: {web: {owner: team-shop, depends_on: [api]}, api: {aliases: [gate]}, new: {}}\n"
    )
    assert "3 services, version 1." in call("services", "apply", "a.yaml", *where).output
    dry = call("services", "apply", "b.yaml", "--dry-run", *where)
    assert "It would become version 2." in dry.output
    assert "is active already (version 1)" in call("services", "apply", "a.yaml", *where).output
    applied = call("services", "apply", "b.yaml", *where)
    assert [line.split() for line in applied.output.splitlines()[:4]] == [
        ["~", "api", "aliases:", "none", ">", "gate"],
        ["+", "new"],
        ["-", "old"],
        ["~", "web", "owner:", "team-web", ">", "team-shop"],
    ]
    again = Pipeline(pipeline.folder)
    again.run()
    again.close()
    active = SqliteDesk(pipeline.folder).active(CATALOGUE.name)
    assert active is not None
    assert active.version == 2
    shown = call("services", "show", "gate", *where).output
    assert re.search(r"service +api\n", shown)
    assert re.search(r"needed by +web\n", shown)
    assert "version 2" in shown


def test_applying_warns_where_the_next_start_would_undo_it(pipeline: Pipeline) -> None:
    pipeline.close()
    Path("a.yaml").write_text("services: {web: {}}\n")
    Path("streamproc.yaml").write_text("services: b.yaml\n")
    answer = call("services", "apply", "a.yaml", "--data-dir", str(pipeline.folder))
    assert "the settings name b.yaml: the next start puts that one back" in answer.stderr


def test_check_of_a_catalogue() -> None:
    Path("good.yaml").write_text("services: {web: {destination: default, dashboards: [{href: 'https://x'}]}}\n")
    Path("streamproc.yaml").write_text(yaml.safe_dump(GOOD))
    good = call("services", "check", "good.yaml")
    assert (good.exit_code, good.output) == (0, "good.yaml: 1 service, 0 doubts.\n")
    Path("bad.yaml").write_text("services: {web: {destination: nowhere}}\n")
    bad = call("services", "check", "bad.yaml")
    assert bad.exit_code == 1
    assert "destination nowhere of service web has no routing key" in bad.output
    Path("worse.yaml").write_text("services: {web: {teer: 1}}\n")
    worse = call("services", "check", "worse.yaml")
    assert worse.exit_code == 2
    assert "services.web.teer: no such key" in worse.stderr


def test_showing_a_service_that_is_not_known(pipeline: Pipeline) -> None:
    pipeline.close()
    where = ("--data-dir", str(pipeline.folder))
    none = call("services", "show", "web", *where)
    assert none.exit_code == 2
    assert "no catalogue is active" in none.stderr
    Path("a.yaml").write_text("services: {web: {}}\n")
    call("services", "apply", "a.yaml", *where)
    other = call("services", "show", "mail", *where)
    assert other.exit_code == 2
    assert "has no service 'mail'; it has web" in other.stderr
