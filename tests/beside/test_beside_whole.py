"""streamproc beside an existing route, the whole of it: the emulator as PagerDuty, the report against what is known."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stamina
import yaml
from typer.testing import CliRunner

from streamproc.beginning import arming
from streamproc.beside.book import Book
from streamproc.beside.making import make
from streamproc.beside.report import Fate, Report
from streamproc.cli import app
from streamproc.commands.beside import beside_of, read_first
from streamproc.commands.reasons import sentence
from streamproc.core.errors import Unusable
from streamproc.emulator.account import Deed, Incident
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.faults import Fault, FaultKind
from streamproc.events.feedback import Matcher, Policy, PolicyKind
from streamproc.events.incident import Action
from streamproc.events.raw import RawAlert
from streamproc.ports import Entry
from streamproc.service import Running, running
from streamproc.settings import Settings
from tests.beside.routes import event, page
from tests.embedded.pipelines import body
from tests.service.standing import free_port, now_alert, pagerduty, settings_of, until

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1, cap=True):
        yield


@dataclass
class Beside:
    """A pipeline beside an existing route, and its PagerDuty."""

    pipeline: Running
    emulator: Emulator
    url: str
    settings: Settings
    folder: Path

    async def fire(self, name: str, service: str, *, severity: str = "critical", theirs: str = "text") -> None:
        """Let an alert fire; `theirs` is how the existing route tells it to PagerDuty, empty where it does not."""
        told = now_alert(name, service, severity=severity)
        if theirs:
            await page(self.url, event(told, form="json" if theirs == "json" else "text"))
        await self.pipeline.runtime.append([raw(told)])

    async def known(self, count: int) -> None:
        """Wait until so many alerts are in an incident."""
        await until(lambda: sum(one.total_count for one in self.pipeline.desk.incidents("all", 100)) == count)

    def incident(self, name: str) -> Incident:
        return next(one for one in self.emulator.account.incidents.values() if name in one.title)

    def act(self, name: str, deed: Deed, value: str = "") -> None:
        self.emulator.act(self.incident(name), deed, "Dana Ruiz", value)

    async def report(self, *, later: timedelta = timedelta(minutes=6)) -> Report:
        """Return the report of the last hour, made a little later: by then every alert has had its time to arrive."""
        now, book = datetime.now(UTC), Book(self.folder)
        await read_first(self.settings, book, now)
        end = now + later
        return await asyncio.to_thread(make, book, self.pipeline.desk, (end - HOUR, end), end, sentence)


def raw(*alerts: Any) -> Entry:
    return Entry.of("alerts.raw", RawAlert(body=body(*alerts), source="alertmanager"))


@asynccontextmanager
async def beside(tmp_path: Path, *, key: str = "key", webhooks: bool = False) -> AsyncIterator[Beside]:
    """Run a pipeline beside an existing route, as `run --beside` does."""
    port, folder = free_port(), tmp_path / "data"
    hook = f"http://127.0.0.1:{port}/v1/feedback/pagerduty" if webhooks else ""
    async with pagerduty(webhook_url=hook) as (emulator, url):
        settings = settings_of(url, folder, port)
        rest = settings.pagerduty.rest.model_validate(
            {"base_url": url, "api_key": key, "retry_config": {"max_attempts": 1}}
        )
        settings = settings.model_copy(update={"pagerduty": settings.pagerduty.model_copy(update={"rest": rest})})
        async with beside_of(settings, folder, partial(running, settings, folder, armed=False))() as standing:
            yield Beside(standing, emulator, url, settings, folder)


async def a_week(stand: Beside) -> None:
    """Let all happen that can."""
    mute = Policy(
        policy_id="quiet-batch",
        kind=PolicyKind.SILENCE,
        version=1,
        matchers=(Matcher(name="alertname", op="=", value="BatchSlow"),),
        starts_at=datetime.now(UTC) - HOUR,
        ends_at=datetime.now(UTC) + HOUR,
        author="kim",
    )
    await stand.pipeline.runtime.append([Entry.of("policies", mute)])
    await stand.fire("DatabaseDown", "db")
    await stand.known(1)
    await stand.fire("ReplicaLag", "db", theirs="json")
    await stand.fire("DiskFilling", "node", severity="warning")
    await stand.fire("BackupLate", "backup", severity="warning")
    await stand.fire("BatchSlow", "batch")
    await stand.fire("OnlyOurs", "search", theirs="")
    await stand.known(6)
    await page(stand.url, event(now_alert("LegacyProbe", "legacy")))
    stand.act("DatabaseDown", Deed.ACKNOWLEDGE)
    stand.act("DiskFilling", Deed.ACKNOWLEDGE)
    stand.act("DiskFilling", Deed.RESOLVE)
    stand.act("LegacyProbe", Deed.ANNOTATE, "rebooted it")
    stand.act("BatchSlow", Deed.PRIORITY, "P1")


def fates(report: Report) -> dict[str, Fate]:
    return {one.title.split()[1]: one.fate for one in report.judged}


async def test_the_report_says_what_is_known_to_have_happened(tmp_path: Path) -> None:
    async with beside(tmp_path) as stand:
        await a_week(stand)
        report = await stand.report()
    assert report.gaps == ()
    assert fates(report) == {
        "DatabaseDown": Fate.OURS_TOO,
        "ReplicaLag": Fate.MERGED,
        "DiskFilling": Fate.QUIET,
        "BackupLate": Fate.QUIET,
        "BatchSlow": Fate.QUIET,
        "LegacyProbe": Fate.UNKNOWN,
    }
    assert {one.confidence for one in report.judged if one.fate is not Fate.UNKNOWN} == {"certain"}
    told = {one.title.split()[1]: one for one in report.missed}
    assert set(told) == {"DiskFilling", "BatchSlow", "LegacyProbe"}
    assert (told["DiskFilling"].action, told["DiskFilling"].reason) == (Action.TICKET, "severity")
    assert told["DiskFilling"].acts == "acknowledge by Dana Ruiz, resolve by Dana Ruiz"
    assert told["BatchSlow"].why == "Nothing with us. All that fires is muted. By quiet-batch."
    assert [link.stage for link in told["BatchSlow"].chain][-1] == "escalate"
    assert "continue: true" in told["LegacyProbe"].mend
    assert [one.title for one in report.extra] == ["OnlyOurs of search"]
    assert report.counts.model_dump(exclude={"low_urgency", "by_hand", "ours_at_pagerduty"}) == {
        "theirs": 6,
        "ours": 2,
        "ours_too": 1,
        "merged": 1,
        "quiet": 3,
        "unknown": 1,
        "acted": 4,
        "needless": 2,
        "needless_ours_too": 0,
        "unread": 0,
    }
    assert report.headline.startswith("You were paged 6 times; we would have paged 2; we would have missed 3 (1 never")
    assert report.lead is not None
    assert (report.lead.count, abs(report.lead.latest) < 60) == (1, True)


async def test_nothing_is_ever_delivered_even_where_somebody_arms_it(tmp_path: Path) -> None:
    async with beside(tmp_path) as stand:
        policy = arming(2, datetime.now(UTC), author="kim", adopt=False)
        await stand.pipeline.runtime.append([Entry.of("policies", policy)])
        await until(lambda: stand.pipeline.desk.status().armed)
        await stand.fire("DatabaseDown", "db", theirs="")
        await until(lambda: stand.pipeline.desk.status().waiting_to_send == 1)
        assert not stand.emulator.requests


async def test_it_survives_a_restart_and_reads_what_happened_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with beside(tmp_path) as stand:
        await stand.fire("DatabaseDown", "db")
        await stand.known(1)
        assert fates(await stand.report()) == {"DatabaseDown": Fate.OURS_TOO}
        first = Book(folder).moment("began")
    assert Book(folder).moment("began") == first
    kept = Book(folder).pages(datetime.now(UTC) - HOUR, datetime.now(UTC))
    assert [page_.title.split()[1] for page_ in kept] == ["DatabaseDown"]


def away(emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind=FaultKind.STATUS_500, action="rest"))


def limited(emulator: Emulator) -> None:
    emulator.rest_limit = 0


def other_key(emulator: Emulator) -> None:
    emulator.config = emulator.config.model_copy(update={"api_key": "another"})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(away, "500", id="away"),
        pytest.param(limited, "429", id="limited"),
        pytest.param(other_key, "PAGERDUTY_API_KEY", id="a key that is none"),
    ],
)
async def test_where_pagerduty_cannot_be_read_the_report_says_so(
    tmp_path: Path, harm: Callable[[Emulator], None], said: str
) -> None:
    async with beside(tmp_path) as stand:
        await until(lambda: Book(stand.folder).moment("read") is not None)
        await stand.fire("DatabaseDown", "db")
        await stand.known(1)
        harm(stand.emulator)
        report = await stand.report()
    assert report.counts.theirs == 0
    assert report.headline.startswith("As far as is known: you were paged 0 times; we would have paged 1")
    assert "could not all be read" in report.gaps[0]
    assert said in report.gaps[0]


async def test_what_was_never_read_is_not_compared(tmp_path: Path) -> None:
    async with beside(tmp_path, key="") as stand:
        Book(stand.folder).set("error", "PagerDuty answered 401")
        await stand.fire("DatabaseDown", "db", theirs="")
        await stand.known(1)
        report = await stand.report()
    assert not report.known
    assert report.extra == ()
    assert report.headline == "PagerDuty's incidents are not known, so nothing is compared; we would have paged 1 time."
    assert report.gaps[0] == "PagerDuty's incidents were never read: PagerDuty answered 401"


async def test_details_that_cannot_be_read_leave_a_doubt(tmp_path: Path) -> None:
    async with beside(tmp_path) as stand:
        await until(lambda: Book(stand.folder).moment("read") is not None)
        await stand.fire("DiskFilling", "node", severity="warning")
        await stand.known(1)
        stand.emulator.rest_limit = len(stand.emulator.rest_requests) + 3  # the list, the incident, its alerts
        report = await stand.report()
    assert [one.title.split()[1] for one in report.doubtful] == ["DiskFilling"]
    assert report.missed == ()
    assert report.headline.endswith("we would have missed none; 1 more is in doubt.")


async def test_webhooks_alone_tell_enough_for_titles_and_times(tmp_path: Path) -> None:
    async with beside(tmp_path, key="", webhooks=True) as stand:
        await stand.fire("DatabaseDown", "db")
        await stand.fire("DiskFilling", "node", severity="warning")
        await stand.known(2)
        stand.act("DiskFilling", Deed.ACKNOWLEDGE)
        await stand.emulator.webhooks.drain()
        report = await stand.report()
    assert fates(report) == {"DatabaseDown": Fate.OURS_TOO, "DiskFilling": Fate.QUIET}
    assert {one.confidence for one in report.judged} == {"likely"}
    assert [one.acts for one in report.missed] == ["acknowledged by Dana Ruiz"]
    assert report.gaps == ("Known from webhooks only: they tell titles and times, and no details of alerts.",)


async def test_the_command_writes_each_form(tmp_path: Path) -> None:
    async with beside(tmp_path) as stand:
        await stand.fire("DiskFilling", "node", severity="warning")
        await stand.known(1)
        stand.act("DiskFilling", Deed.ACKNOWLEDGE)
        config = tmp_path / "streamproc.yaml"
        rest = {"base_url": stand.url, "api_key": "key", "retry_config": {"max_attempts": 1}}
        config.write_text(yaml.safe_dump({"pagerduty": {"rest": rest}}))

        async def run(*args: str) -> str:
            told = ["beside", "report", "--data-dir", str(stand.folder), "--config", str(config), *args]
            result = await asyncio.to_thread(CliRunner().invoke, app, told)
            assert result.exit_code == 0, result.output
            return result.output

        text = await run("--since", "12h")
        assert "we would have missed 1: #1 [FIRING:1] DiskFilling" in text
        assert "(acknowledge by Dana Ruiz)" in text
        assert json.loads(await run("--output", "json"))["counts"]["quiet"] == 1
        file = tmp_path / "week.html"
        assert f"Written: {file}" in await run("--output", "html", "--to", str(file))
        for args, said in (
            (("--since", "soon"), "write hours, days or weeks"),
            (("--to", str(tmp_path / "none" / "x")), "cannot be written"),
        ):
            told = ["beside", "report", "--data-dir", str(stand.folder), "--config", str(config), *args]
            result = await asyncio.to_thread(CliRunner().invoke, app, told)
            assert (result.exit_code, said in result.output) == (2, True), result.output
        assert "<h2>What would have been missed</h2>" in file.read_text()


async def test_an_armed_pipeline_does_not_run_beside(tmp_path: Path) -> None:
    async with pagerduty() as (_, url):
        settings = settings_of(url, tmp_path / "data")
        async with running(settings, tmp_path / "data", armed=True):
            pass
        with pytest.raises(Unusable, match="disarm"):
            async with running(settings, tmp_path / "data", armed=False, beside=True):
                pass


async def test_arming_is_refused_while_it_runs_beside_and_until_it_started_without(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    async def arm() -> Any:
        told = ["arm", "--data-dir", str(folder), "--yes"]
        return await asyncio.to_thread(CliRunner().invoke, app, told)

    async with pagerduty() as (_, url):
        settings = settings_of(url, folder)
        async with running(settings, folder, armed=False, beside=True) as pipeline:
            await until(lambda: bool(pipeline.desk.policies()))
            refused = await arm()
        assert (refused.exit_code, "without --beside" in refused.output) == (2, True)
        async with running(settings, folder, armed=False) as pipeline:
            assert (await arm()).exit_code == 0
            await until(lambda: pipeline.desk.status().armed)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(("run", "--beside", "--armed"), "exclude each other", id="armed and beside"),
        pytest.param(("worker", "--beside", "--armed"), "exclude each other", id="a worker"),
        pytest.param(("gateway", "--beside"), "--mirror", id="a gateway without a folder"),
        pytest.param(("beside", "report", "--data-dir", "nowhere"), "run --beside", id="nothing to report"),
    ],
)
def test_what_is_refused_at_the_command_line(args: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, [*args])
    assert result.exit_code == 2
    assert said in result.output


async def test_beside_without_any_way_in_is_refused(tmp_path: Path) -> None:
    settings = Settings()
    with pytest.raises(Unusable, match="PAGERDUTY_API_KEY"):
        async with beside_of(settings, tmp_path, partial(running, settings, tmp_path, armed=False))():
            pass


async def test_the_process_itself_refuses_without_any_way_in(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAGERDUTY_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamproc", "run", "--beside", "--port", "0", "--data-dir", str(tmp_path / "data"),
        cwd=tmp_path, env={**environment, "PYTHONPATH": str(Path.cwd())}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert (process.returncode, b"PAGERDUTY_API_KEY" in said) == (2, True), said
