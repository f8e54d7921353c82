from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from streamproc.advise.evidence import Page, Standing
from streamproc.advise.proposal import Candidate, Kind
from streamproc.advise.proposing import propose
from streamproc.events.alert import Severity
from streamproc.events.feedback import Matcher
from streamproc.services import Catalogue
from streamproc.settings import Settings
from tests.advise.pages import DAY, LENGTH, answered, at, daily, evidence, page

OWNED = Catalogue.model_validate(
    {"services": {name: {"owner": "sre"} for name in ("batch", "db", "queue", "edge", "portal", "api")}}
)


def found(pages: Iterable[Page], settings: dict[str, Any] | None = None, **more: Any) -> dict[Kind, list[Candidate]]:
    catalogue = more.pop("catalogue", OWNED)
    told: dict[Kind, list[Candidate]] = {}
    for each in propose(evidence(pages, **more), Settings.model_validate(settings or {}), catalogue, 50):
        told.setdefault(each.kind, []).append(each)
    return told


# -- needless ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        pytest.param([*daily(), *answered()], ["HighLoad"], id="never acted upon, while others are"),
        pytest.param([*daily(), *answered(2)], [], id="too few answers, so that no answer says nothing"),
        pytest.param(daily(needless=True), ["HighLoad"], id="said to be needless, though nobody else answers"),
        pytest.param([*daily(count=4), *answered()], [], id="too few pages"),
        pytest.param([*daily(first=6 * DAY + 10, count=3), *answered()], [], id="only in the last part"),
        pytest.param([*daily(), page(700, acted=True), *answered()], [], id="acted upon once"),
        pytest.param([*daily(), page(8.5 * DAY, acted=True), *answered()], [], id="acted upon in the last part"),
        pytest.param(
            [*daily(), page(700, service="api", acted=True), *answered()], [], id="acted upon at another service"
        ),
    ],
)
def test_needless_rules(pages: list[Page], expected: list[str]) -> None:
    needless = found(pages).get(Kind.NEEDLESS, [])
    assert [rule for each in needless for rule in each.rules] == expected


def test_a_rule_that_people_acted_upon_live_is_never_quieted() -> None:
    assert Kind.NEEDLESS in found([*daily(), *answered()])
    assert Kind.NEEDLESS not in found([*daily(), *answered()], rules=["HighLoad"])


@pytest.mark.parametrize(
    ("services", "settings", "when", "severity"),
    [
        pytest.param(["batch"], {}, '&& alert.service == "batch"', "warning", id="one service"),
        pytest.param(["a", "b"], {}, '&& alert.service in ["a", "b"]', "warning", id="two services"),
        pytest.param([f"s{n}" for n in range(11)], {}, "", "warning", id="so many that they are not named"),
        pytest.param(['q"'], {}, r'&& alert.service == "q\""', "warning", id="a quote in a name"),
        pytest.param(
            ["batch"], {"page": ["critical", "error", "warning"], "ticket": ["info"]}, '&& alert.service == "batch"',
            "info", id="warnings page, too",
        ),
        pytest.param(
            ["batch"], {"page": ["critical", "error"], "ticket": []}, '&& alert.service == "batch"', "warning",
            id="nothing makes a ticket",
        ),
    ],
)  # fmt: skip
def test_what_quiets_a_rule(services: list[str], settings: dict[str, Any], when: str, severity: str) -> None:
    pages = [each for name in services for each in daily(service=name)]
    (needless,) = found([*pages, *answered()], {"escalate": settings})[Kind.NEEDLESS]
    (rule,) = needless.change.rules
    assert rule["when"].removeprefix('alert.name == "HighLoad"').strip() == when
    assert rule["set"] == {"severity": severity}
    tried = Settings.model_validate({"normalise": {"rules": [dict(rule)]}})
    assert tried.normalise.rules[0].name == "advise: HighLoad"


def test_a_rule_is_named_without_services_where_mapping_rules_make_them() -> None:
    mine = {"name": "mine", "when": 'alert.name == "Y"', "set": {"service": "z"}}
    (needless,) = found([*daily(), *answered()], {"normalise": {"rules": [mine]}})[Kind.NEEDLESS]
    assert needless.change.rules[0]["when"] == 'alert.name == "HighLoad"'


def test_nothing_is_quieted_where_every_severity_pages() -> None:
    every = {"escalate": {"page": [str(each) for each in Severity], "ticket": []}}
    assert Kind.NEEDLESS not in found([*daily(), *answered()], every)


