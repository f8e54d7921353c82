"""Topics as they are at the broker, and what is asked of it about them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiokafka.admin import NewTopic  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]

from streamproc.core.errors import Unusable
from streamproc.runtime.faust.client import AIOKafkaAdminClient
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.identity import topic_ids

PAUSE = 0.05
SHOWN_WITHIN = 400
"""Looks, with a pause between, within which what was done must show."""
DYNAMIC = 1
"""Kafka's number for a setting that stands at the topic itself."""


@dataclass(frozen=True)
class Wanted:
    """A topic as it must be at the broker."""

    name: str
    partitions: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Standing:
    """A topic as it is at the broker."""

    name: str
    topic_id: str
    partitions: int
    replication: int
    settings: Mapping[str, str]
    own: Mapping[str, str] = field(default_factory=dict)
    """Those settings that stand at the topic itself, not at the broker."""


def differing(topic: Wanted, found: Standing) -> list[str]:
    """Return the names of settings that are not as they must be."""
    return [name for name, value in topic.settings.items() if found.settings.get(name) != value]


async def standing(client: AIOKafkaAdminClient, names: list[str]) -> dict[str, Standing]:
    """Return those of the topics that there are, by name."""
    ids = await topic_ids(client, names)
    there = [name for name in names if name in ids]
    if not there:
        return {}
    described = {topic["topic"]: topic["partitions"] for topic in await client.describe_topics(there)}
    settings = await configs(client, ConfigResourceType.TOPIC, there)
    return {
        name: Standing(
            name,
            ids[name],
            len(described[name]),
            min((len(partition["replicas"]) for partition in described[name]), default=0),
            {key: value for key, (value, _) in settings[name].items()},
            {key: value for key, (value, source) in settings[name].items() if source == DYNAMIC},
        )
        for name in there
    }


async def configs(
    client: AIOKafkaAdminClient, kind: ConfigResourceType, names: list[str]
) -> dict[str, dict[str, tuple[str, int]]]:
    """Return settings by resource and name: each with its value, and Kafka's number for where it stands."""
    found: dict[str, dict[str, tuple[str, int]]] = {}
    for response in await client.describe_configs([ConfigResource(kind, name) for name in names]):
        for code, message, _, name, entries in response.resources:
            if code:
                raise Unusable(f"the broker does not describe {name}: {message or code}")
            found[name] = {entry[0]: (entry[1] or "", entry[3]) for entry in entries}
    return found


async def create(client: AIOKafkaAdminClient, missing: list[Wanted], config: Config) -> None:
    """Create topics, and wait until the brokers show them."""
    new = [
        NewTopic(topic.name, topic.partitions, config.replication, topic_configs=dict(topic.settings))
        for topic in missing
    ]
    response = await client.create_topics(new)
    refused = [f"{name}: {message or f'error {code}'}" for name, code, message in response.topic_errors if code]
    if refused:
        raise Unusable(f"the broker does not create {'; '.join(refused)}")
    names = [topic.name for topic in missing]
    for _ in range(SHOWN_WITHIN):  # a broker answers before it, or another one, shows what was made
        if len(await topic_ids(client, names)) == len(names):
            return
        await asyncio.sleep(PAUSE)
    raise Unusable("the broker has created topics, but does not show them; try again")


async def alter(client: AIOKafkaAdminClient, topic: Wanted, found: Standing) -> None:
    """Set what a topic wants, and wait until the brokers show it."""
    # The request replaces everything that stands at the topic, so what others have set there is told again.
    told = {**found.own, **topic.settings}
    for response in await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, told)]):
        for code, message, *_ in response.resources:
            if code:
                raise Unusable(f"the broker does not change {topic.name}: {message or code}")


async def until_set(client: AIOKafkaAdminClient, topic: Wanted) -> None:
    """Wait until the brokers show what was set: they answer before they do."""
    for _ in range(SHOWN_WITHIN):
        if not differing(topic, (await standing(client, [topic.name]))[topic.name]):
            return
        await asyncio.sleep(PAUSE)
    raise Unusable(f"the broker has taken the settings of {topic.name}, but does not show them; try again")
