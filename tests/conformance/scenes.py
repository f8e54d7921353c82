"""The corpus: scenes that together reach every reason of every stage, and one that is thrown together at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from streamproc.events.alert import Episode, EpisodeChange
from streamproc.events.canary import canary
from streamproc.events.feedback import Policy
from streamproc.events.incident import Incident
from streamproc.events.training import Label, Sample
from streamproc.learning.linear import LinearModel
from streamproc.ports import Entry
from streamproc.stages.learn import MOST_REPLAYED
from tests.conformance.play import SHOP, Play

WEB, API, DB = ({"service": name} for name in ("web", "api", "db"))
TRUST = ((0.5, 0.6), (0.9, 0.95))
MODEL = LinearModel(
    weights={"name:outage": 4.0, "name:noise": -4.0, "name:maybe": 0.1}, bias=0.0, labels=60, pages=20, trust=TRUST
)


def incident(play: Play, at: int = -1) -> str:
    """Return the id of an incident, by default of the one that was published last."""
    return Incident.model_validate_json(play.memory.records("incidents.enriched")[at].value).incident_id


def ready(play: Play) -> None:
    """Configured, armed, nothing adopted."""
    play.configure()
    play.activate("catalogue", SHOP)
    play.arm(adopt=False)


def bodies(play: Play) -> None:
    """Bodies that are empty, too long, bad in part, bad as a whole, and no JSON."""
    play.post({"alerts": []})
    play.post({"name": "long", "summary": "x" * 10_000})
    play.post({"alerts": [{"name": "a", "status": "firing"}, {"status": "firing"}]})
    play.post({"alerts": [{"status": "firing"}]})
    play.post(b"{")
    play.run()


def a_life(play: Play) -> None:
    """Opened, repeated, changed, resolved, said and heard of; then all of it is forgotten."""
    ready(play)
    play.fire("a", **WEB)
    play.send()
    play.fire("a", minutes_ago=0, **WEB)
    play.wait(1)
    play.fire("a", severity="critical", minutes_ago=1, **WEB)
    play.feedback("acknowledged", 1, incident(play), by="kim")
    play.feedback("acknowledged", 1, incident(play), by="kim")
    play.feedback("annotated", 2, incident(play))
    play.send()
    play.resolve("a", **WEB)
    play.send()
    play.wait(60 * 24 * 9)


def unordered(play: Play) -> None:
    """Notifications that overtake one another."""
    ready(play)
    play.wait(30)
    play.resolve("a", minutes_ago=5)
    play.resolve("a", minutes_ago=5)
    play.fire("a", minutes_ago=5)
    play.wait(1)
    play.resolve("a", minutes_ago=1)
    play.wait(3)
    play.fire("a", minutes_ago=4)
    play.resolve("unheard", minutes_ago=3)
    lost = Episode.model_validate_json(play.memory.records("episodes")[-1].value)
    play.append(Entry.of("episodes", lost.model_copy(update={"change": EpisodeChange.RESOLVED}), lost.scope))
    play.append(Entry.of("episodes", lost.model_copy(update={"change": EpisodeChange.RESOLVED}), lost.scope))
    play.run()


def silent(play: Play) -> None:
    """Alerts that nobody resolves expire, each with an incident of its own scope."""
    ready(play)
    play.fire("a", cluster="left")
    play.fire("b", cluster="right", severity="info")
    play.wait(60 * 10)
    play.fire("c", cluster="middle", severity="info")
    play.wait(60 * 20)


def watchdogs(play: Play) -> None:
    """One that is heard, silent, heard again, and missed while nothing ran."""
    ready(play)
    play.configure(deduplicate={"watchdogs": {"left": {"matchers": ['service="dog"']}}})
    play.fire("dog", service="dog")
    play.wait(10)
    play.send()
    play.fire("dog", service="dog")
    play.send()
    play.clock.advance(timedelta(hours=1))
    play.wait(10)


def canaries(play: Play) -> None:
    """A canary comes and goes beside real trouble."""
    ready(play)
    since = play.now
    play.fire("a", **WEB)
    play.append(Entry.of("alerts.raw", canary("gate", since)))
    play.wait(1)
    play.append(Entry.of("alerts.raw", canary("gate", since, play.now)))
    play.run()


def cascade(play: Play) -> None:
    """One incident over a group and a dependency; full ones; one that comes back."""
    ready(play)
    play.configure(correlate={"max_members": 3})
    play.fire("a", **DB)
    play.fire("b", **API)
    play.fire("c", **WEB)
    play.fire("d", **WEB)
    play.fire("e", "f", "g", group="g", **WEB)
    play.wait(1)
    play.resolve("c", **WEB)
    play.resolve("a", "b", **DB)
    play.fire("a", **DB)
    play.resolve("a", **DB)
    play.fire("stranger", service="x")
    play.fire("q", service="queue", cluster="other")
    play.fire("named", service="mailer", summary="mail waits for queue", cluster="other")
    play.fire("nameless")


def storm(play: Play) -> None:
    """One alert, then many of its kind."""
    ready(play)
    play.fire("a", **DB)
    play.fire(*(f"s{number}" for number in range(20)), **DB)
    play.wait(10)
    play.send()


def reopened(play: Play) -> None:
    """Held, over, and acknowledged nowhere: the second destination."""
    ready(play)
    for _ in range(2):
        play.fire("a", minutes_ago=0, **WEB)
        play.wait(1)
        play.resolve("a", **WEB)
        play.wait(1)
    play.fire("a", **WEB)
    play.wait(20)
    play.feedback("acknowledged", 1, incident(play))
    play.feedback("unacknowledged", 2, incident(play))
    play.fire("b", name="Slow", **WEB)
    play.fire("c", severity="critical", **WEB)
    play.fire("d", "e", **WEB)
    play.wait(1)
    play.resolve("a", "b", "c", "d", "e", **WEB)
    play.send()


def people(play: Play) -> None:
    """What people do at PagerDuty stands: taken over, worse after that, resolved while it fires; and what was lost."""
    ready(play)
    play.fire("a", **WEB)
    play.feedback("missing", 1, incident(play))
    play.feedback("acknowledged", 2, incident(play))
    play.fire("b", severity="critical", **WEB)
    play.feedback("resolved", 3, incident(play))
    play.fire("c", name="Slow", severity="critical", **WEB)
    play.feedback("reopened", 4, incident(play))
    play.feedback("reassigned", 5, incident(play))
    play.send()
    play.resolve("a", "b", "c", **WEB)
    play.send()


def mutes(play: Play) -> None:
    """Silences that begin, end, are replaced, withdrawn, and outlive what they mute."""
    ready(play)
    play.silence("db", 60)
    play.silence("db", 60)
    play.fire("a", **DB)
    play.fire("b", **API)
    play.silence("api", 60, starts_at=play.now + timedelta(minutes=5))
    play.wait(6)
    play.silence("api", 60, version=2, withdrawn=True)
    play.wait(60)
    play.want(policy_id="late", matchers=[{"name": "service", "op": "=", "value": "db"}], ends_at=play.now)
    play.silence("db", 60, version=3)
    play.want(
        policy_id="other",
        matchers=[{"name": "service", "op": "=~", "value": "d."}],
        ends_at=play.now + timedelta(minutes=90),
    )
    play.resolve("a", "b", minutes_ago=70)
    play.wait(60 * 30)


def a_silence_of_an_older_version(play: Play) -> None:
    """Its regular expression is one that only Python's engine takes; it stands in the log already."""
    ready(play)
    matcher = {"name": "service", "op": "=~", "value": r"(d)b|\1"}
    said = {"policy_id": "old", "kind": "silence", "version": 1, "matchers": [matcher], "starts_at": play.now}
    old = Policy.model_validate({**said, "ends_at": play.now + timedelta(minutes=60)})
    play.append(Entry.of("episodes", old))
    play.run()
    play.fire("a", **DB)
    play.wait(90)


