"""Topics at the broker: created, described, and checked for what safety needs. `topics/*.toml` is the only list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.admin.config_resource import ConfigResourceType  # type: ignore[import-untyped]

from streamproc.core.errors import Unusable
from streamproc.core.step import Topology
from streamproc.core.topic import Topic
from streamproc.runtime.faust.client import LARGEST, AIOKafkaAdminClient, admin_client
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.described import Standing, Wanted, alter, configs, create, differing, standing, until_set

HOUR_MS = 3_600_000
LARGEST_IN = 5_500_000
"""Largest record of a topic that others may write to: as a dead letter, in base64, it must still fit. More than the
gateway's `body_limit`: what it takes, the log takes."""
SEGMENT = 64 * 1024 * 1024
"""Bytes of a segment of a compacted topic: the newest is never compacted, so it bounds what a restore reads twice."""
SAFE_REPLICATION = 3
SAFE_INSYNC = 2


@dataclass(frozen=True)
class Finding:
    """Something about a topic that is not as it must be, and the mend."""

    topic: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.problem}; {self.mend}"


def wanted(topics: Mapping[str, Topic], topology: Topology, config: Config) -> list[Wanted]:
    """Return every topic of the catalogue, and one of each node's rows, as they must be."""
    inboxes = {node.inbox.name for node in topology}
    listed = [
        Wanted(config.topic(topic.name), topic.partitions, _settings(topic, inbox=topic.name in inboxes))
        for topic in topics.values()
    ]
    rows = [Wanted(config.state_topic(node.name), node.inbox.partitions, _STATE) for node in topology]
    return [*listed, *rows]


_COMPACTED = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": "60000",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.bytes": str(SEGMENT),
}
_COMMON = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(LARGEST)}
# The log's time is the broker's: no producer's clock counts, and what a bridge sends without `now` has one.
_STATE = {**_COMMON, **_COMPACTED}


def _settings(topic: Topic, *, inbox: bool) -> dict[str, str]:
    common = {**_COMMON, "max.message.bytes": str(LARGEST_IN if topic.public and inbox else LARGEST)}
    if topic.cleanup == "compact":
        return {**common, **_COMPACTED}
    return {**common, "cleanup.policy": "delete", "retention.ms": str(topic.retention_hours * HOUR_MS)}


async def describe(config: Config, topics: Iterable[Wanted]) -> dict[str, Standing]:
    """Return those of the topics that there are, by name.

    Raises:
        Transient: no broker answers.
        Unusable: it refuses to say.
    """
    async with admin_client(config) as client:
        return await standing(client, [topic.name for topic in topics])


async def check(config: Config, topics: Iterable[Wanted]) -> list[Finding]:
    """Return what is not as it must be; nothing where all is well.

    Raises:
        Transient: no broker answers.
        Unusable: it refuses to say.
    """
    topics = list(topics)
    async with admin_client(config) as client:
        found = await standing(client, [topic.name for topic in topics])
        findings = [each for topic in topics for each in _compare(topic, found.get(topic.name), config)]
        return [*findings, *(await _brokers(client) if config.production else [])]


async def apply(config: Config, topics: Iterable[Wanted]) -> list[str]:
    """Create what is missing and set what differs; return what was done, a line each.

    Raises:
        Transient: no broker answers.
        Unusable: it refuses, or a topic has another number of partitions.
    """
    topics = list(topics)
    done: list[str] = []
    async with admin_client(config) as client:
        found = await standing(client, [topic.name for topic in topics])
        changed = [each for topic in topics if (each := _partitions(topic, found.get(topic.name))) is not None]
        if changed:
            raise Unusable("; ".join(map(str, changed)))
        missing = [topic for topic in topics if topic.name not in found]
        if missing:
            await create(client, missing, config)
            done.extend(f"{topic.name}: created with {topic.partitions} partitions" for topic in missing)
        for topic in topics:
            if topic.name in found and (differ := differing(topic, found[topic.name])):
                await alter(client, topic, found[topic.name])
                await until_set(client, topic)
                done.append(f"{topic.name}: set {', '.join(f'{name}={topic.settings[name]}' for name in differ)}")
    return done


async def require(config: Config, topics: Iterable[Wanted]) -> dict[str, Standing]:
    """Return the topics, all of them as they must be.

    Raises:
        Transient: no broker answers.
        Unusable: a topic is missing or is not as it must be.
    """
    topics = list(topics)
    findings = await check(config, topics)
    if findings:
        shown = "\n".join(f"  {finding}" for finding in findings)
        raise Unusable(f"the topics at {', '.join(config.bootstrap)} are not as they must be:\n{shown}")
    return await describe(config, topics)


# -- what differs ----------------------------------------------------------------------------------------------------


def _compare(topic: Wanted, found: Standing | None, config: Config) -> Iterable[Finding]:
    if found is None:
        yield Finding(topic.name, "does not exist", "run `streamproc topics apply`")
        return
    if (changed := _partitions(topic, found)) is not None:
        yield changed
    for name in differing(topic, found):
        is_set = found.settings.get(name)
        yield Finding(topic.name, f"{name} is {is_set}, not {topic.settings[name]}", "run `streamproc topics apply`")
    if not config.production:
        return
    if found.replication < SAFE_REPLICATION:
        mend = "reassign it to three brokers (kafka-reassign-partitions), or set kafka.production to false"
        yield Finding(topic.name, f"has {found.replication} replica(s), not {SAFE_REPLICATION}", mend)
    if int(found.settings.get("min.insync.replicas", "1")) < SAFE_INSYNC:
        yield Finding(topic.name, "min.insync.replicas is 1", f"set it to {SAFE_INSYNC}: one broker may lose records")
    if found.settings.get("unclean.leader.election.enable") == "true":
        yield Finding(topic.name, "unclean.leader.election.enable is true", "set it to false: it loses records")


def _partitions(topic: Wanted, found: Standing | None) -> Finding | None:
    if found is None or found.partitions == topic.partitions:
        return None
    mend = (
        "that number is fixed for the life of a topic, since rows belong to partitions: put it back into topics/, or "
        "move to new topics under another kafka.prefix, see docs/kafka.md, 'Another number of partitions'"
    )
    return Finding(topic.name, f"has {found.partitions} partitions, topics/ says {topic.partitions}", mend)


async def _brokers(client: AIOKafkaAdminClient) -> list[Finding]:
    """Return what is unsafe about the brokers' own topics of transactions and groups."""
    cluster: dict[str, Any] = await client.describe_cluster()
    ids = [str(broker["node_id"]) for broker in cluster["brokers"]]
    found: list[Finding] = []
    for broker, settings in (await configs(client, ConfigResourceType.BROKER, ids)).items():
        for name, least in (("transaction.state.log.replication.factor", 3), ("transaction.state.log.min.isr", 2)):
            value = settings.get(name, ("", 0))[0]
            if value.isdigit() and int(value) < least:
                found.append(Finding(f"broker {broker}", f"{name} is {value}", f"set it to {least} at least"))
    return found
