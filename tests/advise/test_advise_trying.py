from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import orjson
import pytest

from streamproc.advise.change import Change
from streamproc.advise.evidence import Evidence
from streamproc.advise.proposal import Candidate, Kind
from streamproc.advise.proposing import propose
from streamproc.advise.trying import Lines, Present, Trials
from streamproc.advise.weighing import Verdict, Weighed
from streamproc.backtest.inputs import Playable, Source
from streamproc.backtest.reading import Beside, Judgement, Line, Tally
from streamproc.core.errors import Unusable
from streamproc.core.record import Record
from streamproc.events.feedback import Feedback, FeedbackKind, Matcher, Policy, PolicyKind
from streamproc.ports import Entry
from tests.advise.weeks import day, fired, moment

HOUR = 60


def noisy(days: int = 9) -> list[dict[str, Any]]:
    return [each for number in range(days) for each in fired("HighLoad", "batch", day(number) + 600, 5)]


def source(lines: Sequence[dict[str, Any]], beside: Iterable[Beside] = (), inboxes: Any = None) -> Source:
    ordered = sorted(lines, key=lambda each: str(each["at"]))

    @contextmanager
    def opened(tally: Tally) -> Iterator[Playable]:
        def played() -> Iterator[Line]:
            for number, each in enumerate(ordered, 1):
                at = moment(0).fromisoformat(each["at"])
                tally.lines, tally.first_at, tally.last_at = number, tally.first_at or at, at
                yield Line(at, number, "alertmanager", orjson.dumps(each["body"]))

        yield Playable(played(), len(ordered), list(beside))

    return Source("records", opened, inboxes)


def plain(_total: float, _unit: str) -> AbstractContextManager[Lines]:
    return nullcontext(iter)


def go_on() -> bool:
    return False


def said(kind: FeedbackKind, incident_id: str, minutes: float, number: int = 1) -> Beside:
    event = Feedback(
        feedback_id=f"w{number}", incident_id=incident_id, kind=kind, by="ann", at=moment(minutes)
    )  # fmt: skip
    return Beside(moment(minutes), (Entry.of("feedback", event, incident_id),))


def observed(folder: Path, told: Source, judged: Sequence[Judgement] = (), config: str = "") -> tuple[Trials, Evidence]:
    file = folder / "settings.yaml"
    file.write_text(config)
    notes = folder / "notes"
    notes.mkdir(exist_ok=True)
    trials = Trials(Present.of(file, None), notes)
    evidence = trials.observe(told, judged, plain, go_on)
    assert evidence is not None
    return trials, evidence


def test_pages_of_a_recording(tmp_path: Path) -> None:
    _, evidence = observed(tmp_path, source(noisy(2)))
    assert [(page.rule, page.service, page.at, page.lasted) for page in evidence.pages] == [
        ("HighLoad", "batch", moment(day(number) + 600), timedelta(minutes=5)) for number in (0, 1)
    ]
    assert evidence.acted == 0


@pytest.mark.parametrize(
    ("kind", "acted"),
    [
        pytest.param(FeedbackKind.ACKNOWLEDGED, True, id="acknowledged"),
        pytest.param(FeedbackKind.ANNOTATED, True, id="annotated"),
        pytest.param(FeedbackKind.UNACKNOWLEDGED, False, id="an acknowledgement that ended"),
    ],
)
def test_what_people_acted_upon_is_never_proposed_to_be_quiet(
    tmp_path: Path, kind: FeedbackKind, *, acted: bool
) -> None:
    alone = noisy() + [each for n in range(4) for each in fired(f"Other{n}", "db", day(n) + 300, 9)]
    _, before = observed(tmp_path, source(alone))
    incident = {page.rule: page.call.incident_id for page in before.pages}
    others = [said(FeedbackKind.ACKNOWLEDGED, incident[f"Other{n}"], day(n) + 303, n) for n in range(4)]
    late = max(page.call.incident_id for page in before.pages if page.at > moment(day(8)))
    _, evidence = observed(tmp_path, source(alone, [*others, said(kind, late, day(8) + 602, 9)]))
    needless = propose(
        evidence, Present.of(tmp_path / "settings.yaml", None).settings, Present.of(None, None).services, 9
    )
    quiet = [each for each in needless if each.kind is Kind.NEEDLESS]
    assert ("HighLoad" in evidence.acted_rules) is acted
    assert bool(quiet) is not acted


