"""Whether spans are made at all, and that those which wait are posted at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from streamproc.ports import Traces
from streamproc.runtime.process import this_process
from streamproc.runtime.traces.config import Config


@asynccontextmanager
async def exporting(config: Config, registry: CollectorRegistry, instance: str = "") -> AsyncIterator[Traces | None]:
    """Export spans while the context is open; None where no endpoint is set.

    Args:
        config: where to.
        registry: where metrics are kept.
        instance: which process of the installation this is; machine and process id by default.
    """
    if config.endpoint is None:
        yield None
        return
    from streamproc.runtime.traces.otlp import Exporter  # noqa: PLC0415  a fifth of a second that only traces are worth

    name = instance or this_process()
    exporter = Exporter(config, config.endpoint, name, registry)
    try:
        yield exporter
    finally:
        await asyncio.to_thread(exporter.close)
