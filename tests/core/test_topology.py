from __future__ import annotations

import pytest

from streamproc.core.event import Activated, Wake
from streamproc.core.step import Node
from streamproc.topology import INBOXES, LETTERS, TOPICS, TOPOLOGY

NODES = [pytest.param(node, id=node.name) for node in TOPOLOGY]


@pytest.mark.parametrize("node", NODES)
def test_a_node_takes_everything_that_its_inbox_may_hold(node: Node) -> None:
    assert set(node.inbox.events) <= set(node.types)


@pytest.mark.parametrize("node", NODES)
def test_the_list_of_topics_says_who_reads_an_inbox(node: Node) -> None:
    assert node.name in node.inbox.consumers


@pytest.mark.parametrize("node", NODES)
def test_activations_reach_every_node_that_keeps_something(node: Node) -> None:
    """The feedback relay keeps nothing and has no settings; the policy relay passes them on."""
    reached = Activated.TYPE in node.inbox.events
    assert reached is (node.inbox in (*INBOXES, TOPICS["policies"]))
    stateful = any(stage.owns or stage.config.model_fields for stage in node.stages)
    assert reached or not stateful


def test_names_are_unique_and_one_node_reads_an_inbox() -> None:
    assert len({node.name for node in TOPOLOGY}) == len({node.inbox.name for node in TOPOLOGY}) == len(TOPOLOGY)
    stages = [stage.name for node in TOPOLOGY for stage in node.stages]
    assert len(set(stages)) == len(stages)


def test_wakes_are_written_by_timers_alone() -> None:
    assert not any(Wake.TYPE in topic.events for topic in TOPICS.values())
    assert LETTERS.events == ("dead-letter.v1",)
