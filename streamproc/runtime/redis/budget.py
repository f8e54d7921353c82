"""An account's budget of requests to PagerDuty, shared through Redis by every process that uses the account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

from redis.asyncio import Redis

from streamproc.runtime.redis.connection import UNKNOWN, Connection, end
from streamproc.runtime.redis.share import SPAN, Answer, Question, Share
from streamproc.runtime.work import OTHER

EVERY = 0.25
"""Seconds between leases."""
SETTLING = 6.0
"""Seconds after the keys were lost in which nothing is leased: longer than Redis is left alone by anybody."""
MISSED = 3.0
"""Seconds after which the share of a holder that is not heard of is kept back from the others."""
FORGOTTEN = 90.0
"""Seconds after which a holder that is not heard of counts no more: it may have crashed, and begun again as another."""
LEASE = """
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second + tonumber(time[2]) / 1000000
local limit, span, want, floor = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local me, known, settling = ARGV[5], ARGV[6], tonumber(ARGV[7])
local missed, forgotten = tonumber(ARGV[8]), tonumber(ARGV[9])
local life = redis.call('HGET', KEYS[1], 'life')
if not life then
  life = time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
  redis.call('HSET', KEYS[1], 'life', life)
end
if known == '' or known == life then
  local back = math.min(tonumber(ARGV[11]), tonumber(redis.call('HGET', KEYS[1], ARGV[10]) or 0))
  if back > 0 then redis.call('HINCRBY', KEYS[1], ARGV[10], -back) end
  for i = 12, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[1], string.format('%d', math.floor(now - tonumber(ARGV[i]))), ARGV[i + 1])
  end
end
local total, used = 0, {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local at, count = tonumber(fields[i]), tonumber(fields[i + 1])
  if fields[i] ~= 'life' then
    if at + span <= second or count <= 0 then
      redis.call('HDEL', KEYS[1], fields[i])
    else
      total = total + count
      used[#used + 1] = string.format('%.3f', math.max(0, now - at - 1))
      used[#used + 1] = tostring(count)
    end
  end
end
redis.call('ZADD', KEYS[2], now, me)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - forgotten)
local holders = redis.call('ZCARD', KEYS[2])
local silent = redis.call('ZCOUNT', KEYS[2], '-inf', now - missed)
local kept = math.min(silent * math.floor(limit / holders), math.floor(limit / 2))
local settles = (now - tonumber(life) < settling) and 1 or 0
local granted = 0
if settles == 0 then granted = math.max(0, math.min(want, limit - total - kept - floor)) end
if granted > 0 then
  redis.call('HINCRBY', KEYS[1], time[1], granted)
  used[#used + 1] = '0'
  used[#used + 1] = tostring(granted)
end
redis.call('EXPIRE', KEYS[1], math.ceil(span + forgotten))
redis.call('EXPIRE', KEYS[2], math.ceil(span + forgotten))
return {life, settles, second, granted, limit - total - kept - granted, holders, unpack(used)}
"""
FIXED = 6
"""Parts of an answer before the list of what is used."""


class AccountBudget:
    """A budget of one account. Use it as an async context manager, on one event loop; give it to whoever sends.

    It is an `Allowance` of the sender, and a `Budget` of the client of the REST API.

    Args:
        connection: to Redis.
        name: `events`, or `rest` with what tells keys apart: `rest:1a2b`.
        limit: requests of the account in any minute.
        holder: names this process among all that use the account.
        span: seconds that a request counts.
        settling: seconds after the keys were lost, or first made, in which nothing is leased.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        limit: int,
        holder: str,
        *,
        span: float = SPAN,
        settling: float = SETTLING,
    ) -> None:
        self._connection = connection
        self._label = name.partition(":")[0]
        self._keys = [f"{connection.prefix}:{{budget:{name}}}:{part}" for part in ("spent", "holders")]
        self._holder = holder
        self._span = span
        self._settling = settling
        self.share = Share(limit, span)
        self._listeners: list[Callable[[], None]] = []
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.renew()
        self._task = asyncio.create_task(self._run(), name="streamproc-budget")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)
        await self._leave()

    # -- for the sender ----------------------------------------------------------------------------------------------

    def least_urgent(self, now: float) -> int:
        """Return the least urgent rank that may send one request now; -1 where none may."""
        return self.share.least_urgent(now)

    def spend(self, now: float, count: int = 1) -> None:
        """Note `count` requests."""
        self._connection.metrics.spent.labels(self._label, "alone" if self.share.alone else "leased").inc(count)
        self.share.spend(now, count)

    def want(self, rank: int) -> None:
        """Note that a request of this rank waits for it."""
        self.share.want(rank)

    def next_free(self, now: float) -> float | None:
        """Return when more may be free although nothing is told, None where that is not known."""
        return self.share.next_free(now)

    def listen(self, changed: Callable[[], None]) -> None:
        """Call `changed` after each answer, and when there is none."""
        self._listeners.append(changed)

    # -- for the REST API --------------------------------------------------------------------------------------------

    async def take(self, n: int = 1) -> None:
        """Return when `n` requests may be made; they count as made."""
        while n:
            now = time.monotonic()
            some = min(n, self.share.free(now)) if self.share.least_urgent(now) == OTHER else 0
            if some:
                self.spend(now, some)
                n -= some
                continue
            self._more.clear()
            await self._more.wait()

    # -- leasing -----------------------------------------------------------------------------------------------------

    async def renew(self) -> None:
        """Give back what is left of the last lease, and take the next."""
        question = self.share.ask(time.monotonic())
        found = await self._connection.ask("budget", lambda client: self._lease(client, question))
        now = time.monotonic()
        if found is UNKNOWN:
            self.share.lose(now)
        else:
            self.share.take(question, found, now)
        self._connection.metrics.holders.labels(self._label).set(self.share.holders)
        self._more.set()
        for changed in self._listeners:
            changed()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self.renew()

    async def _lease(self, client: Redis, question: Question) -> Answer:
        told = [part for age, count in question.told for part in (f"{age:.3f}", str(count))]
        said = (self.share.limit, self._span, question.want, question.floor, self._holder, question.known)
        fixed = (*said, self._settling, MISSED, FORGOTTEN, *question.back)
        return answer_of(await client.register_script(LEASE)(keys=self._keys, args=[*fixed, *told]))

    async def _leave(self) -> None:
        """Give everything back, and be no holder any more."""
        question = self.share.ask(time.monotonic())

        async def left(client: Redis) -> int:
            await self._lease(client, Question(0, 0, question.known, question.back, question.told))
            return int(await client.zrem(self._keys[1], self._holder))

        await self._connection.ask("budget", left)


def answer_of(found: list[Any]) -> Answer:
    """Return what the script says."""
    life, settling, second, granted, left, holders = found[:FIXED]
    used = found[FIXED:]
    pairs = zip(used[::2], used[1::2], strict=True)
    by_age = sorted(((float(age), int(count)) for age, count in pairs), reverse=True)
    return Answer(str(life), bool(settling), int(second), int(granted), int(left), int(holders), tuple(by_age))
