"""The scenarios: what comes in when, and what PagerDuty must have been told; the same for every runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from streamproc.events.feedback import FeedbackKind, PolicyKind
from streamproc.events.incident import Action
from tests.support.play import (
    Play,
    Runtime,
    acknowledge,
    alert,
    between,
    change,
    never,
    once,
    page,
    resolve,
    twice,
    update,
)

SHOP: dict[str, dict[str, Any]] = {
    "checkout": {"depends_on": ["payments"], "tier": 1},
    "payments": {"depends_on": ["db"]},
    "db": {"destination": "database", "second_destination": "second"},
    "search": {},
}
DB = alert("db-1 down", "db")
OTHERS = 40
"""So many alerts are in every partition of `alerts`."""
Told = Callable[[Play], None]


@dataclass(frozen=True)
class Scenario:
    """One scenario, and how it begins."""

    told: Told
    armed: bool

    @property
    def name(self) -> str:
        """What it shows."""
        return self.told.__name__.replace("_", " ")

    def play(self, runtime: Runtime) -> None:
        """Play it on a runtime that nothing was played on."""
        self.told(Play(runtime, armed=self.armed).services(**SHOP))


SCENARIOS: list[Scenario] = []


def armed(told: Told) -> Told:
    """List a scenario that is armed from its beginning."""
    SCENARIOS.append(Scenario(told, armed=True))
    return told


def dry(told: Told) -> Told:
    """List a scenario that begins in the dry run."""
    SCENARIOS.append(Scenario(told, armed=False))
    return told


@armed
def one_page_for_a_cascade_over_dependencies(play: Play) -> None:
    """The database goes first; what needs it, and what needs that, follows: one incident, and one page that grows."""
    play.at("1m").push(DB)
    play.at("2m").push(alert("payments 5xx", "payments", "error"))
    play.at("3m").push(alert("checkout slow", "checkout", "error"))
    play.at("3m").push(alert("search slow", "search", "error"))
    play.want(between("0m", "4m"), page("", "database"), once)
    play.want(between("0m", "5m"), update("", "database"), never)
    play.want(between("5m", "7m"), update("db-1 down (+2 more)", "database"), once)
    play.want(between("0m", "4m"), page("search slow", "default"), once)
    assert len({incident.incident_id for incident in play.incidents()}) == 2


@armed
def what_comes_in_again_and_again_pages_once(play: Play) -> None:
    play.at("0m").push(DB)
    for minute in (4, 8, 12):
        play.at(f"{minute}m").push(DB)
    play.want(between("0m", "1m"), page("db-1"), once)
    play.want(between("0m", "20m"), page("db-1", "database"), once)
    play.want(between("0m", "20m"), update(), never)


@armed
def both_of_a_high_availability_pair_are_one(play: Play) -> None:
    play.at("0m").push(DB)
    play.at("0m").push(DB)
    play.at("30s").push(DB)
    play.at("5m").push(DB.resolved)
    play.at("5m").push(DB.resolved)
    play.want(between("0m", "10m"), page("db-1"), once)
    play.want(between("5m", "5m"), resolve("db-1"), once)
    play.want(between("0m", "10m"), resolve("db-1"), once)


@armed
def a_flap_after_the_resolve_is_held_until_it_lasts(play: Play) -> None:
    disk = alert("disk latency", "search", "error")
    play.at("0m").push(disk)
    play.at("5m").push(disk.resolved)
    play.at("6m").push(disk)
    play.at("7m").push(disk.resolved)
    play.at("8m").push(disk)
    play.want(between("5m", "9m"), page("disk"), never)
    play.want(between("9m", "11m"), page("disk"), once)
    play.want(between("0m", "20m"), resolve("disk"), once)


@armed
def a_critical_flap_is_not_held(play: Play) -> None:
    play.at("0m").push(DB)
    play.at("5m").push(DB.resolved)
    play.at("6m").push(DB)
    play.want(between("6m", "6m"), page("db-1"), once)


@armed
def what_is_silenced_pages_when_the_silence_ends_and_it_still_fires(play: Play) -> None:
    play.at("0m").silence("maintenance-1", until="30m", service="db")
    play.at("5m").push(DB)
    play.at("6m").push(alert("search down", "search"))
    play.want(between("0m", "29m"), page("db-1"), never)
    play.want(between("6m", "6m"), page("search"), once)
    play.want(between("29m", "31m"), page("db-1"), once)


@armed
def what_is_withdrawn_mutes_no_more(play: Play) -> None:
    play.at("0m").silence("s", until="3h", kind=PolicyKind.MAINTENANCE, service="db")
    play.at("5m").push(DB)
    play.at("10m").withdraw("s", PolicyKind.MAINTENANCE)
    play.want(between("0m", "9m"), page("db-1"), never)
    play.want(between("10m", "10m"), page("db-1"), once)


@armed
def a_resolve_passes_though_its_alert_is_muted(play: Play) -> None:
    play.at("0m").push(DB)
    play.at("5m").silence("s", until="3h", service="db")
    play.at("10m").push(DB.resolved)
    play.want(between("0m", "1m"), page("db-1"), once)
    play.want(between("10m", "10m"), resolve("db-1", "database"), once)
    play.want(between("5m", "4h"), page("db-1"), never)


@armed
def what_nobody_acknowledges_goes_to_the_second_destination(play: Play) -> None:
    play.at("0m").push(DB)
    play.want(between("0m", "14m"), page("db-1", "second"), never)
    play.want(between("15m", "16m"), page("db-1", "second"), once)
    play.at("20m").respond("db-1")
    play.want(between("20m", "20m"), acknowledge("db-1"), twice)
    play.at("30m").push(DB.resolved)
    play.want(between("30m", "30m"), resolve("db-1", "database"), once)
    play.want(between("30m", "30m"), resolve("db-1", "second"), once)


@armed
def what_somebody_acknowledges_stays_where_it_is(play: Play) -> None:
    play.at("0m").push(DB)
    play.at("5m").respond("db-1")
    play.want(between("0m", "2h"), page("db-1", "second"), never)
    play.want(between("0m", "2h"), acknowledge("db-1"), never)
    told = play.incidents()[-1].decision
    assert told is not None
    assert told.acknowledged_by == "ann"


@armed
def what_is_given_back_goes_to_the_second_destination_after_all(play: Play) -> None:
    play.at("0m").push(DB)
    play.at("5m").respond("db-1")
    play.at("20m").respond("db-1", FeedbackKind.UNACKNOWLEDGED)
    play.want(between("0m", "34m"), page("db-1", "second"), never)
    play.want(between("35m", "36m"), page("db-1", "second"), once)


@armed
def what_gets_worse_is_said_again_at_the_same_place(play: Play) -> None:
    lag = alert("replication lag", "search", "error", resource="db-2")
    play.at("0m").push(lag)
    play.at("5m").push(alert("replication lag", "search", "critical", resource="db-2"))
    play.want(between("0m", "4m"), page("replication lag"), once)
    play.want(between("5m", "5m"), update("replication lag"), once)
    play.want(between("0m", "10m"), page(), once)


@dry
def nothing_is_paged_in_a_dry_run_and_arming_adopts_with_one_change_event(play: Play) -> None:
    play.at("0m").push(DB)
    play.at("1m").push(alert("search down", "search"))
    play.want(between("0m", "30m"), page(), never)
    noted = [incident.decision for incident in play.incidents()]
    assert all(decision is not None and decision.action is Action.PAGE and decision.dry_run for decision in noted)
    play.at("30m").arm()
    play.at("31m").push(DB)
    play.want(between("30m", "31m"), change("2 incidents"), once)
    play.want(between("30m", "60m"), page(), never)
    play.at("60m").push(alert("kafka down", "payments-queue"))
    play.want(between("60m", "60m"), page("kafka down"), once)


@dry
def what_was_adopted_pages_when_it_gets_worse(play: Play) -> None:
    play.at("0m").push(alert("queue long", "search", "error", queue="a"))
    play.at("30m").arm()
    play.at("40m").push(alert("queue long", "search", "error", queue="a"))
    play.at("50m").push(alert("queue long", "search", "critical", queue="a"))
    play.want(between("0m", "45m"), page(), never)
    play.want(between("50m", "50m"), page("queue long"), once)


@armed
def a_resolve_that_overtakes_its_alert_opens_nothing(play: Play) -> None:
    """Bridges without keys reorder: the resolve of a short alert arrives first, the firing one a moment later."""
    play.at("0m")
    short = alert("db-1 down", "db", since="60s")
    play.push(short.resolved)
    play.at("10s").push(alert("db-1 down", "db", since="70s"))
    play.want(between("0m", "1h"), page("db-1"), never)


@armed
def a_firing_repeat_that_comes_after_the_resolve_opens_nothing(play: Play) -> None:
    play.at("0m").push(DB)
    play.at("5m").push(DB.resolved)
    play.at("5m").push(alert("db-1 down", "db", since="5m"))
    play.want(between("0m", "4m"), page("db-1"), once)
    play.want(between("5m", "2h"), page("db-1"), never)
    play.want(between("0m", "2h"), resolve("db-1"), once)


@armed
def a_late_resolve_of_an_older_occurrence_leaves_the_newer_one_open(play: Play) -> None:
    play.at("0m").push(DB)
    play.at("6m").push(replace(DB, since="0s"))
    play.at("7m").push(replace(DB.resolved, since="7m", ended="2m"))
    play.want(between("0m", "10m"), page("db-1"), once)
    play.want(between("0m", "1h"), resolve("db-1"), never)
    play.at("1h").push(replace(DB.resolved, since="54m"))
    play.want(between("1h", "1h"), resolve("db-1", "database"), once)


@armed
def a_resolve_hours_later_finds_its_page(play: Play) -> None:
    play.at("0m").push(DB)
    for hour in (4, 8):
        play.at(f"{hour}h").push(DB)
    play.at("10h").push(DB.resolved)
    play.want(between("0h", "11h"), page("db-1", "database"), once)
    play.want(between("10h", "10h"), resolve("db-1", "database"), once)


@armed
def an_alert_that_its_source_forgets_is_closed_in_the_end(play: Play) -> None:
    play.at("0m").push(DB)
    play.want(between("1m", "10h"), resolve("db-1"), never)
    # The source is heard, only not about this alert. About several others: each partition hears for itself.
    play.at("10h").push(*(alert(f"search slow {number}", "search", "info") for number in range(OTHERS)))
    play.want(between("10h", "11h"), resolve("db-1"), never)
    play.want(between("12h", "13h"), resolve("db-1", "database"), once)
    play.at("14h").push(DB.resolved)
    play.want(between("0m", "15h"), resolve("db-1", "database"), once)


@armed
def a_destination_stays_pinned_whatever_the_catalogue_says_later(play: Play) -> None:
    play.at("0m").push(DB)
    play.at("5m").services(db={"destination": "default"})
    play.at("10m").push(DB.resolved)
    play.want(between("0m", "1m"), page("db-1", "database"), once)
    play.want(between("10m", "10m"), resolve("db-1", "database"), once)
    play.want(between("0m", "1h"), resolve("db-1", "default"), never)


@armed
def newer_settings_page_nobody_and_leave_open_incidents_as_they_were(play: Play) -> None:
    play.configure(escalate={"page": ["critical"], "ticket": []})
    play.at("0m").push(alert("db-1 slow", "db", "error"))
    play.at("1m").configure(escalate={"page": ["critical", "error"]}).services(db={"destination": "default"})
    play.at("2m").push(alert("db-2 slow", "db", "error"))
    play.want(between("0m", "10m"), page(""), never)
    play.at("10m").push(alert("search slow", "search", "error"))
    play.want(between("10m", "11m"), page("search"), once)
    play.at("12m").push(DB)
    play.want(between("12m", "13m"), page("db-1 slow", "database"), once)


@armed
def the_chain_of_reasons_goes_from_the_raw_alert_to_the_page(play: Play) -> None:
    play.at("0m").push(DB)
    (told,) = play.pages()
    assert [link.stage for link in told.trail] == [
        "normalise",
        "deduplicate",
        "correlate",
        "suppress",
        "enrich",
        "classify",
        "escalate",
        "deliver",
    ]
    (raw,) = (record for record in play.runtime.records("alerts.raw") if record.headers["type"] == b"raw-alert.v1")
    assert told.trail[0].origin == raw.origin
    assert all(link.now - play.start < timedelta(seconds=1) for link in told.trail)
    assert told.receipt is not None
    assert (told.receipt.config_version, told.receipt.catalogue_version) == (1, 1)