def test_what_is_said_of_a_needless_rule() -> None:
    nightly = daily(first=180, lasts=4)
    (needless,) = found([*nightly, *answered()])[Kind.NEEDLESS]
    assert needless.why == (
        "6 pages of batch on 6 days, 6 nights disturbed.",
        "Nobody acted on any, while 3 other pages of the recording were acted upon.",
        "6 ended by themselves within 10 min (of all, the median is 4 min).",
    )
    assert needless.worth_at_most == pytest.approx(0.393, abs=0.001)


def test_what_is_said_where_people_said_it() -> None:
    (needless,) = found([*daily(needless=True, lasts=None)])[Kind.NEEDLESS]
    assert needless.why[1:] == ("People said of 6 that they were not worth it; nobody acted on any.",)


# -- comes back, flapping, window -------------------------------------------------------------------------------------


def burst(gap: float, lasts: float, *, times: int = 6, **more: Any) -> list[Page]:
    """Pages of one rule that come again after it was quiet for `gap` minutes, on two days."""
    every = gap + lasts
    return [
        page(day * DAY + number * every, "QueueLag", "queue", lasts=lasts, **more)
        for day in (0, 2)
        for number in range(times)
    ]


@pytest.mark.parametrize(
    ("pages", "settings", "kinds"),
    [
        pytest.param(burst(8, 1), {}, {Kind.COMES_BACK: 600}, id="back after 8 minutes"),
        pytest.param(burst(25, 1), {}, {Kind.COMES_BACK: 1800}, id="back after 25 minutes"),
        pytest.param(burst(70, 1), {}, {}, id="too late to reopen"),
        pytest.param(burst(8, 1, severity=Severity.CRITICAL), {}, {}, id="critical: it pages at once anyway"),
        pytest.param(burst(8, 1, times=2), {}, {}, id="too few"),
        pytest.param(burst(8, 4), {}, {Kind.FLAPPING: 600}, id="stands longer than the hold"),
        pytest.param(burst(8, 40), {}, {}, id="stands longer than any hold"),
        pytest.param(
            burst(8, 1), {"pagerduty": {"incidents": {"auto_resolve_threshold": 3600}}}, {},
            id="the longest time to reopen already",
        ),
        pytest.param(
            burst(8, 4), {"escalate": {"reopen_hold": 3600}}, {Kind.COMES_BACK: 600}, id="the longest hold already"
        ),
    ],
)  # fmt: skip
def test_what_comes_back(pages: list[Page], settings: dict[str, Any], kinds: dict[Kind, int]) -> None:
    told = found(pages, settings)
    reopens = {
        kind: each[0].change.settings["pagerduty", "incidents", "auto_resolve_threshold"] for kind, each in told.items()
    }
    assert reopens == kinds


def test_a_flapping_rule_gets_a_hold_that_outlasts_it_and_a_word_for_prometheus() -> None:
    ((flapping,),) = found(burst(8, 4)).values()
    assert flapping.change.settings["escalate", "reopen_hold"] == 300
    assert flapping.title == "Let what flaps settle for 5 min: QueueLag"
    assert "keep_firing_for: 8m" in flapping.at_source


@pytest.mark.parametrize(
    ("every", "lasts", "window"),
    [
        pytest.param(25, 600, 1800, id="every 25 minutes while one is open"),
        pytest.param(55, 600, 3600, id="every 55 minutes"),
        pytest.param(15, 600, None, id="within the window as it is"),
        pytest.param(300, 600, None, id="beyond the longest window"),
        pytest.param(25, 20, None, id="the one before is over"),
    ],
)
def test_a_longer_window(every: float, lasts: float, window: int | None) -> None:
    pages = [page(number * every, f"Rule{number}", "api", lasts=lasts) for number in range(6)]
    told = found(pages)
    windows = [each.change.settings["correlate", "window"] for each in told.get(Kind.WINDOW, [])]
    assert windows == ([] if window is None else [window])


def test_no_longer_window_than_the_longest() -> None:
    pages = [page(number * 25, f"Rule{number}", "api", lasts=600) for number in range(6)]
    assert found(pages, {"correlate": {"window": "PT3H"}}) == {}


def test_many_rules_are_named_in_part() -> None:
    pages = [page(number * 25, f"Rule{number}", "api", lasts=600) for number in range(6)]
    assert found(pages)[Kind.WINDOW][0].title.endswith("Rule1, Rule2, Rule3 and 2 more")