def unmuted_before_it_is_decided_anew(play: Play) -> None:
    """A mute is over when its member is gone, and another goes on where one ends."""
    ready(play)
    play.fire("a", **DB)
    play.silence("db", 10)
    play.wait(11)
    play.silence("db", 10, version=2)
    play.resolve("a", minutes_ago=11, **DB)


def adopted(play: Play) -> None:
    """A dry run, then armed: what is open is adopted, what is worse is not; then disarmed."""
    play.fire("dry", service="x")
    play.configure()
    play.fire("a", **DB)
    play.fire("b", severity="warning", **WEB)
    play.fire("c", severity="info", cluster="x")
    play.arm()
    play.send()
    play.fire("a2", **DB)
    play.fire("a3", severity="critical", **DB)
    play.fire("old", cluster="y", minutes_ago=30)
    play.arm(2, withdrawn=True)
    play.fire("z", cluster="z")
    play.resolve("a", "a2", "a3", **DB)
    play.send()


def sent(play: Play) -> None:
    """Answers of all kinds, renewed and overtaken pages, answers to nothing, no routing key."""
    ready(play)
    play.fire("a", severity="error", **DB)
    play.fire("b", severity="critical", **DB)
    (said,) = play.waiting()
    play.answer(said, "refused")
    play.answer(said.model_copy(update={"dedup_key": "nobody"}))
    for _ in ("retried, since it was refused", "then outdated"):
        play.append(Entry.of("escalations", said, said.routing_key))
    play.fire("c", service="x")
    play.resolve("c", service="x")
    play.send("skipped")
    play.resolve("a", "b", **DB)
    play.send()
    play.configure(escalate={"destinations": {}})
    play.fire("d", service="y", cluster="new")  # what is open keeps its destinations
    play.feedback("acknowledged", 1, "in:v1:-:-:0123456789abcdef")
    play.feedback("acknowledged", 2, "PABC")


