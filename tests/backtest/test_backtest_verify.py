"""Every page of a recorded night is derived again bit for bit; what was forged, trimmed or lost is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from streamproc.backtest.recorded import EmbeddedInboxes
from streamproc.backtest.verifying import (
    Claim,
    Derived,
    Difference,
    Finding,
    Place,
    Slice,
    check,
    check_upstream,
    claims_of,
    derive,
    first_difference,
    origin_of,
)
from streamproc.events.escalation import Escalation, Page
from streamproc.events.feedback import FeedbackKind
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.reports import skipped
from tests.backtest.living import OnEmbedded, held, live
from tests.backtest.nights import (
    SETTINGS,
    Night,
    count,
    edited,
    forge,
    incident,
    number,
    stamp,
    trim,
    trouble,
)
from tests.cli.playing import KEY, call


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """Commands configure logging for their process; no other test shall feel it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night") / "data"
    night = Night(folder)
    trouble(night)
    night.close()
    return folder


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the night, to be forged."""
    copy = tmp_path / "data"
    copy.mkdir()
    with edited(recorded) as db:
        db.execute("VACUUM INTO ?", (str(copy / "streamproc.db"),))
    return copy


def verify(folder: Path, *more: str, page: str = "") -> tuple[int, dict[str, Any]]:
    result = call("verify", page or incident(folder), "--data-dir", str(folder), "--json", *more)
    return result.exit_code, json.loads(result.output)


def findings(told: dict[str, Any]) -> list[str]:
    return [page["finding"] for page in told["pages"]]


# -- what is as it was -----------------------------------------------------------------------------------------------


def test_every_page_of_a_night_is_derived_again(recorded: Path) -> None:
    code, told = verify(recorded)
    assert (code, told["finding"]) == (0, "verified")
    assert [(page["action"], page["destination"]) for page in told["pages"]] == [
        ("trigger", "default"),
        ("trigger", "default"),  # an update
        ("trigger", "managers"),  # nobody acknowledged
        ("resolve", "default"),
        ("resolve", "managers"),
        ("trigger", "default"),  # it reopened
    ]
    assert set(findings(told)) == {"verified"}
    assert told["folded"]["records"] == count(recorded, "episodes")
    assert told["folded"]["start"] == 0
    assert all(page["receipt"]["config_version"] == 1 for page in told["pages"])


@pytest.mark.parametrize(
    ("ending", "numbers"),
    [
        pytest.param("/2", [3, 5], id="the dedup key of the second destination"),
        pytest.param("#1", [1], id="one page"),
        pytest.param("/2#5", [5], id="one page of the second destination"),
    ],
)
def test_a_page_is_found_by_its_name(recorded: Path, ending: str, numbers: list[int]) -> None:
    code, told = verify(recorded, page=f"{incident(recorded)}{ending}")
    assert code == 0
    assert [page["number"] for page in told["pages"]] == numbers


def test_an_incident_is_found_by_its_hash(recorded: Path) -> None:
    code, told = verify(recorded, page=incident(recorded).rpartition(":")[2])
    assert (code, told["incident_id"]) == (0, incident(recorded))


@pytest.mark.parametrize(
    ("page", "said"),
    [
        pytest.param("in:v1:prod:-:0000000000000000", "no incident is called", id="no such incident"),
        pytest.param("in:v1", "could be", id="several incidents"),
        pytest.param("#x", "is the number of a page", id="no number"),
    ],
)
def test_what_names_no_page_is_said(recorded: Path, tmp_path: Path, page: str, said: str) -> None:
    night = Night(tmp_path / "two")
    night.activate("config", SETTINGS)
    night.arm()
    night.alert("DatabaseDown", service="db")
    night.alert("MailDown", service="mail")
    night.close()
    result = call("verify", page, "--data-dir", str(tmp_path / "two"))
    assert (result.exit_code, said in result.output) == (2, True)
    missing = call("verify", f"{incident(recorded)}#9", "--data-dir", str(recorded))
    assert (missing.exit_code, "has no such page" in missing.output) == (2, True)


def test_an_incident_that_nothing_was_said_about_has_no_page(tmp_path: Path) -> None:
    night = Night(tmp_path / "data")
    night.activate("config", SETTINGS)
    night.arm()
    night.alert("DiskWillFill", service="db", severity="info")
    night.close()
    result = call("verify", "in:v1:prod", "--data-dir", str(tmp_path / "data"))
    assert (result.exit_code, "nothing was said about" in result.output) == (2, True)


def test_what_people_did_is_in_the_slice(tmp_path: Path) -> None:
    night = Night(tmp_path / "data")
    night.activate("config", SETTINGS)
    night.arm()
    night.alert("DatabaseDown", service="db", severity="error")
    night.tell()
    name = incident(night.folder)
    night.feedback(name, FeedbackKind.ACKNOWLEDGED)
    night.advance(minutes=6)
    night.alert("DiskFull", service="db", severity="critical")  # worse, with an alert of its own
    night.tell()
    night.close()
    code, told = verify(night.folder)
    assert (code, [page["dedup_key"] for page in told["pages"]]) == (0, [name, f"{name}/critical"])


def test_what_never_had_to_be_sent_is_verified(tmp_path: Path) -> None:
    night = Night(tmp_path / "data")
    night.activate("config", SETTINGS)
    night.arm()
    night.alert("DatabaseDown", service="db")
    night.alert("DatabaseDown", "resolved", service="db")
    records = night.journal.read("escalations", 0, 0, 100)
    said = [Escalation.decode(one.value, {}) for one in records if one.headers["type"] == b"escalation.v1"]
    night.put("escalations", skipped(said[-1], night.clock.now()), KEY)
    night.close()
    code, told = verify(night.folder)
    assert (code, [page["action"] for page in told["pages"]]) == (0, ["trigger", "resolve"])


def test_everything_that_a_running_pipeline_said_is_derived_again(tmp_path: Path) -> None:
    runtime = OnEmbedded(tmp_path / "data")
    with runtime.running():
        live(runtime)
    with EmbeddedInboxes(tmp_path / "data") as inboxes:
        records = held(inboxes, "escalations", 0)
        said = [Escalation.decode(one.value, {}) for one in records if one.headers["type"] == b"escalation.v1"]
        names = {one.incident_id for one in said if one.incident_id.startswith("in:v1:")}
        checked = []
        for name in sorted(names):
            claims = claims_of(inboxes, name, ())
            until = max(claim.origin.offset for claim in claims if claim.origin is not None) + 1
            derived = derive(inboxes, name, 0, until)
            checked += [check(claim, derived) for claim in claims]
            assert check_upstream(inboxes, derived.episodes).finding is Finding.VERIFIED
    assert len(names) > 1
    assert len(checked) > len(names)
    assert {one.finding for one in checked} == {Finding.VERIFIED}
    assert len({one.receipt for one in checked}) > 2


def test_the_slice_itself_follows_from_the_requests(recorded: Path) -> None:
    code, told = verify(recorded, "--deep")
    assert (code, told["upstream"]["finding"]) == (0, "verified")


# -- what was forged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "old", "new", "where"),
    [
        pytest.param("pages", "DatabaseDown of db", "Nothing of db", "page.summary", id="what the page says"),
        pytest.param("pages", '"critical","summary"', '"warning","summary"', "page.severity", id="how bad it was"),
        pytest.param("pages", '\\"component\\":\\"db\\"', '\\"component\\":\\"no\\"', "page.body", id="the request"),
        pytest.param("pages", '"body":"{', '"body":" {', "page.body, in its bytes", id="the request's bytes"),
        pytest.param("pages", '"body":"{', '"body":"[', "page.body", id="a request that is none"),
        pytest.param("pages", '"reason":"severity"', '"reason":"worse"', "page.trail", id="a reason"),
        pytest.param("pages", '"config_version":1', '"config_version":7', "page.receipt", id="a receipt"),
        pytest.param("escalations", f'"routing_key":"{KEY}"', f'"routing_key":"{KEY[:-1]}x"', "routing_key", id="key"),
        pytest.param("escalations", '"scope":"prod:-"', '"scope": "prod:-"', "bytes", id="only the bytes"),
    ],
)
def test_a_forged_page_is_found(folder: Path, topic: str, old: str, new: str, where: str) -> None:
    if topic == "escalations":  # the outcome behind it is what the sender said, and derived from nothing
        with edited(folder) as db:
            db.execute("DELETE FROM log WHERE topic=? AND CAST(headers AS TEXT) LIKE '%outcome%'", (number(db, topic),))
    forge(folder, topic, old, new)
    code, told = verify(folder)
    assert (code, told["finding"]) == (1, "differs")
    assert findings(told)[:5] == ["verified"] * 5
    assert where in told["pages"][5]["difference"]["where"]
    assert KEY[:-1] not in json.dumps(told)


def test_a_forged_header_is_found(folder: Path) -> None:
    with edited(folder) as db:
        db.execute(
            "DELETE FROM log WHERE topic=? AND off>=?", (number(db, "escalations"), count(folder, "escalations") - 1)
        )
    stamp(folder, "escalations", "now", "2026-03-01T13:00:00+00:00")
    code, told = verify(folder)
    assert (code, told["pages"][5]["difference"]["where"]) == (1, "escalation, header.now")


def test_a_page_that_nobody_decided_is_found(folder: Path) -> None:
    forge(folder, "pages", '"seq":6', '"seq":60')
    code, told = verify(folder)
    assert (code, told["pages"][-1]["number"], told["pages"][-1]["finding"]) == (1, 60, "differs")


def test_a_forged_inbox_is_found_by_what_it_would_have_said(folder: Path) -> None:
    forge(folder, "episodes", "DatabaseDown of db", "DatabaseFine of db")
    assert verify(folder)[0] == 1


def test_a_forged_slice_that_agrees_with_its_pages_is_found_from_the_requests(folder: Path) -> None:
    with edited(folder) as db:
        at = number(db, "alerts")
        db.execute(
            "UPDATE log SET value=replace(CAST(value AS TEXT), 'of checkout', 'of nothing') WHERE topic=?", (at,)
        )
    code, told = verify(folder, "--deep")
    assert (code, told["upstream"]["finding"]) == (1, "differs")
    assert "is not what deduplicate makes of alerts/0/" in told["upstream"]["why"]


def test_a_slice_that_names_no_source_is_found(folder: Path) -> None:
    forge(folder, "episodes", '"origin":"alerts/0/', '"origin":"nowhere/0/')
    code, told = verify(folder, "--deep")
    assert code == 1
    assert "does not name the record of alerts it is from" in told["upstream"]["why"]


# -- what is gone ----------------------------------------------------------------------------------------------------


def test_a_log_that_was_trimmed_before_the_incident_still_verifies(tmp_path: Path) -> None:
    night = Night(tmp_path / "data")
    night.activate("config", SETTINGS)
    night.arm()
    night.alert("MailDown", service="mail")
    night.advance(hours=2)
    first = count(night.folder, "episodes")
    night.alert("DatabaseDown", service="db")
    night.tell()
    night.close()
    trim(night.folder, "episodes", first)
    with edited(night.folder) as db:
        found = db.execute("SELECT CAST(key AS TEXT) FROM log WHERE topic=? ORDER BY off DESC", (number(db, "pages"),))
        name = str(found.fetchone()[0])
    code, told = verify(night.folder, page=name)
    assert (code, told["folded"]["start"]) == (0, first)
    code, told = verify(night.folder, page=incident(night.folder))
    assert (code, findings(told)) == (6, ["cannot be told"])
    assert "is gone: the log begins at offset" in told["pages"][0]["why"]


def test_a_log_that_was_trimmed_within_the_incident_cannot_tell(folder: Path) -> None:
    trim(folder, "episodes", 4)
    code, told = verify(folder)
    assert (code, told["finding"]) == (6, "cannot be told")
    assert "it depends on older records, which are gone" in told["pages"][3]["why"]


def test_pages_are_verified_without_the_escalations(folder: Path) -> None:
    trim(folder, "escalations", count(folder, "escalations"))
    assert verify(folder)[0] == 0


def test_an_escalation_is_verified_before_anything_is_sent(folder: Path) -> None:
    trim(folder, "pages", count(folder, "pages"))
    shown = call("verify", incident_by_row(folder), "--data-dir", str(folder))
    assert shown.exit_code == 0
    assert "The escalation came out the same, bit for bit." in shown.output


def incident_by_row(folder: Path) -> str:
    return SqliteDesk(folder).matching("in:v1")[0]


def test_a_version_that_is_gone_is_named(folder: Path) -> None:
    with edited(folder) as db:
        db.execute("DELETE FROM log WHERE topic=? AND CAST(key AS TEXT) LIKE 'config/%'", (number(db, "versions"),))
    code, told = verify(folder)
    assert (code, set(findings(told))) == (6, {"cannot be told"})
    assert "the log does not hold version config 1" in told["pages"][0]["why"]
    assert told["folded"]["missing"] == ["config 1"]
    shown = call("verify", incident(folder), "--data-dir", str(folder))
    assert "versions that the log does not hold: config 1" in shown.output


def test_a_version_that_is_gone_and_did_not_matter_does_not_matter(tmp_path: Path) -> None:
    night = Night(tmp_path / "data")
    night.activate("catalogue", {"services": {"mail": {"owner": "old"}}})
    night.activate("config", SETTINGS)
    night.arm()
    night.alert("DatabaseDown", service="db")
    night.tell()
    night.close()
    with edited(night.folder) as db:
        db.execute("DELETE FROM log WHERE topic=? AND CAST(key AS TEXT) LIKE 'catalogue/%'", (number(db, "versions"),))
    code, told = verify(night.folder)
    assert (code, findings(told), told["folded"]["missing"]) == (6, ["cannot be told"], ["catalogue 1"])


def test_upstream_that_is_gone_is_said(folder: Path) -> None:
    trim(folder, "alerts", 4)
    code, told = verify(folder, "--deep")
    assert (code, told["upstream"]["finding"]) == (6, "cannot be told")
    assert "is gone: that log begins at offset 4" in told["upstream"]["why"]


def test_upstream_that_depends_on_what_is_gone_cannot_be_told(folder: Path) -> None:
    trim(folder, "alerts.raw", 1)
    forge(folder, "alerts", "DatabaseDown of db", "DatabaseFine of db")
    forge(folder, "episodes", "DatabaseDown of db", "DatabaseFine of db")
    code, told = verify(folder, "--deep")
    assert code == 1
    assert told["upstream"]["finding"] == "cannot be told"


# -- what people read ------------------------------------------------------------------------------------------------


def test_a_person_reads_what_differs(folder: Path) -> None:
    forge(folder, "pages", "DatabaseDown of db", "Nothing of db" + "x" * 400)
    shown = call("verify", incident(folder), "--data-dir", str(folder), "--deep").output
    assert "DIFFERS  DatabaseDown of db" in shown
    assert "Was streamproc upgraded since?" in shown
    assert "`page.summary` is not what follows." in shown
    assert "folding says : DatabaseDown of db" in shown
    assert "5 records of the incident's members: every one of them follows from the requests" in shown
    assert "9 records of episodes/0, from the beginning of the log" in shown


def test_explain_shows_the_number_of_a_page(recorded: Path) -> None:
    shown = call("explain", incident(recorded), "--data-dir", str(recorded)).output
    assert " · #6" in shown


# -- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "derived", "expected"),
    [
        pytest.param({"a": 1}, {"a": 1}, None, id="the same"),
        pytest.param({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ("x.a.b[1]", 2, 3), id="deep"),
        pytest.param({}, {"a": 1}, ("x.a", None, 1), id="something is lacking"),
        pytest.param([1], [1, 2], ("x", [1], [1, 2]), id="another length"),
        pytest.param(
            {"routing_key": "abcdefgh"},
            {"routing_key": "12345678"},
            ("x.routing_key", "...efgh", "...5678"),
            id="a secret",
        ),
    ],
)
def test_the_first_difference(held: Any, derived: Any, expected: tuple[str, Any, Any] | None) -> None:
    assert first_difference(held, derived, "x") == (None if expected is None else Difference(*expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("episodes/3/12", Place("episodes", 3, 12), id="a record"),
        pytest.param("alerts.raw/0/7", Place("alerts.raw", 0, 7), id="a name with a dot"),
        pytest.param("episodes/0/-1", None, id="before the log"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_origins(text: str, expected: Place | None) -> None:
    assert origin_of(text) == expected


def test_what_no_record_made_cannot_be_told(recorded: Path) -> None:
    with EmbeddedInboxes(recorded) as inboxes:
        view = SqliteDesk(recorded).incident(incident(recorded))
        assert view is not None
        (claim, *_) = claims_of(inboxes, incident(recorded), view.pages)
        derived = derive(inboxes, incident(recorded), 0, 4)
    page: Page = claim.pages[0].model_copy(update={"trail": ()})
    checked = check(Claim(claim.seq, None, None, (page,)), derived)
    assert (checked.finding, "the sender itself" in checked.why) == (Finding.UNTOLD, True)
    lost = Derived(Slice(0, 0, None, 0, ("model 4",)))
    assert check(claim, lost).why == "the log does not hold version model 4"
