"""Ids of topics, as the broker gave them when it made each: one made anew has another; and what we may do with each.

aiokafka asks for neither.

Source of the layout: Kafka's message definitions MetadataRequest.json and MetadataResponse.json, version 12.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.protocol.api import Request, RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.types import (  # type: ignore[import-untyped]
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streamproc.core.errors import Unusable
from streamproc.runtime.faust.client import AIOKafkaAdminClient

NONE = UUID(int=0)
HIDDEN = 29
"""Kafka's number for a topic that we may not even know of."""
UNTOLD = -(2**31)
"""What an operation set is where the broker does not say."""


class _Uuid:
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))

    @classmethod
    def repr(cls, value: UUID) -> str:
        return str(value)


_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", CompactArray(Int32)),
    ("isr", CompactArray(Int32)),
    ("offline", CompactArray(Int32)),
    ("tags", TaggedFields),
)
_TOPIC = (
    ("error_code", Int16),
    ("topic", CompactString("utf-8")),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", CompactArray(*_PARTITION)),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)
_BROKER = (
    ("node_id", Int32),
    ("host", CompactString("utf-8")),
    ("port", Int32),
    ("rack", CompactString("utf-8")),
    ("tags", TaggedFields),
)


class _TopicIdsResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(*_BROKER)),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        ("topics", CompactArray(*_TOPIC)),
        ("tags", TaggedFields),
    )


class _TopicIdsStruct(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _TopicIdsResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIds(Request[_TopicIdsStruct]):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3

    def __init__(self, topics: Iterable[str], *, operations: bool = False) -> None:
        self._topics = list(topics)
        self._operations = operations

    def build(self, request_struct_class: type[Any]) -> Any:
        return request_struct_class([(NONE, topic, {}) for topic in self._topics], False, self._operations, {})


async def topic_ids(client: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, str]:
    """Return the id of each topic that there is, by its name at the broker.

    Raises:
        Unusable: the broker is older than Kafka 2.8 and has no topic ids.
    """
    response = await _asked(client, _TopicIds(topics))
    return {topic: str(found) for code, topic, found, *_ in response.topics if code == 0}


async def topic_operations(client: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, int]:
    """Return what we may do with each topic that there is, or that is hidden from us: a set of Kafka's operations.

    Returns:
        By the topic's name at the broker an integer whose bits are Kafka's numbers of operations; `UNTOLD` where the
        broker does not say, 0 where it hides the topic.

    Raises:
        Unusable: as for `topic_ids`.
    """
    response = await _asked(client, _TopicIds(topics, operations=True))
    told = {}
    for code, topic, _, _, _, operations, _ in response.topics:
        if code in (0, HIDDEN):
            told[topic] = 0 if code == HIDDEN else operations
    return told


async def _asked(client: AIOKafkaAdminClient, request: _TopicIds) -> Any:
    try:
        return await client._send_request(request)  # noqa: SLF001  no public way to send a request
    except NotImplementedError as error:
        raise Unusable("the broker has no topic ids; Kafka 3.0 or newer is needed") from error
