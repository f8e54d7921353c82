"""Rights at a broker: given as an administrator does. aiokafka has no request for it.

Source of the layout: Kafka's message definitions CreateAclsRequest.json and CreateAclsResponse.json, version 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String  # type: ignore[import-untyped]

from streamproc.runtime.faust.client import AIOKafkaAdminClient

LITERAL, PREFIXED = 3, 4
DENY, ALLOW = 2, 3


class Kind(IntEnum):
    """Kafka's numbers of what a right is on."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class Operation(IntEnum):
    """Kafka's numbers of what a right is to."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11


@dataclass(frozen=True)
class Acl:
    """One right of one user."""

    kind: Kind
    name: str
    operation: Operation
    prefixed: bool = True
    allowed: bool = True


class _Response(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("results", Array(("error_code", Int16), ("error_message", String("utf-8"))))
    )


class _Struct(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "creations",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("pattern_type", Int8),
                ("principal", String("utf-8")),
                ("host", String("utf-8")),
                ("operation", Int8),
                ("permission_type", Int8),
            ),
        )
    )


class _CreateAcls(Request[_Struct]):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 30

    def __init__(self, user: str, acls: Iterable[Acl]) -> None:
        self._creations = [
            (
                each.kind,
                each.name,
                PREFIXED if each.prefixed else LITERAL,
                f"User:{user}",
                "*",
                each.operation,
                ALLOW if each.allowed else DENY,
            )
            for each in acls
        ]

    def build(self, request_struct_class: type[Any]) -> Any:
        return request_struct_class(self._creations)


async def grant(client: AIOKafkaAdminClient, user: str, acls: Iterable[Acl]) -> None:
    """Give a user rights, or take them away."""
    response = await client._send_request(_CreateAcls(user, acls))
    assert [message for code, message in response.results if code] == []
