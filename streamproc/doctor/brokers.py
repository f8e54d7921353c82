"""Kafka: the brokers, the topics, the group, what we may do there, and their clock. Nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from streamproc.core.errors import Transient, Unusable
from streamproc.doctor.finding import HARMFUL, NOTICED, SET_CLOCK, Finding, State
from streamproc.runtime.faust import rights, topics
from streamproc.runtime.faust.client import (
    AIOKafkaAdminClient,
    KafkaError,
    Place,
    TopicPartition,
    admin_client,
    close_producer,
    reader,
    writer,
)
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.group import MOVING, STABLE, Group, GroupStanding
from streamproc.runtime.faust.identity import topic_ids
from streamproc.topology import TOPICS, TOPOLOGY

FETCH, DESCRIBE_TRANSACTIONS = 1, 65
"""Kafka's numbers of requests."""
OLDEST_FETCH = 4
"""Kafka 4.0 takes no older fetch (KIP-896)."""
TRANSACTION = 1
REACH = "is kafka.bootstrap right, and does the broker advertise an address that this machine reaches?"
MOST_SHOWN = 5


async def find_brokers(config: Config) -> list[Finding]:
    """Return whether a broker answers, and which versions it may have."""
    async with _admin(config) as client:
        cluster = await client.describe_cluster()
        await topic_ids(client, [])
        versions = _versions(client)
    count = len(cluster["brokers"])
    said = f"{count} {'broker' if count == 1 else 'brokers'}, {release(versions)}"
    if DESCRIBE_TRANSACTIONS not in versions:
        return [Finding("kafka", State.FAIL, said, "Kafka 3.0 or newer is needed")]
    least = topics.SAFE_REPLICATION
    if config.production and count < least:
        mend = f"run {least}, or set kafka.production to false where a broker's disk may be lost"
        return [Finding("kafka", State.FAIL, said, mend)]
    return [Finding("kafka", State.OK, said)]


def release(versions: Mapping[int, tuple[int, int]]) -> str:
    """Return what is known of a broker's release from the requests that it takes: it does not tell it.

    Args:
        versions: by request its lowest and highest version.
    """
    if versions.get(FETCH, (0, 0))[0] >= OLDEST_FETCH:
        return "Kafka 4.0 or newer"
    return "Kafka 3.x" if DESCRIBE_TRANSACTIONS in versions else "older than Kafka 3.0"


def _versions(client: AIOKafkaAdminClient) -> dict[int, tuple[int, int]]:
    connections = client._client._conns.values()  # noqa: SLF001  no public way to what a broker takes
    return next((dict(each._versions) for each in connections), {})  # noqa: SLF001  the same


async def find_topics(config: Config) -> list[Finding]:
    """Return which topics are not as they must be."""
    wanted = topics.wanted(TOPICS, TOPOLOGY, config)
    try:
        found = await topics.check(config, wanted)
    except KafkaError as error:
        raise Transient(f"the broker refuses: {error!r}") from error
    if not found:
        return [Finding("kafka topics", State.OK, f"{len(wanted)} topics, all as they must be")]
    shown = [Finding("kafka topics", State.FAIL, f"{one.topic}: {one.problem}", one.mend) for one in found[:MOST_SHOWN]]
    if (more := len(found) - MOST_SHOWN) > 0:
        shown.append(
            Finding("kafka topics", State.FAIL, f"and {more} more faults", "`streamproc topics check` lists them")
        )
    return shown


async def find_group(config: Config) -> list[Finding]:
    """Return how the group of workers stands."""
    group = Group(config)
    try:
        await group.start()
        await group.refresh()
    except KafkaError as error:
        raise Transient(f"the broker refuses: {error!r}") from error
    finally:
        await group.stop()
    return [standing(config.group_id, group.standing)]