class Published:
    """A log that only knows what was published live."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def partitions(self, topic: str) -> tuple[int, ...]:
        assert topic == "incidents.enriched"
        return (0,)

    def start(self, topic: str, partition: int) -> int:
        return 0

    def records(self, topic: str, partition: int, offset: int) -> Iterator[Record]:
        for kind in (b"incident.v1", b"reconsider.v1"):
            yield Record("incidents.enriched", 0, 0, orjson.dumps(self.told), moment(0), headers={"type": kind})


def test_incidents_that_only_were_live_count_too(tmp_path: Path) -> None:
    live = "in:v1:prod:-:0123456789abcdef"
    told = {
        "incident_id": live,
        "root": {"name": "HighLoad", "alert_id": "root@1"},
        "joined": [{"alert_id": "other@1"}],
    }
    lines = source(noisy(2), [said(FeedbackKind.ACKNOWLEDGED, live, 700)], lambda: Published(told))
    _, evidence = observed(tmp_path, lines)
    assert evidence.acted_rules == {"HighLoad"}
    assert evidence.acted_alerts == {"root@1", "other@1"}


def attempt(trials: Trials, change: Change, kind: Kind = Kind.NEEDLESS) -> Weighed:
    told = trials.attempt(Candidate(kind, "Try", (), change, 1, 1, 1, frozenset({"HighLoad"})), iter, go_on)
    assert told is not None
    return told


QUIET = {"name": "q", "when": 'alert.name == "HighLoad"', "set": {"severity": "warning"}}


def test_an_attempt_is_a_backtest(tmp_path: Path) -> None:
    trials, _ = observed(tmp_path, source(noisy()))
    told = attempt(trials, Change(rules=(QUIET,)))
    assert (told.verdict, told.learned.saved, told.confirmed.saved) == (Verdict.CONFIRMED, 6, 3)


def test_settings_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    trials, _ = observed(tmp_path, source(noisy(1)))
    told = attempt(trials, Change(settings={("correlate", "window"): "for ever"}))
    assert told.verdict is Verdict.UNUSABLE
    assert "correlate.window" in told.fault


SILENCE = Policy(
    policy_id="s1",
    kind=PolicyKind.SILENCE,
    version=1,
    matchers=(Matcher(name="alertname", op="=", value="HighLoad"),),
    starts_at=moment(-day(20)),
    ends_at=moment(day(30)),
    author="ann",
    reason="noisy",
)


def test_a_silence_of_the_log_is_lifted(tmp_path: Path) -> None:
    standing = Beside(moment(0), (Entry.of("policies", SILENCE),))
    trials, evidence = observed(tmp_path, source(noisy(3), [standing]))
    (silence,) = evidence.standing
    assert (silence.names, silence.muted) == (("s1",), {"HighLoad": 3})
    assert evidence.pages == ()
    lifted = attempt(trials, Change(lifted=frozenset({"s1"})), Kind.SILENCE)
    assert (lifted.verdict, lifted.saved) == (Verdict.TIDY, -3)
    replaced = attempt(trials, Change(rules=(QUIET,), lifted=frozenset({"s1"})), Kind.SILENCE)
    assert (replaced.verdict, replaced.saved) == (Verdict.TIDY, 0)


def test_a_silence_of_the_settings_is_known(tmp_path: Path) -> None:
    policy = 'policies: {noise: {matchers: ["alertname=HighLoad"], ends_at: 2027-01-01T00:00:00Z, reason: noisy}}'
    trials, evidence = observed(tmp_path, source(noisy(2)), config=policy)
    (silence,) = evidence.standing
    assert (silence.names, silence.since, silence.muted) == (("settings/noise",), moment(600), {"HighLoad": 2})
    assert attempt(trials, Change(dropped=frozenset({"noise"})), Kind.SILENCE).saved == -2


def after(lines: int) -> Callable[[], bool]:
    """Say stop after some lines."""
    left = iter(range(lines))
    return lambda: next(left, None) is None


def test_whoever_stops_it_gets_nothing_of_it(tmp_path: Path) -> None:
    trials, _ = observed(tmp_path, source(noisy(2)))
    told = Candidate(Kind.NEEDLESS, "Try", (), Change(), 1, 1, 1)
    assert trials.attempt(told, iter, after(1)) is None
    assert Trials(Present.of(None, None), tmp_path).observe(source(noisy(2)), (), plain, after(1)) is None


def test_nothing_is_tried_before_it_was_observed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="observe"):
        attempt(Trials(Present.of(None, None), tmp_path), Change())


def test_a_recording_without_requests(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="no requests"):
        Trials(Present.of(None, None), tmp_path).observe(source([]), (), plain, go_on)


def test_the_catalogue_that_stands_is_kept_or_changed(tmp_path: Path) -> None:
    (tmp_path / "services.yaml").write_text("services: {batch: {owner: a}}  # ours\n")
    (tmp_path / "streamproc.yaml").write_text("services: services.yaml\n")
    present = Present.of(tmp_path / "streamproc.yaml", None)
    folder = tmp_path / "advice"
    folder.mkdir()
    kept = present.written(folder, "one", Change(), "why")
    changed = present.written(folder, "two", Change(services={"batch": {"depends_on": ["db"]}}), "why")
    assert Present.of(kept, None).services == present.services
    assert Present.of(changed, None).services.dependencies("batch") == {"db"}
    assert "# ours" in (folder / "two.services.yaml").read_text()
    assert all(each.stat().st_mode & 0o077 == 0 for each in folder.iterdir())
