"""The pipeline as a picture, from the topology alone: Mermaid for documents, text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamproc.core.step import Everywhere, Node, Topology
from streamproc.core.topic import Topic


def mermaid(topology: Topology) -> str:
    """Return the flow as a Mermaid flowchart: topics are cylinders, nodes are boxes that name their stages.

    An arrow that is dotted goes to every partition of its topic.
    """
    topics = list(_topics(topology))
    lines = ["flowchart LR", *(f'  {_id(topic.name)}[("{topic.name}")]' for topic in topics)]
    fanned: list[str] = []
    for node in topology:
        stages = " → ".join(stage.name for stage in node.stages)
        shown = node.name if stages == node.name else f"<b>{node.name}</b><br/>{stages}"
        lines.append(f'  {_id(node.name)}_node["{shown}"]')
    for node in topology:
        lines.append(f"  {_id(node.inbox.name)} --> {_id(node.name)}_node")
        for topic, everywhere in _written(node):
            (fanned if everywhere else lines).append(
                f"  {_id(node.name)}_node {'-.->' if everywhere else '-->'} {_id(topic.name)}"
            )
    lines += fanned
    public = [_id(topic.name) for topic in topics if topic.public]
    lines.append("  classDef public stroke-width:3px")
    lines.append(f"  class {','.join(public)} public")
    return "\n".join(lines) + "\n"


def text(topology: Topology) -> str:
    """Return the flow as lines: each node with its inbox above, its stages, and where what it says goes."""
    blocks = []
    for node in topology:
        stages = " > ".join(stage.name for stage in node.stages)
        tables = ", ".join(table.name for table in node.tables)
        lines = [f"{node.inbox.name} ({_partitions(node.inbox)})", f"  {node.name}: {stages}", f"    keeps {tables}"]
        lines += [
            f"    -> {topic.name}{' (every partition)' if everywhere else ''}{' (public)' if topic.public else ''}"
            for topic, everywhere in _written(node)
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _topics(topology: Topology) -> Iterable[Topic]:
    """Return every topic that the topology reads or writes, each once, in order of first mention."""
    found: dict[str, Topic] = {}
    for node in topology:
        for topic in (node.inbox, *(topic for topic, _ in _written(node))):
            found.setdefault(topic.name, topic)
    return found.values()


def _written(node: Node) -> Iterator[tuple[Topic, bool]]:
    for written in node.writes:
        yield (written.topic, True) if isinstance(written, Everywhere) else (written, False)


def _id(name: str) -> str:
    return name.replace(".", "_").replace("-", "_")


def _partitions(topic: Topic) -> str:
    return "1 partition" if topic.partitions == 1 else f"{topic.partitions} partitions by {topic.key}"