def learned(play: Play) -> None:
    """Models: none, too little learned, unsure, sure either way, switched off; a catalogue that comes later."""
    play.fire("early", cluster="early")
    ready(play)
    play.fire("a", cluster="a")
    play.activate("model", MODEL.model_copy(update={"labels": 10, "pages": 5}).model_dump_json())
    play.fire("b", cluster="b")
    play.activate("model", MODEL.model_dump_json())
    for name in ("Maybe", "Outage", "Noise"):
        play.fire(name, name=name, cluster=name)
        play.fire(f"{name}2", name=name, cluster=f"{name}2", severity="warning")
    play.configure(classify={"ai_classification": False})
    play.fire("c", cluster="c")
    play.resolve("Maybe", name="Maybe", cluster="Maybe")


def taught(play: Play) -> None:
    """Samples and labels: kept, doubled, too many, learned, learned anew, unknown, forgotten."""
    ready(play)
    play.configure(learn={"most_samples": 3, "publish_every": 1})
    for name in ("a", "b", "b", "c", "d"):
        sample = Sample(sample_id=name, features={f"name:{name}": 1.0}, at=play.now)
        play.append(Entry.of("training", sample))
    for name, page, source in (
        ("a", True, "acknowledged"),
        ("a", True, "acknowledged"),
        ("a", False, "label"),
        ("b", True, "acknowledged"),
        ("x", True, "acknowledged"),
    ):
        play.append(Entry.of("training", Label(sample_id=name, page=page, source=source, at=play.now)))
    play.run()
    play.configure(learn={"publish_every": 500})
    for number in range(MOST_REPLAYED):
        name = f"s{number}"
        play.append(Entry.of("training", Sample(sample_id=name, features={"name:s": 1.0}, at=play.now)))
        play.append(Entry.of("training", Label(sample_id=name, page=True, source="acknowledged", at=play.now)))
    play.run()
    play.wait(60 * 24 * 8)


def random_play(play: Play) -> None:
    """Anything, in any order; the same on every run."""
    dice = random.Random(20260101)  # noqa: S311  a corpus, not a secret
    play.configure()
    names = [f"r{number}" for number in range(12)]
    arms = 0
    for number in range(400):
        name = dice.choice(names)
        says: dict[str, Any] = {
            "service": dice.choice(["web", "api", "db", ""]),
            "severity": dice.choice(["critical", "error", "warning", "info"]),
            "minutes_ago": dice.choice([0, 0, 1, 5]),
            "cluster": str(int(name[1:]) % 2),
            "group": dice.choice(["", "g"]),
        }
        doing = dice.randrange(12)
        if doing < 4:
            play.fire(name, **says)
        elif doing < 7:
            play.resolve(name, **says)
        elif doing == 7:
            play.wait(dice.choice([0.01, 1, 3, 20]))
        elif doing == 8:
            play.silence(dice.choice(["web", "db"]), dice.choice([2, 30]), number, withdrawn=dice.random() < 0.3)
        elif doing == 9 and play.memory.records("incidents.enriched"):
            kind = dice.choice(
                ["acknowledged", "unacknowledged", "resolved", "annotated", "missing", "merged", "reopened"]
            )
            play.feedback(kind, number // 2, incident(play, -dice.randint(1, 3)))
        elif doing == 10 and dice.random() < 0.3:
            arms += 1
            play.arm(arms, withdrawn=dice.random() < 0.3, adopt=dice.random() < 0.5)
        else:
            play.send(dice.choice(["delivered", "delivered", "refused"]))
    play.wait(60 * 24 * 2)


SCENES: tuple[Callable[[Play], None], ...] = (
    bodies,
    a_life,
    unordered,
    silent,
    watchdogs,
    canaries,
    cascade,
    storm,
    reopened,
    people,
    mutes,
    a_silence_of_an_older_version,
    unmuted_before_it_is_decided_anew,
    adopted,
    sent,
    learned,
    taught,
    random_play,
)
