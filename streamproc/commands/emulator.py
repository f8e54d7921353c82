"""`streamproc emulator`: a PagerDuty to try things against, without an account."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.server import serve


def emulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8081,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    webhook_url: Annotated[str, typer.Option(help="Where its webhooks go; empty for none.")] = "",
    webhook_secret: Annotated[
        str, typer.Option(envvar="PAGERDUTY_WEBHOOK_SECRET", help="Key of their signatures.", show_default=False)
    ] = "",
    rate_limit: Annotated[int | None, typer.Option(min=1, help="Events a minute for each routing key.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="File that every accepted event is appended to.", dir_okay=False)
    ] = None,
) -> None:
    """Run a PagerDuty emulator on this machine.

    Strict about the Events API v2, with the REST API v2; signed webhooks tell what responders do on its page; faults on
    demand.
    """
    config = EmulatorConfig(
        webhook_url=webhook_url, webhook_secret=webhook_secret, rate_limit=rate_limit, record=record
    )
    asyncio.run(_serve(config, host, port))


async def _serve(config: EmulatorConfig, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    served = await serve(config, host, port)
    typer.echo(f"PagerDuty emulator: {served.url}  (incidents and buttons; Ctrl-C stops it)")
    typer.echo(f"Use it with: PAGERDUTY_EVENTS_URL={served.url} PAGERDUTY_API_URL={served.url} streamproc run")
    await stop.wait()
    await served.stop()