# -- together ---------------------------------------------------------------------------------------------------------

EDGE = daily("RouterDown", "edge", lasts=60)
PORTAL = daily("LoginFails", "portal", first=604, lasts=60)
KNOWN = Catalogue.model_validate(
    {"services": {"portal": {"owner": "a", "depends_on": ["edge"]}, "edge": {"owner": "b"}}}
)


@pytest.mark.parametrize(
    ("pages", "catalogue", "depends"),
    [
        pytest.param([*EDGE, *PORTAL], OWNED, {"portal": {"depends_on": ["edge"]}}, id="always, the edge first"),
        pytest.param([*EDGE, *PORTAL], KNOWN, None, id="the dependency is known"),
        pytest.param([*EDGE, *daily("LoginFails", "portal", first=640)], OWNED, None, id="not near each other"),
        pytest.param([*EDGE[:2], *PORTAL], OWNED, None, id="too seldom"),
        pytest.param(
            [*EDGE, *PORTAL[:3], *daily("LoginFails", "portal", first=900)], OWNED, None, id="by half of them only"
        ),
        pytest.param(
            [*EDGE, *daily("LoginFails", "portal", first=604, scope="prod:us")], OWNED, None, id="in another cluster"
        ),
        pytest.param([*EDGE, *daily("LoginFails", "edge", first=604)], OWNED, None, id="the same service"),
        pytest.param([*EDGE, *daily("LoginFails", "", first=604)], OWNED, None, id="of no service"),
        pytest.param(
            [*EDGE, *(page(number * 15, "Noise", "portal", lasts=1) for number in range(800))], OWNED, None,
            id="the other one pages all day long",
        ),
    ],
)  # fmt: skip
def test_services_that_page_together(pages: list[Page], catalogue: Catalogue, depends: dict[str, Any] | None) -> None:
    joined = found(pages, catalogue=catalogue).get(Kind.TOGETHER, [])
    assert [each.change.services for each in joined] == ([] if depends is None else [depends])


def test_what_is_said_of_services_that_page_together() -> None:
    (joined,) = found([*EDGE, *PORTAL])[Kind.TOGETHER]
    assert joined.why == (
        "6 times on 6 days both paged within 10 min, edge first 6 times; chance alone makes it 1% of them.",
        "edge: RouterDown. portal: LoginFails.",
    )


def test_the_later_one_depends_on_the_one_that_mostly_comes_first() -> None:
    first = daily("RouterDown", "edge", first=608, lasts=60)
    (joined,) = found([*first, *PORTAL])[Kind.TOGETHER]
    assert joined.change.services == {"edge": {"depends_on": ["portal"]}}


# -- unowned ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catalogue", "teams", "settings", "entries"),
    [
        pytest.param({}, {}, {}, {"batch": {"owner": ""}}, id="not in the catalogue"),
        pytest.param({}, {"batch": "data"}, {}, {"batch": {"owner": "data"}}, id="its alerts name the team"),
        pytest.param({"batch": {"tier": 1}}, {}, {}, {"batch": {"owner": ""}}, id="an entry without owner"),
        pytest.param({"batch": {"team": "data"}}, {}, {}, None, id="an entry with a team"),
        pytest.param(
            {"batch": {"owner": "data"}}, {"batch": "data"}, {"data": {"routing_key": "k"}},
            {"batch": {"destination": "data"}}, id="the team has a destination of its own",
        ),
        pytest.param(
            {"batch": {"owner": "data", "destination": "x"}}, {"batch": "data"}, {"data": {"routing_key": "k"}}, None,
            id="it names another destination",
        ),
        pytest.param({"b": {"tier": 1, "aliases": ["batch"]}}, {}, {}, {"b": {"owner": ""}}, id="known by an alias"),
    ],
)  # fmt: skip
def test_services_of_nobody(
    catalogue: dict[str, Any], teams: dict[str, str], settings: dict[str, Any], entries: dict[str, Any] | None
) -> None:
    known = Catalogue.model_validate({"services": catalogue})
    destinations = {"pagerduty": {"destinations": settings}}
    unowned = found(daily(), destinations, catalogue=known, teams=teams).get(Kind.UNOWNED, [])
    assert [each.change.services for each in unowned] == ([] if entries is None else [entries])


