"""`streamproc topics`, `worker` and `gateway`: the pipeline on Apache Kafka.

What knows Kafka is imported inside the functions: Faust and aiokafka take a second to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from streamproc import settings as configuration
from streamproc.commands.common import PROBLEMS, AsJson, ConfigFile, Host, Port, gateway_at
from streamproc.commands.console import count_of, listing, show
from streamproc.core.errors import Unusable

topics = typer.Typer(no_args_is_help=True, help="Topics at the broker: apply, check, describe.")


@topics.command("apply")
def apply(config: ConfigFile = None) -> None:
    """Create what is missing and set what differs; what others have set at a topic is left."""
    from streamproc.distributed import apply_topics  # noqa: PLC0415  loads Faust

    done = asyncio.run(apply_topics(configuration.load(config)))
    for line in done:
        typer.echo(line)
    if not done:
        typer.echo("Nothing to do: every topic is as it must be.")


@topics.command("check")
def check(config: ConfigFile = None) -> None:
    """Say what is not as it must be; exit code 1 where anything is not."""
    from streamproc.distributed import check_topics, wanted  # noqa: PLC0415  loads Faust

    settings = configuration.load(config)
    findings = asyncio.run(check_topics(settings))
    for finding in findings:
        typer.echo(str(finding))
    if findings:
        raise typer.Exit(PROBLEMS)
    typer.echo(f"{count_of(len(wanted(settings)), 'topic')}, all as they must be.")


@topics.command("describe")
def describe(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the topics as they are at the broker, and those that are missing."""
    from streamproc.distributed import describe_topics, wanted  # noqa: PLC0415  loads Faust

    settings = configuration.load(config)
    found = asyncio.run(describe_topics(settings))
    names = [topic.name for topic in wanted(settings)]
    if as_json:
        there = {name: found.get(name) for name in names}
        typer.echo(orjson.dumps(there, option=orjson.OPT_INDENT_2).decode())
        return
    table = listing("TOPIC", "PARTITIONS", "REPLICAS", "KEPT", "ID")
    for name in names:
        topic = found.get(name)
        if topic is None:
            table.add_row(name, "-", "-", "missing", "-")
            continue
        kept = topic.settings.get("cleanup.policy", "")
        if kept == "delete":
            kept = f"{int(topic.settings['retention.ms']) // 3_600_000} h"
        table.add_row(name, str(topic.partitions), str(topic.replication), kept, topic.topic_id)
    show(table)


def worker(
    config: ConfigFile = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of /live, /ready and /metrics; none without it, 0 takes a free one."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the same.")] = "127.0.0.1",
    armed: Annotated[
        bool, typer.Option("--armed", help="Page from the first moment: no dry run, nothing is adopted.")
    ] = False,
    beside: Annotated[
        bool, typer.Option("--beside", help="Next to another route to PagerDuty: deliver nothing, armed or not.")
    ] = False,
) -> None:
    """Run one worker of the pipeline on Kafka: decisions, and pages to PagerDuty.

    Any number share the work, up to one for each partition. Kill one at any moment: the others go on where it was. It
    ends itself with a code from 70 to 76 where it cannot keep a promise; let a supervisor start it again.
    """
    from streamproc.commands.run import refuse_both, serve  # noqa: PLC0415  loads the embedded runtime
    from streamproc.distributed import working  # noqa: PLC0415  loads Faust
    from streamproc.runtime.logs import configure  # noqa: PLC0415  with the others

    refuse_both(armed=armed, beside=beside)
    settings = configuration.load(config)
    configure(settings.logs.level, settings.logs.form)
    pipeline = partial(working, settings, armed=armed, host=host, port=port, beside=beside)
    serve(settings, pipeline)


def gateway(
    config: ConfigFile = None,
    port: Port = None,
    host: Host = None,
    mirror: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder for a copy of what is shown: a restart then has it at once. Made anew without it.",
        ),
    ] = None,
    beside: Annotated[
        bool,
        typer.Option(
            "--beside",
            help="Watch another route to PagerDuty, and report weekly; needs --mirror, and one gateway alone.",
        ),
    ] = False,
) -> None:
    """Run one gateway of the pipeline on Kafka: alerts in, incidents to look at.

    Any number may run behind a load balancer. An alert is acknowledged once it is on every replica in sync.
    """
    from uvicorn.loops.auto import auto_loop_factory  # noqa: PLC0415  loads uvloop, where there is one

    from streamproc.commands.run import serve  # noqa: PLC0415  loads the embedded runtime
    from streamproc.distributed import taking_in  # noqa: PLC0415  loads Faust
    from streamproc.runtime.logs import configure  # noqa: PLC0415  with the others

    settings = gateway_at(configuration.load(config), host, port)
    configure(settings.logs.level, settings.logs.form)
    pipeline: Callable[..., AbstractAsyncContextManager[Any]]
    pipeline = partial(taking_in, settings, mirror, renew=partial(configuration.load, config))
    if beside:
        from streamproc.commands.beside import beside_of  # noqa: PLC0415  only who runs beside needs it

        if mirror is None:
            raise Unusable("--beside keeps what it knows of PagerDuty in the folder of --mirror: name one")
        pipeline = beside_of(settings, mirror, pipeline)
    serve(settings, pipeline, auto_loop_factory())
