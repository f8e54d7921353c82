"""`streamproc verify`: whether a page follows from the log, by deriving it again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from streamproc.backtest.recorded import EmbeddedInboxes, Inboxes
from streamproc.backtest.verifying import (
    Checked,
    Derived,
    Finding,
    Upstream,
    check,
    check_upstream,
    claims_of,
    derive,
    overall,
)
from streamproc.commands.common import DEFAULT_DATA, PROBLEMS, AsJson, ConfigFile, DataDir
from streamproc.commands.console import at, clock_time, columns, count_of, heading, show
from streamproc.commands.explain import found
from streamproc.commands.site import INCIDENTS, OnKafka, opened
from streamproc.core.errors import Unusable
from streamproc.core.identity import incident_of
from streamproc.views import IncidentView

UNTOLD = 6
"""Exit code where it cannot be told."""
UPGRADED = "Was streamproc upgraded since? Another version may have decided otherwise; the log does not name it."
SHOWN = 300
"""Characters of a value that differs."""
STYLES = {Finding.VERIFIED: "bold green", Finding.DIFFERS: "bold red", Finding.UNTOLD: "bold yellow"}
EXITS = {Finding.VERIFIED: 0, Finding.DIFFERS: PROBLEMS, Finding.UNTOLD: UNTOLD}


def verify(
    page: Annotated[
        str,
        typer.Argument(
            help="An incident (all its pages), a dedup key, or one page of it, INCIDENT#NUMBER, as explain shows it."
        ),
    ],
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Derive what it was decided on again, too, from the requests that came in.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Derive pages again from the log, and say whether they come out the same, bit for bit.

    Exit code 0: verified. 1: the log holds something else than what follows. 6: it cannot be told, and what is missing.
    """
    name, _, number = page.partition("#")
    if number and not number.isdecimal():
        raise Unusable(f"{page!r}: what stands behind # is the number of a page, as `streamproc explain` shows it")
    with opened(data_dir, config, INCIDENTS, kafka=kafka) as site, recorded(data_dir, config, kafka=kafka) as inboxes:
        view = found(site.desk, incident_of(name) or name)
        checked, derived = _checked(inboxes, view, name, number)
        upstream = check_upstream(inboxes, derived.episodes) if deep else None
    finding = overall(checked, upstream)
    if as_json:
        typer.echo(json.dumps(_dumped(view, checked, derived, upstream, finding)))
    else:
        show(_told(view, checked, derived, upstream, finding))
    raise typer.Exit(EXITS[finding])


@contextmanager
def recorded(data_dir: Path, config: ConfigFile, *, kafka: bool) -> Iterator[Inboxes]:
    """Open the log of a pipeline.

    Raises:
        StreamprocError: there is none, or it cannot be read.
    """
    if not kafka:
        with EmbeddedInboxes(data_dir) as embedded:
            yield embedded
        return
    from streamproc import settings as configuration  # noqa: PLC0415  the others do without them
    from streamproc.runtime.faust.inboxes import KafkaInboxes  # noqa: PLC0415  loads aiokafka

    with KafkaInboxes(configuration.load(config).kafka) as inboxes:
        yield inboxes


def _checked(inboxes: Inboxes, view: IncidentView, name: str, number: str) -> tuple[list[Checked], Derived]:
    """Derive what was said about an incident, and compare it."""
    incident_id = view.summary.incident_id
    claims = claims_of(inboxes, incident_id, view.pages)
    if not claims:
        raise Unusable(f"nothing was said about {incident_id}: there is no page to verify")
    if number:
        claims = [claim for claim in claims if claim.seq == int(number)]
    elif name != incident_id and incident_of(name):
        claims = [claim for claim in claims if claim.said.dedup_key == name]
    if not claims:
        raise Unusable(f"{incident_id} has no such page; `streamproc explain {incident_id}` lists them")
    origins = [origin for claim in claims if (origin := claim.origin) is not None]
    partition = origins[0].partition if origins else 0
    until = max((origin.offset for origin in origins), default=-1) + 1
    derived = derive(inboxes, incident_id, partition, until)
    return [check(claim, derived) for claim in claims], derived