def test_many_services_of_nobody_are_one_proposal() -> None:
    pages = [each for number in range(40) for each in daily(service=f"s{number}", count=2)]
    (unowned,) = found(pages, catalogue=Catalogue(), teams={"s1": "data"})[Kind.UNOWNED]
    assert len(unowned.change.services) == 30
    assert unowned.why[0] == "60 pages of 30 services: s0, s1, s2, s3, s4 and 25 more."


# -- silences ---------------------------------------------------------------------------------------------------------

NOISE = (Matcher(name="alertname", op="=", value="HighLoad"), Matcher(name="service", op="=", value="batch"))


def silence(
    since: float = -20 * DAY, until: float | None = LENGTH + 1, *, renewals: int = 0, names: tuple[str, ...] = ("s1",),
    matchers: tuple[Matcher, ...] = NOISE, muted: dict[str, int] | None = None,
) -> Standing:  # fmt: skip
    ends: datetime | None = None if until is None else at(until)
    return Standing(
        names, matchers, at(since), ends, renewals, "ann", "noisy", {"HighLoad": 7} if muted is None else muted
    )


@pytest.mark.parametrize(
    ("standing", "permanent"),
    [
        pytest.param(silence(), True, id="for more than two weeks"),
        pytest.param(silence(since=DAY), False, id="for a week"),
        pytest.param(silence(since=DAY, renewals=3), True, id="renewed three times"),
        pytest.param(silence(since=DAY, renewals=2), False, id="renewed twice"),
        pytest.param(silence(until=LENGTH - 1), False, id="it has ended"),
        pytest.param(silence(until=None), True, id="without an end"),
    ],
)
def test_silences_that_have_become_permanent(standing: Standing, *, permanent: bool) -> None:
    assert (Kind.SILENCE in found([], standing=[standing])) is permanent


def test_a_permanent_silence_becomes_a_rule_that_makes_tickets() -> None:
    ((told,),) = found([], standing=[silence(renewals=4)]).values()
    assert told.title == ('Lift the silence on alertname="HighLoad" service="batch", and make tickets of what it mutes')
    assert told.why == (
        "It stands since 2026-02-10, and was renewed 4 times; the last to want it was ann: noisy.",
        "It muted 7 alerts of HighLoad, which nobody saw.",
    )
    assert told.change.lifted == {"s1"}
    (rule,) = told.change.rules
    assert rule["when"] == 'alert.labels["alertname"] == "HighLoad" && alert.labels["service"] == "batch"'


def only(name: str, op: Any, value: str) -> tuple[Matcher, ...]:
    return (Matcher(name=name, op=op, value=value),)


@pytest.mark.parametrize(
    ("standing", "rules"),
    [
        pytest.param(silence(), ["HighLoad"], id="its rule was acted upon"),
        pytest.param(silence(muted={}), ["HighLoad"], id="its rule was acted upon, and it muted nothing"),
        pytest.param(silence(matchers=only("team", "=", "x")), ["HighLoad"], id="it mutes such a rule by a team"),
        pytest.param(silence(matchers=only("alertname", "=~", "High.*")), [], id="a pattern"),
        pytest.param(silence(matchers=only("team", "=", "")), [], id="a label that is not there"),
    ],
)
def test_a_silence_that_is_only_lifted(standing: Standing, rules: list[str]) -> None:
    ((told,),) = found([], standing=[standing], rules=rules).values()
    assert told.change.rules == ()
    assert told.change.lifted == {"s1"}
    assert told.title.endswith('"')


def test_a_silence_of_the_settings_leaves_them() -> None:
    policy = {"matchers": ["alertname=HighLoad"], "ends_at": "2027-01-01T00:00:00Z", "reason": "noisy"}
    settings = {"policies": {"noise": policy}, "escalate": {"ticket": []}}
    ((told,),) = found([], settings, standing=[silence(names=("settings/noise",))]).values()
    assert told.change.dropped == {"noise"}
    assert told.change.lifted == frozenset()
    assert told.title.endswith("and say so in a rule")
    assert told.change.rules[0]["name"] == "advise: noise"


# -- all --------------------------------------------------------------------------------------------------------------


def test_what_should_save_most_is_tried_first_and_no_more_than_asked_for() -> None:
    pages = [*burst(8, 1, acted=True), *daily(), *answered()]
    told = propose(evidence(pages), Settings(), OWNED, 1)
    assert [each.kind for each in told] == [Kind.COMES_BACK]


def test_no_evidence_proposes_nothing() -> None:
    assert propose(evidence([], length=timedelta(0) / timedelta(minutes=1)), Settings(), OWNED, 20) == []
