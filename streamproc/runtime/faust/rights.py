"""What this user may do at the brokers, asked before anything is done: a right that is lacking is named with its mend.

Brokers tell the operations that a user is allowed on a topic (KIP-430), and so also what `Describe` alone would hide: a
topic that may not be seen looks as if there were none. Of groups and transactional ids they tell little; whether one
may be used shows when it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka.errors import (  # type: ignore[import-untyped]
    GroupAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.protocol.group import HeartbeatRequest  # type: ignore[import-untyped]

from streamproc.core.errors import Transient, Unusable
from streamproc.runtime.faust.client import (
    AIOKafkaAdminClient,
    KafkaError,
    admin_client,
    close_producer,
    transactional_producer,
)
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.identity import UNTOLD, topic_operations

READ, WRITE, DESCRIBE_CONFIGS = 3, 4, 10
"""Kafka's numbers of operations; a set of them is an integer with these bits."""
NAMES: Mapping[int, str] = {READ: "Read", WRITE: "Write", DESCRIBE_CONFIGS: "DescribeConfigs"}
SHOWN = 4
"""Topics that lack the same and are named."""
NOBODY = "nobody"
"""A member that no group has. Its heartbeat is refused: for being nobody's where the group may be joined. What brokers
tell of rights on a group they tell only of one that exists."""
PROBE = "rights"
"""Name within the transactional ids that is used by nobody: to use another's would shut its owner out."""


@dataclass(frozen=True)
class Lack:
    """Something that this user may not do, and the mend."""

    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.what}; {self.mend}"


Needs = Mapping[str, Collection[int]]
"""Operations by a topic's name at the broker."""


async def lacking(config: Config, needs: Needs, *, works: bool) -> list[Lack]:
    """Return what is lacking; nothing where all is allowed, or where the brokers do not tell.

    Args:
        config: where, and who we are.
        needs: what must be allowed on topics; a topic that does not exist lacks nothing.
        works: whether the rights of a worker are needed too: to join the group, and to commit.

    Raises:
        Transient: no broker answers.
    """
    async with admin_client(config) as client:
        found = await _of_topics(client, needs)
        if works:
            found += await of_group(client, config)
    return [*found, *(await _of_commits(config))] if works else found


async def require(config: Config, needs: Needs, *, works: bool) -> None:
    """Return where nothing is lacking; arguments as for `lacking`.

    Raises:
        Transient: no broker answers.
        Unusable: something is; each with its mend.
    """
    if found := await lacking(config, needs, works=works):
        user = f"the user {config.username!r}" if config.username else "this user"
        shown = "\n".join(f"  {lack}" for lack in found)
        raise Unusable(f"{user} may not do all that is needed at {', '.join(config.bootstrap)}:\n{shown}")


async def _of_topics(client: AIOKafkaAdminClient, needs: Needs) -> list[Lack]:
    told = await topic_operations(client, needs)
    missing: dict[tuple[str, ...], list[str]] = {}
    for topic, operations in needs.items():
        allowed = told.get(topic, UNTOLD)
        lacks = tuple(NAMES[each] for each in operations if allowed != UNTOLD and not allowed & (1 << each))
        if lacks:
            missing.setdefault(lacks, []).append(topic)
    return [_lack(" and ".join(lacks), topics) for lacks, topics in missing.items()]


def _lack(lacks: str, topics: list[str]) -> Lack:
    named = ", ".join(topics[:SHOWN])
    if (more := len(topics) - SHOWN) > 0:
        named += f" and {more} more topics"
    which = f"the topic {named}" if len(topics) == 1 else "these topics"
    return Lack(f"{named}: {lacks} not allowed", f"allow {lacks} on {which} (ACL)")


async def of_group(client: AIOKafkaAdminClient, config: Config) -> list[Lack]:
    """Return what is lacking to join the group of workers; nothing where no coordinator answers."""
    lack = Lack(f"group {config.group_id}: Read not allowed", f"allow Read on the group {config.group_id} (ACL)")
    try:
        coordinator = await client.find_coordinator(config.group_id)
        beat = HeartbeatRequest(config.group_id, 0, NOBODY)
        answer = await client._send_request(beat, coordinator)  # noqa: SLF001  no public way to send a request
    except GroupAuthorizationFailedError:
        return [lack]
    except KafkaError:
        return []  # a coordinator that is not there yet tells nothing of rights
    return [lack] if answer.error_code == GroupAuthorizationFailedError.errno else []


async def _of_commits(config: Config) -> list[Lack]:
    """Try to claim a transactional id of our own that nobody uses."""
    try:
        await close_producer(await transactional_producer(config, config.transactional_id(PROBE, 0)))
    except TransactionalIdAuthorizationFailed:
        begin = f"{config.group_id}-"
        mend = f"allow Write and Describe on transactional ids that begin with {begin} (ACL, prefixed)"
        return [Lack(f"transactional ids {begin}*: Write not allowed", mend)]
    except KafkaError as error:
        raise Transient(f"no transaction can be begun: {error!r}; start again") from error
    return []