def _told(
    view: IncidentView, checked: Sequence[Checked], derived: Derived, upstream: Upstream | None, finding: Finding
) -> RenderableType:
    title = Text.assemble((finding.upper(), STYLES[finding]), "  ", (view.summary.title, "bold"))
    parts: list[RenderableType] = [title, Text(view.summary.incident_id, "dim")]
    table = columns(12, 11, None)
    for one in checked:
        table.add_row(Text(clock_time(_moment(one)), "dim"), Text(one.claim.said.action, "bold"), _line(one))
    parts += [heading("PAGES", "each derived again, and compared with the log"), table]
    if finding is Finding.DIFFERS:
        parts.append(Text(UPGRADED, "dim"))
    facts = columns(11, None)
    for name, said in _facts(derived, upstream):
        facts.add_row(Text(name, "dim"), said)
    return Group(*parts, heading("FOLDED AGAIN", "by node decide, in memory: nothing was sent or written"), facts)


def _moment(one: Checked) -> Any:
    said = one.claim.escalation
    return one.claim.pages[0].decided_at if said is None else said.at


def _line(one: Checked) -> Text:
    said = one.claim.said
    told = Text.assemble(
        (one.finding, STYLES[one.finding]), f" #{one.claim.seq} · {said.destination} · {said.dedup_key}"
    )
    told.append(f"\n{one.why[:1].upper()}{one.why[1:]}.", "dim")
    if (receipt := one.receipt) is not None:
        versions = f"settings {receipt.config_version}, catalogue {receipt.catalogue_version}"
        told.append(f"\n{versions}, model {receipt.model_version} · inbox sha256 {receipt.inbox[:16]}", "dim")
    if one.difference is not None:
        for name, value in (("the log holds", one.difference.held), ("folding says ", one.difference.derived)):
            told.append(f"\n{name}: ", "dim").append(_short(value))
    return told


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _facts(derived: Derived, upstream: Upstream | None) -> Iterable[tuple[str, Text]]:
    held = derived.slice
    since = "" if held.since is None else f" ({at(held.since)} UTC)"
    begin = "the beginning of the log" if held.start == 0 else f"offset {held.start}, where the log now begins"
    yield "records", Text(f"{count_of(held.folded, 'record')} of episodes/{held.partition}, from {begin}{since}")
    if held.missing:
        yield "missing", Text(f"versions that the log does not hold: {', '.join(held.missing)}", "yellow")
    if upstream is not None:
        counted = f"{count_of(upstream.episodes, 'record')} of the incident's members: " if upstream.episodes else ""
        yield "upstream", Text.assemble((upstream.finding, STYLES[upstream.finding]), f" · {counted}{upstream.why}")


def _dumped(
    view: IncidentView, checked: Sequence[Checked], derived: Derived, upstream: Upstream | None, finding: Finding
) -> dict[str, Any]:
    return {
        "incident_id": view.summary.incident_id,
        "finding": finding,
        "pages": [_page(one) for one in checked],
        "folded": _slice(derived),
        "upstream": None if upstream is None else {"finding": upstream.finding, "why": upstream.why},
    }


def _page(one: Checked) -> dict[str, Any]:
    said = one.claim.said
    return {
        "number": one.claim.seq,
        "action": said.action,
        "destination": said.destination,
        "dedup_key": said.dedup_key,
        "decided_at": _moment(one).isoformat(),
        "finding": one.finding,
        "why": one.why,
        "difference": None if one.difference is None else one.difference._asdict(),
        "receipt": None if one.receipt is None else one.receipt.model_dump(),
    }


def _slice(derived: Derived) -> dict[str, Any]:
    held = derived.slice
    return {
        "partition": held.partition,
        "start": held.start,
        "since": None if held.since is None else held.since.isoformat(),
        "records": held.folded,
        "missing": list(held.missing),
    }
