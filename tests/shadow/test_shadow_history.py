"""Which settings counted when, and what a promotion, a rollback and a restart put into the log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from streamproc.core.errors import Unusable
from streamproc.core.event import Activated
from streamproc.core.fold import CONFIG
from streamproc.core.step import ACTIVE, ActiveRow
from streamproc.events.alert import Severity
from streamproc.events.feedback import Policy
from streamproc.policies import POLICIES
from streamproc.ports import Entry
from streamproc.service import at_start
from streamproc.services import CATALOGUE
from streamproc.settings import Settings
from streamproc.shadow.candidate import Candidate, Standing, begun, candidate_of, everything, newest
from streamproc.shadow.history import Known, before, history, promotion, return_to
from streamproc.state import POLICY, PolicyRow
from streamproc.versions import CHANGED, FILE
from tests.shadow.shadowing import Shadowed, candidate
from tests.support.play import T0, alert, between, never, once, page

KEY = "k" * 32
SLOW = alert("db-1 slow", "db", "error")
UNTIL = "2026-06-01T00:00:00Z"


def settings(**more: Any) -> Settings:
    given = {"pagerduty": {"destinations": {"default": {"routing_key": KEY}}}, **more}
    return Settings.model_validate(given)


def muting(**services: str) -> dict[str, Any]:
    return {
        name: {"matchers": [f'service="{service}"'], "ends_at": UNTIL, "reason": "noisy"}
        for name, service in services.items()
    }


class Told:
    """A pipeline that is started with settings files, and told by commands."""

    def __init__(self) -> None:
        self.beside = Shadowed()
        self.memory = self.beside.memory

    def start(self, given: Settings, catalogue: str | None = None) -> int:
        known = self.known
        policies = {policy.policy_id: policy for policy in known.policies}
        now = self.memory.clock.now()
        entries = at_start(given, catalogue, known.active, policies, armed=True, now=now, author="run")
        return self.tell(entries)

    def tell(self, entries: Sequence[Entry]) -> int:
        self.memory.append(entries)
        self.memory.advance(timedelta(minutes=1))
        return len(entries)

    def promote(self, given: Candidate) -> int:
        self.tell(begun(given, newest(everything(self.beside.inboxes)), "ann", "try"))
        return self.tell(promotion(given, self.running, self.known, self.memory.clock.now(), "ann", "better"))

    def roll_back(self, number: int | None = None) -> int:
        change = before(history(self.beside.inboxes), number)
        find, now = self.beside.inboxes.version, self.memory.clock.now()
        return self.tell(return_to(change, find, self.known, now, "bob", "worse"))

    @property
    def running(self) -> Standing:
        found = newest(everything(self.beside.inboxes))
        assert found is not None
        return found

    @property
    def known(self) -> Known:
        rows = self.memory.engine.part("decide").rows
        kinds = (*CHANGED, FILE)
        active = {kind: row for kind in kinds if isinstance(row := rows.get(ACTIVE.at(kind)), ActiveRow)}
        file = active.get(FILE)
        body = None if file is None else self.beside.inboxes.version(file.checksum)
        return Known(active, [row.policy for _, row in rows.scan(POLICY)], body)

    @property
    def muted(self) -> dict[str, str]:
        """Services that policies of the settings mute now, by id."""
        rows = self.memory.engine.part("decide").rows
        found = {
            key: row.policy for key, row in rows.scan(POLICY) if isinstance(row, PolicyRow) and row.policy.matchers
        }
        return {key: policy.matchers[0].value for key, policy in found.items() if not policy.withdrawn}

    def body(self, kind: str) -> Any:
        row = self.known.active[kind]
        return json.loads(self.beside.inboxes.version(row.checksum) or "")


B = settings(escalate={"page": ["critical"]}, policies=muting(batch="batch"))


def test_a_promotion_is_one_change_and_ends_the_candidate() -> None:
    told = Told()
    told.start(settings(policies=muting(jobs="jobs")))
    assert told.muted == {"settings/jobs": "jobs"}
    told.promote(candidate_of("b.yaml", B, None))
    assert told.muted == {"settings/batch": "batch"}
    assert told.body(CONFIG)["escalate"]["page"] == ["critical"]
    assert not told.running.runs
    last = history(told.beside.inboxes)[-1]
    assert (last.author, last.reason, last.kinds) == ("ann", "better", (CONFIG, POLICIES))
    assert told.body(FILE)["replaced"] is True


def test_every_change_has_a_number_that_rises() -> None:
    told = Told()
    told.start(settings())
    told.start(settings(escalate={"page": ["critical"]}), '{"services": {"db": {}}}')
    told.promote(candidate_of("b.yaml", B, None))
    found = history(told.beside.inboxes)
    numbers = [change.number for change in found]
    assert numbers == sorted(set(numbers))
    assert [change.kinds for change in found][-2:] == [(CONFIG, CATALOGUE.name), (POLICIES,)]


def test_a_rollback_brings_back_settings_catalogue_and_policies() -> None:
    told = Told()
    told.start(settings(policies=muting(jobs="jobs")))
    before_it = told.body(CONFIG)
    told.promote(candidate_of("b.yaml", B, '{"services": {"db": {"owner": "team-db"}}}'))
    assert told.body(CATALOGUE.name)["services"]
    assert told.roll_back() > 0
    assert told.body(CONFIG) == before_it
    assert told.body(CATALOGUE.name) == {"services": {}}
    assert told.muted == {"settings/jobs": "jobs"}
    assert told.known.active[CONFIG].version == 4
    number = history(told.beside.inboxes)[-2].number
    told.roll_back(number)
    assert told.muted == {"settings/batch": "batch"}
    assert told.roll_back(history(told.beside.inboxes)[-1].number) == 0


@pytest.mark.parametrize(
    ("number", "said"),
    [pytest.param(None, "nothing counted before", id="the first"), pytest.param(99, "no settings 99", id="unknown")],
)
def test_there_is_nothing_to_go_back_to(number: int | None, said: str) -> None:
    told = Told()
    with pytest.raises(Unusable, match=said):
        told.roll_back(number)


def test_a_version_that_is_no_longer_held_cannot_be_returned_to() -> None:
    told = Told()
    told.start(settings())
    told.promote(candidate_of("b.yaml", B, None))
    change = before(history(told.beside.inboxes), None)
    with pytest.raises(Unusable, match="version 2 of config is no longer held"):
        return_to(change, lambda _: None, told.known, T0, "ann", "")


def test_a_restart_goes_on_with_what_was_promoted_until_its_file_changes() -> None:
    told = Told()
    given = settings()
    told.start(given)
    assert told.start(given) == 0
    told.promote(candidate_of("b.yaml", B, None))
    assert told.start(given) == 0
    assert told.body(CONFIG)["escalate"]["page"] == ["critical"]
    told.roll_back()
    assert told.start(given) == 0
    assert told.start(settings(escalate={"ticket": []})) > 0
    assert told.body(CONFIG)["escalate"]["ticket"] == []
    assert told.body(FILE)["replaced"] is False
    assert told.muted == {}


def test_a_new_default_counts_at_the_next_start_where_nothing_was_promoted() -> None:
    told = Told()
    given = settings()
    told.start(given)
    page_critical = given.escalate.model_copy(update={"page": frozenset({Severity.CRITICAL})})
    newer = given.model_copy(update={"escalate": page_critical})
    newer.__pydantic_fields_set__.discard("escalate")
    told.start(newer)
    assert told.body(CONFIG)["escalate"]["page"] == ["critical"]
    assert history(told.beside.inboxes)[-1].kinds == (CONFIG,)


def test_a_promotion_by_itself_pages_nobody() -> None:
    beside = Shadowed()
    play = beside.play
    play.configure(escalate={"page": ["critical"], "ticket": []})
    play.at("1m").push(SLOW)
    loud = candidate(escalate={"page": ["critical", "error", "warning"]})
    beside.begin(loud)
    beside.at("2m")
    rows = beside.memory.engine.part("decide").rows
    active = {CONFIG: rows.get(ACTIVE.at(CONFIG))}
    known = Known({kind: row for kind, row in active.items() if isinstance(row, ActiveRow)}, (), None)
    running = newest(everything(beside.inboxes))
    assert running is not None
    beside.memory.append(promotion(loud, running, known, play.now, "ann", "better"))
    play.want(between("2m", "20m"), page(), never)
    play.at("20m").push(alert("search slow", "search", "error"))
    play.want(between("20m", "21m"), page("search"), once)


def test_a_candidate_without_a_default_destination_is_refused() -> None:
    with pytest.raises(Unusable, match=r"b\.yaml: pagerduty\.destinations has no `default`"):
        candidate_of("b.yaml", Settings(), None)


def test_what_is_no_switch_is_passed_over() -> None:
    beside = Shadowed()
    bad = Entry("policies", b"", b"{", {"type": Activated.TYPE.encode()})
    beside.memory.append([bad, Entry("shadow", b"", b"{", {"type": Activated.TYPE.encode()})])
    beside.memory.append([Entry("policies", b"", b"{", {"type": Policy.TYPE.encode()})])
    beside.begin(candidate())
    beside.at("1m")
    assert beside.follower.follows
    assert [change.kinds for change in history(beside.inboxes)] == [(CONFIG,)]
