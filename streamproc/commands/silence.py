"""`streamproc silence`: what shall not page for a while."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Literal

import typer
from rich.text import Text

from streamproc.commands.common import DEFAULT_DATA, AsJson, Author, ConfigFile, DataDir, login
from streamproc.commands.console import at, lasting, listing, show
from streamproc.commands.site import POLICIES, OnKafka, Site, opened, when
from streamproc.commands.spans import moment, span
from streamproc.core.errors import Unusable
from streamproc.core.identity import digest
from streamproc.events.feedback import Policy, PolicyKind
from streamproc.matching import parse, written
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.stages.relay import refuse_unsafe

app = typer.Typer(no_args_is_help=True, help="Silences and maintenance windows: add, list, expire.")

State = Literal["active", "pending", "ended", "expired"]
MUTING = (PolicyKind.SILENCE, PolicyKind.MAINTENANCE)
STYLES = {"active": "bold green", "pending": "yellow", "ended": "dim", "expired": "dim"}


@app.command()
def add(
    matcher: Annotated[
        list[str],
        typer.Option("--matcher", "-m", help="Condition as in Alertmanager: =, !=, =~, !~. All must hold; repeat it."),
    ],
    lasts: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d12h.")] = "",
    starts: Annotated[str, typer.Option(help="When it begins (ISO 8601, UTC without an offset). Now without it.")] = "",
    ends: Annotated[str, typer.Option(help="When it ends, in place of --for.")] = "",
    comment: Annotated[str, typer.Option(help="Why; shown with every alert that it mutes.")] = "",
    author: Author = "",
    maintenance: Annotated[bool, typer.Option("--maintenance", help="A planned maintenance window.")] = False,
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
) -> None:
    """Add a silence, or a maintenance window.

    Alerts that it matches are still decided and shown, and do not page; resolves always pass.
    """
    begins = moment(starts) if starts else SystemClock().now()
    kind = PolicyKind.MAINTENANCE if maintenance else PolicyKind.SILENCE
    matchers = tuple(parse(text) for text in matcher)
    until = _end(begins, lasts, ends)
    said = sorted(written(one) for one in matchers)
    policy = Policy(
        policy_id=f"{kind}:{digest(kind, begins.isoformat(), until.isoformat(), *said)[:12]}",
        kind=kind,
        version=1,
        matchers=matchers,
        starts_at=begins,
        ends_at=until,
        author=login(author),
        reason=comment,
    )
    refuse_unsafe(policy)
    if until <= SystemClock().now():
        raise Unusable(f"it would have ended at {at(until)} UTC already")
    with opened(data_dir, config, (), kafka=kafka) as site:
        taken = site.append([Entry.of("policies", policy)])
    typer.echo(f"{policy.policy_id}  until {at(until)} UTC. {when(taken=taken)}")


@app.command("list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Ended and expired ones too, while they are known.")] = False,
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List silences and maintenance windows."""
    now = SystemClock().now()
    with opened(data_dir, config, POLICIES, kafka=kafka) as site:
        found = _muting(site)
    found = [policy for policy in found if every or _state(policy, now) in ("active", "pending")]
    if as_json:
        typer.echo(json.dumps([{**policy.model_dump(mode="json"), "state": _state(policy, now)} for policy in found]))
        return
    if not found:
        typer.echo("Nothing is silenced.")
        return
    table = listing("ID", "STATE", "MATCHERS", "STARTS (UTC)", "ENDS (UTC)", "AUTHOR", "COMMENT")
    for policy in sorted(found, key=lambda policy: policy.starts_at):
        state = _state(policy, now)
        ends = policy.ends_at
        left = f" ({lasting(ends - now)} left)" if ends is not None and state == "active" else ""
        table.add_row(
            policy.policy_id,
            Text(state, style=STYLES[state]),
            Text(" ".join(written(one) for one in policy.matchers)),
            at(policy.starts_at),
            f"{at(ends)}{left}" if ends is not None else "",
            Text(policy.author),
            Text(policy.reason),
        )
    show(table)


@app.command()
def expire(
    policy_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or how that begins.")],
    author: Author = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
) -> None:
    """End a silence or a maintenance window now."""
    with opened(data_dir, config, POLICIES, kafka=kafka) as site:
        policy = _named(_muting(site), policy_id)
        if policy.withdrawn:
            typer.echo(f"{policy.policy_id} is expired already.")
            return
        gone = policy.model_copy(update={"version": policy.version + 1, "withdrawn": True, "author": login(author)})
        taken = site.append([Entry.of("policies", gone)])
    typer.echo(f"{policy.policy_id} is expired. {when(taken=taken)}")


def _muting(site: Site) -> list[Policy]:
    return [policy for policy in site.desk.policies() if policy.kind in MUTING]


def _named(found: list[Policy], policy_id: str) -> Policy:
    named = [policy for policy in found if policy.policy_id == policy_id]
    named = named or [policy for policy in found if _begins(policy, policy_id)]
    if len(named) != 1:
        what = f"{len(named)} begin with {policy_id!r}; give more of it" if named else f"none is called {policy_id!r}"
        raise Unusable(f"{what}: `streamproc silence list --all` shows them")
    return named[0]


def _begins(policy: Policy, prefix: str) -> bool:
    return policy.policy_id.startswith(prefix) or policy.policy_id.partition(":")[2].startswith(prefix)


def _end(begins: datetime, lasts: str, ends: str) -> datetime:
    if bool(lasts) == bool(ends):
        raise Unusable("say how long with --for 2h, or until when with --ends; one of them")
    return moment(ends) if ends else begins + span(lasts)


def _state(policy: Policy, now: datetime) -> State:
    if policy.withdrawn:
        return "expired"
    if policy.ends_at is None or policy.ends_at <= now:
        return "ended"
    return "pending" if policy.starts_at > now else "active"