def standing(name: str, group: GroupStanding) -> Finding:
    """Return what is to be said of a group as it stands."""
    waiting = sum(node.lag for node in group.nodes)
    if group.error:
        return Finding("kafka group", State.FAIL, f"{name}: {group.error}", "let this user describe the group (ACL)")
    if group.state in MOVING:
        return Finding(
            "group", State.WARN, f"{name} moves partitions now", "look again; if it lasts, read the workers' logs"
        )
    if group.state != STABLE or not group.workers:
        said = f"no worker of {name} runs, {waiting:,} records wait"
        return Finding("kafka group", State.FAIL, said, "start workers: `streamproc worker`")
    owned = sum(worker.partitions for worker in group.workers)
    said = f"{name}: {len(group.workers)} at work on {owned} of {len(group.nodes)} partitions, {waiting:,} records wait"
    if owned < len(group.nodes):
        return Finding(
            "kafka group", State.FAIL, said, "a partition has no worker: read the workers' logs, /ready of each"
        )
    return Finding("kafka group", State.OK, said)


async def find_rights(config: Config) -> list[Finding]:
    """Return what we may not do, as far as brokers tell without anything being done.

    A producer's id is asked for, topics, transactional ids and the group are described. Whether a transactional id may
    be written to shows only when a worker starts.
    """
    names = (topic.name for topic in topics.wanted(TOPICS, TOPOLOGY, config))
    needs = dict.fromkeys(names, (rights.READ, rights.WRITE))
    lacks = await rights.lacking(config, needs, works=False)
    found = []
    async with _admin(config) as client:
        name = config.transactional_id(TOPOLOGY[0].name, 0)
        try:
            await client.find_coordinator(name, TRANSACTION)
        except KafkaError as error:
            if not error.retriable:  # else nobody has asked this cluster before, and it makes its list of them now
                mend = f"allow Describe and Write on transactional ids that begin with {config.group_id}-"
                found.append(_refused(f"transactional id {name}", error, mend))
        lacks += await rights.of_group(client, config)
    found += [Finding("kafka rights", State.FAIL, lack.what, lack.mend) for lack in lacks]
    try:
        await close_producer(await writer(config))
    except KafkaError as error:
        found.append(_refused("producing", error, "allow Write on the topics, and IdempotentWrite on an old cluster"))
    return found or [Finding("kafka rights", State.OK, "to produce, to commit and to join the group")]


def _refused(what: str, error: KafkaError, mend: str) -> Finding:
    return Finding("kafka rights", State.FAIL, f"{what}: {getattr(error, 'message', '') or error!r}", mend)


async def find_broker_clock(config: Config, now: datetime) -> list[Finding]:
    """Return whether brokers' clocks run ahead of ours: brokers stamp records, and a stamp ahead stops a worker.

    A broker tells no time; that its clock is behind cannot be seen so.
    """
    names = [config.topic(node.inbox.name) for node in TOPOLOGY]
    async with _admin(config) as client:
        there = await topic_ids(client, names)
    places = [Place(config.topic(n.inbox.name), p) for n in TOPOLOGY for p in range(n.inbox.partitions)]
    places = [place for place in places if place.topic in there]
    if not places:
        return []
    if await _stamped_since(config, places, now + HARMFUL):
        said = f"records are stamped more than {HARMFUL.total_seconds():,.0f} s ahead of this machine: workers stop"
        return [Finding("kafka clock", State.FAIL, said, SET_CLOCK + ", here or at the brokers")]
    if await _stamped_since(config, places, now + NOTICED):
        said = f"records are stamped more than {NOTICED.total_seconds():,.0f} s ahead of this machine"
        return [Finding("kafka clock", State.WARN, said, SET_CLOCK + ", here or at the brokers")]
    return [Finding("kafka clock", State.OK, "no record is stamped ahead of this machine")]


async def _stamped_since(config: Config, places: list[Place], moment: datetime) -> bool:
    stamp = int(moment.timestamp() * 1000)
    try:
        async with reader(config, places) as consumer:
            found = await consumer.offsets_for_times({TopicPartition(*place): stamp for place in places})
    except KafkaError as error:
        raise Transient(f"the broker refuses: {error!r}") from error
    return any(found.values())


@asynccontextmanager
async def _admin(config: Config) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client; what a broker refuses inside is a Transient."""
    try:
        async with admin_client(config) as client:
            yield client
    except KafkaError as error:
        raise Transient(f"the broker refuses: {error!r}") from error
    except OSError as error:  # certificates that are not there
        raise Unusable(f"kafka: {error}") from error
