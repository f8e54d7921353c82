"""What stands in the topic of policies, read from outside: for those who want to add a version of something."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ValidationError

from streamproc.core.event import Activated
from streamproc.core.step import ActiveRow
from streamproc.events.feedback import Policy
from streamproc.runtime.faust.client import Place, TopicPartition, reader
from streamproc.runtime.faust.config import Config

POLICIES = "policies"
WAIT_MS = 200


@dataclass
class Standing:
    """The newest version of everything, folded already or not."""

    active: dict[str, ActiveRow] = field(default_factory=dict)
    """By kind: `config`, `catalogue`, models."""
    policies: dict[str, Policy] = field(default_factory=dict)
    """By id."""


async def read_standing(config: Config) -> Standing:
    """Read the topic of policies to its end.

    Raises:
        KafkaError: the broker does not answer.
    """
    standing = Standing()
    place = TopicPartition(config.topic(POLICIES), 0)
    async with reader(config, [Place(*place)]) as consumer:
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for messages in (await consumer.getmany(place, timeout_ms=WAIT_MS)).values():
                for message in messages:
                    _take(standing, dict(message.headers).get("type", b"").decode("ascii", "replace"), message.value)
    return standing


def _take(standing: Standing, kind: str, value: bytes | None) -> None:
    try:
        if kind == Activated.TYPE:
            event = Activated.model_validate_json(value or b"")
            known = standing.active.get(event.kind)
            if known is None or known.version < event.version:
                standing.active[event.kind] = ActiveRow(kind=event.kind, version=event.version, checksum=event.checksum)
        elif kind == Policy.TYPE:
            policy = Policy.model_validate_json(value or b"")
            before = standing.policies.get(policy.policy_id)
            if before is None or before.version < policy.version:
                standing.policies[policy.policy_id] = policy
    except ValidationError:
        return  # relay-policies makes it a dead letter
