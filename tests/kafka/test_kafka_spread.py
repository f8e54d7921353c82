from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.runtime.faust.client import Place
from streamproc.runtime.faust.spread import SpreadAssignor, spread, told
from streamproc.topology import TOPOLOGY

TOPICS = {node.inbox.name: node.inbox.partitions for node in TOPOLOGY}
topics = st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 9), min_size=1)
members = st.sets(st.sampled_from([f"w{at}" for at in range(12)]), min_size=1)


def counts(found: Mapping[str, set[Place]], topic: str) -> list[int]:
    return [sum(place.topic == topic for place in places) for places in found.values()]


@st.composite
def claims(draw: st.DrawFn) -> dict[str, list[Place]]:
    places = st.builds(Place, st.sampled_from("abcdefgx"), st.integers(0, 12))
    return draw(st.dictionaries(st.sampled_from([f"w{at}" for at in range(14)]), st.lists(places, max_size=20)))


@given(topics, members, claims())
def test_every_partition_has_one_owner_and_each_topic_is_spread(
    partitions: dict[str, int], names: set[str], owned: dict[str, list[Place]]
) -> None:
    found = spread(partitions, names, owned)
    assert found.keys() == names
    owners = Counter(place for places in found.values() for place in places)
    assert owners == Counter(Place(topic, p) for topic, count in partitions.items() for p in range(count))
    for topic in partitions:
        assert max(counts(found, topic)) - min(counts(found, topic)) <= 1
    assert spread(partitions, names, found) == found, "what is even stays"


@given(topics, members)
def test_one_who_joins_takes_no_more_than_a_share(partitions: dict[str, int], names: set[str]) -> None:
    before = spread(partitions, names, {})
    after = spread(partitions, {*names, "new"}, before)
    for name in names:
        moved_in = after[name] - before[name]
        assert not moved_in or len(moved_in) <= len(partitions), "at most one of each topic for the sake of evenness"


@pytest.mark.parametrize(
    ("names", "most"),
    [
        pytest.param(["a"], 42, id="one worker has all"),
        pytest.param(["a", "b"], 21, id="two"),
        pytest.param(["a", "b", "c"], 15, id="three"),
        pytest.param([f"w{at:02}" for at in range(16)], 3, id="more workers than partitions of a topic"),
    ],
)
def test_of_the_real_topology_each_worker_gets_a_share_of_every_node(names: list[str], most: int) -> None:
    found = spread(TOPICS, names, {})
    assert max(len(places) for places in found.values()) <= most
    assert all(max(counts(found, topic)) <= -(-count // len(names)) for topic, count in TOPICS.items())


def test_what_is_owned_stays_when_one_leaves_and_comes_back() -> None:
    three = spread(TOPICS, ["a", "b", "c"], {})
    two = spread(TOPICS, ["a", "b"], three)
    assert three["a"] <= two["a"]
    assert three["b"] <= two["b"]
    again = spread(TOPICS, ["a", "b", "c"], two)
    assert again["a"] <= two["a"]
    assert again["b"] <= two["b"]


def test_members_tell_what_they_own() -> None:
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(range(TOPICS[topic])) if topic in TOPICS else None)
    one, two = SpreadAssignor(), SpreadAssignor()
    alone = one.assign(cluster, {"a": one.metadata(TOPICS)})
    one.on_assignment(alone["a"])
    assert sorted(told(one.metadata(TOPICS).user_data)) == sorted(Place(*each) for each in alone["a"].partitions())
    joined = two.assign(cluster, {"a": one.metadata(TOPICS), "b": two.metadata([*TOPICS, "gone"])})
    mine, yours = ({Place(*each) for each in joined[name].partitions()} for name in "ab")
    assert mine < set(told(one.metadata(TOPICS).user_data))
    assert len(mine) == len(yours) == 21


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"a": 1}', b'{"a": ["x"]}'], ids=repr)
def test_what_cannot_be_read_is_nothing(data: bytes) -> None:
    assert told(data) == []
