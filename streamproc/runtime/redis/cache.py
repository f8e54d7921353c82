"""Bodies of versions in Redis, by their checksum: a worker that begins need not read all versions that ever were.

What comes from Redis is taken only where its SHA-256 is the checksum that was asked for. So Redis can be slow, empty
or wrong: it can never change a decision.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from functools import partial

import structlog
from redis.asyncio import Redis

from streamproc.runtime.redis.connection import UNKNOWN, Connection

log = structlog.get_logger(__name__)

KEPT = 30 * 24 * 3600
"""Seconds that Redis keeps a body since it was last asked for or written."""
LARGEST = 8 * 1024 * 1024
"""Bytes of a body that is written at most: a larger one would only run into the time-out."""
LOCAL = 64 * 1024 * 1024
"""Characters of the bodies that are kept in the process at most."""


class BodyCache:
    """Bodies by checksum: those asked for last in this process, all of them in Redis.

    Args:
        connection: to Redis.
        local: characters of bodies that are kept in the process at most.
    """

    def __init__(self, connection: Connection, *, local: int = LOCAL) -> None:
        self._connection = connection
        self._counted = connection.metrics.cache
        self._most = local
        self._held: OrderedDict[str, str] = OrderedDict()
        self._size = 0

    async def get(self, checksum: str) -> str | None:
        """Return a body, None where neither the process nor Redis has it."""
        body, where = self._held.get(checksum), "hit_local"
        if body is None:
            body, where = await self._fetch(checksum), "hit_redis"
        self._counted.labels("versions", where if body is not None else "miss").inc()
        if body is not None:
            self._hold(checksum, body)
        return body

    async def put(self, checksum: str, body: str) -> None:
        """Keep a body that the log holds."""
        self._hold(checksum, body)
        if len(body.encode()) <= LARGEST:
            await self._connection.ask("cache", partial(self._set, checksum, body))

    def _hold(self, checksum: str, body: str) -> None:
        self._size += len(body) - len(self._held.pop(checksum, ""))
        self._held[checksum] = body
        while self._size > self._most:
            self._size -= len(self._held.popitem(last=False)[1])

    async def _fetch(self, checksum: str) -> str | None:
        found = await self._connection.ask("cache", partial(self._get, checksum))
        if found is UNKNOWN or found is None:
            return None
        if hashlib.sha256(found.encode()).hexdigest() != checksum:
            log.warning("Redis holds another body than the one that was asked for; it is not used.", checksum=checksum)
            return None
        return found

    def _key(self, checksum: str) -> str:
        return f"{self._connection.prefix}:body:{checksum}"

    async def _get(self, checksum: str, client: Redis) -> str | None:
        found = await client.getex(self._key(checksum), ex=KEPT)
        return None if found is None else str(found)

    async def _set(self, checksum: str, body: str, client: Redis) -> bool:
        return bool(await client.set(self._key(checksum), body, ex=KEPT))
