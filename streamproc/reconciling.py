"""The reconciliation with PagerDuty, put together from the settings."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from streamproc.ports import Inlet
from streamproc.reconcile.report import ReconciliationStatus
from streamproc.runtime.clock import Clock
from streamproc.runtime.process import this_process
from streamproc.runtime.reconcile_metrics import ReconcileMetrics
from streamproc.runtime.reconciler import Books, Reconciler
from streamproc.settings import Settings
from streamproc.sinks.pagerduty.rest import RestClient

if TYPE_CHECKING:
    from streamproc.runtime.redis.connection import Connection

log = structlog.get_logger(__name__)


def destinations_of(settings: Settings) -> dict[str, str]:
    """Return the name of the destination of each routing key."""
    return {
        key.get_secret_value(): name
        for name, one in settings.pagerduty.destinations.items()
        for key in (one.ticket_routing_key, one.routing_key)
        if key is not None
    }


async def begin_reconciling(
    settings: Settings,
    books: Books,
    inlet: Inlet,
    clock: Clock,
    registry: CollectorRegistry,
    redis: Connection | None,
    stack: AsyncExitStack,
) -> Reconciler | None:
    """Begin to look at PagerDuty again and again, until the stack ends; None where that is not wanted, or has no key.

    Args:
        settings: everything that can be set.
        books: what is known here.
        inlet: the way into the log.
        clock: moments.
        registry: where metrics are kept.
        redis: shares PagerDuty's limit among processes; None where each has the share of the settings.
        stack: ends it.
    """
    rest = settings.pagerduty.rest
    if not settings.pagerduty.reconcile_every or not rest.api_key.get_secret_value():
        return None
    budget = None
    if redis is not None:
        from streamproc.runtime.redis.budget import AccountBudget  # noqa: PLC0415  redis-py is loaded where it is used

        budget = await stack.enter_async_context(AccountBudget(redis, "rest", rest.requests_per_minute, this_process()))
    client = await stack.enter_async_context(RestClient(rest, budget))
    reconciler = Reconciler(
        client,
        books,
        inlet,
        clock,
        destinations_of(settings),
        ReconcileMetrics(registry),
        every=settings.pagerduty.reconcile_every,
    )
    looking = asyncio.create_task(reconciler.run(), name="streamproc-reconciler")
    looking.add_done_callback(_ended)
    stack.push_async_callback(_end, looking)
    return reconciler


def standing_of(reconciler: Reconciler | None) -> ReconciliationStatus:
    """Return how the reconciliation stands, also where there is none."""
    return ReconciliationStatus(enabled=False) if reconciler is None else reconciler.status()


async def _end(looking: asyncio.Task[None]) -> None:
    looking.cancel()
    await asyncio.wait({looking})


def _ended(looking: asyncio.Task[None]) -> None:
    """Say so where it broke: alerts are taken and pages sent without it, which matters more."""
    if not looking.cancelled() and (failure := looking.exception()) is not None:
        log.error("What PagerDuty holds is no longer compared; start again.", error=repr(failure))
