"""Which alerts are likely of one trouble, and which of them began it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.learning.pairs import MOST_WORDS, SURE, causes, kinship, mentioned, words_of
from streamproc.services import Catalogue
from streamproc.state import Spot

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHOP = Catalogue.model_validate(
    {
        "services": {
            "web": {"depends_on": ["api"]},
            "api": {"depends_on": ["db"], "aliases": ["gateway"]},
            "db": {},
            "batch": {},
        }
    }
)
NOTHING = Catalogue()
JOINS = 0.8


def spot(service: str = "", after: float = 0, **changes: Any) -> Spot:
    """Return an alert of a service, `after` seconds."""
    moment = T0 + timedelta(seconds=after)
    said = {"name": "Down", "alert_id": f"{service}@{after}", "service": service, "since": moment, "at": moment}
    return Spot.model_validate({"fingerprint": f"fp:v1:{service}:{after}", **said, **changes})


LATENCY = ("p99", "latency", "rises")


@pytest.mark.parametrize(
    ("one", "others", "catalogue", "likely", "hops"),
    [
        pytest.param(spot("web"), [spot("web", 60)], NOTHING, True, 0, id="the same service, a minute apart"),
        pytest.param(spot("web"), [spot("web", 3600)], NOTHING, False, 0, id="the same service, an hour apart"),
        pytest.param(spot("web"), [spot("api", 60)], SHOP, True, 1, id="a dependency"),
        pytest.param(spot("web"), [spot("gateway", 60)], SHOP, True, 1, id="a dependency by another name"),
        pytest.param(spot("api"), [spot("gateway", 60)], SHOP, True, 0, id="the same service by another name"),
        pytest.param(spot("db"), [spot("web", 60)], SHOP, True, 2, id="two hops"),
        pytest.param(spot("web"), [spot("batch", 0)], SHOP, False, None, id="services that nothing connects"),
        pytest.param(spot("web"), [spot("api", 0)], NOTHING, False, None, id="services that no catalogue knows"),
        pytest.param(spot("web"), [spot("other", 0)], SHOP, False, None, id="a service that the catalogue lacks"),
        pytest.param(
            spot("web", words=LATENCY),
            [spot("api", 10, words=LATENCY)],
            NOTHING,
            True,
            None,
            id="the same text at once",
        ),
        pytest.param(
            spot("web", words=LATENCY),
            [spot("batch", 0, words=LATENCY)],
            SHOP,
            False,
            None,
            id="the text is not enough",
        ),
        pytest.param(
            spot("web", words=("web", "cannot", "reach", "mail")),
            [spot("mail", 60)],
            NOTHING,
            True,
            None,
            id="it names it",
        ),
        pytest.param(
            spot("mail", 60), [spot("web", words=("mail", "lost"))], NOTHING, True, None, id="it is named by it"
        ),
        pytest.param(
            spot("web", place="a"), [spot("web", 5, place="b")], NOTHING, False, 0, id="one service in two places"
        ),
        pytest.param(
            spot("web", place="a"), [spot("api", 5, place="b")], SHOP, True, 1, id="dependencies cross places"
        ),
        pytest.param(spot(), [spot(after=1)], SHOP, False, None, id="neither names a service"),
        pytest.param(spot("web"), [spot()], SHOP, False, None, id="one names no service"),
        pytest.param(
            spot("web", 900),
            [spot("web", 0, at=T0 + timedelta(seconds=880))],
            NOTHING,
            True,
            0,
            id="the latest of its kind counts",
        ),
        pytest.param(
            spot("web"),
            [spot("api", 30), spot("batch"), spot("batch", 1)],
            SHOP,
            False,
            1,
            id="one of many is not enough",
        ),
        pytest.param(
            spot("web"), [spot("batch"), spot("api", 30), spot("db", 40)], SHOP, True, 1, id="two of many are"
        ),
    ],
)
def test_who_belongs_together(
    one: Spot,
    others: list[Spot],
    catalogue: Catalogue,
    likely: bool,  # noqa: FBT001  pytest passes it by name
    hops: int | None,
) -> None:
    found = kinship(one, others, catalogue)
    assert (found.p >= JOINS) is likely, found.p
    assert found.hops == hops


def spots() -> st.SearchStrategy[Spot]:
    words = st.lists(st.sampled_from(["web", "db", "latency", "disk"]), max_size=3, unique=True).map(tuple)
    return st.builds(
        lambda service, at, words, place: spot(service, at, words=words, place=place),
        st.sampled_from(["", "web", "api", "gateway", "db", "batch", "stranger"]),
        st.integers(0, 3000),
        words,
        st.sampled_from(["", "a", "b"]),
    )


@given(spots(), st.lists(spots(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_kinship_is_a_probability_whatever_the_order(one: Spot, others: list[Spot], chance: Any) -> None:
    likely = kinship(one, others, SHOP).p
    assert 0 < likely < 1
    shuffled = list(others)
    chance.shuffle(shuffled)
    again = kinship(one, shuffled, SHOP).p
    assert again == pytest.approx(likely) or min(again, likely) >= SURE


@given(spots(), spots())
def test_kinship_is_the_same_from_either_side(one: Spot, other: Spot) -> None:
    assert kinship(one, [other], SHOP).p == pytest.approx(kinship(other, [one], SHOP).p)


@given(spots(), spots(), st.integers(1, 3000))
def test_more_time_between_never_makes_it_likelier(one: Spot, other: Spot, more: int) -> None:
    gap = abs((one.at - other.at).total_seconds())
    near, far = (other.model_copy(update={"at": t, "since": t}) for t in later(one.at, gap, more))
    assert kinship(one, [far], SHOP).p <= kinship(one, [near], SHOP).p


def later(moment: datetime, gap: float, more: int) -> tuple[datetime, datetime]:
    return moment + timedelta(seconds=gap), moment + timedelta(seconds=gap + more)


@pytest.mark.parametrize(
    ("told", "first"),
    [
        pytest.param([spot("web"), spot("api", 5), spot("db", 10)], "db", id="what the others depend on"),
        pytest.param([spot("web"), spot("batch", 90)], "web", id="who told first, where nothing connects them"),
        pytest.param([spot("db", 1200), spot("api"), spot("web", 5)], "api", id="too late to be the cause"),
        pytest.param(
            [spot("one"), spot("two", 10), spot("three", 20, words=("two", "away"))], "two", id="whom the others name"
        ),
        pytest.param([spot("a", 5), spot("b", 5)], "a", id="the same in everything: by fingerprint"),
        pytest.param([spot(after=9), spot(after=3)], "", id="no services: the first"),
        pytest.param([spot("gateway"), spot("db", 3), spot("api", 1)], "db", id="names of one service"),
    ],
)
def test_the_likeliest_cause(told: list[Spot], first: str) -> None:
    assert causes(told, SHOP)[0].service == first


@given(
    st.lists(spots(), min_size=1, max_size=8, unique_by=lambda one: one.fingerprint), st.randoms(use_true_random=False)
)
def test_causes_are_one_of_each_service_whatever_the_order(told: list[Spot], chance: Any) -> None:
    ranked = causes(told, SHOP)
    names = [SHOP.name_of(each.service) for each in ranked]
    assert sorted(names) == sorted({SHOP.name_of(each.service) for each in told})
    shuffled = list(told)
    chance.shuffle(shuffled)
    assert causes(shuffled, SHOP) == ranked


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        pytest.param(["Disk of db-1 is full", "The disk is FULL."], ("disk", "db-1", "full"), id="each once, in order"),
        pytest.param(["", "  99 % 3.5"], (), id="no words"),
        pytest.param([" ".join(f"w{at}" for at in range(99))], tuple(f"w{at}" for at in range(MOST_WORDS)), id="many"),
    ],
)
def test_telling_words(texts: list[str], words: tuple[str, ...]) -> None:
    assert words_of(*texts) == words


def test_services_that_a_text_names() -> None:
    assert list(mentioned(("web", "waits", "gateway", "nobody"), SHOP)) == ["web", "gateway"]
    loud = Catalogue.model_validate({"services": {"Ledger": {"aliases": ["GL"]}}})
    assert list(mentioned(words_of("GL: the Ledger is down"), loud)) == ["gl", "ledger"]
