"""`streamproc pagerduty webhook`: the subscription that brings back what people do in PagerDuty."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families

from streamproc import settings as configuration
from streamproc.commands.common import PROBLEMS, ConfigFile, OutsideRefused, Yes, confirm
from streamproc.commands.written import check_writable, write_whole
from streamproc.core.errors import Unusable
from streamproc.gateway.pagerduty import KINDS
from streamproc.runtime.logs import configure
from streamproc.settings import Settings
from streamproc.sinks.pagerduty.config import is_local
from streamproc.sinks.pagerduty.resources import NewSubscription, Scope, WebhookSubscription
from streamproc.sinks.pagerduty.rest import PagerDutyRest, RestClient

app = typer.Typer(no_args_is_help=True, help="The webhook subscription: create, verify, delete.")

PATH = "/v1/feedback/pagerduty"
VARIABLE = "PAGERDUTY_WEBHOOK_SECRET"
EVENTS = frozenset(KINDS)
"""Event types that are of use here."""
_PAUSE = 0.1

Url = Annotated[str, typer.Option("--url", help=f"Where PagerDuty sends to: the gateway's public address with {PATH}.")]


@app.command()
def create(
    url: Url,
    config: ConfigFile = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            "--secret-file",
            help=f"Environment file that {VARIABLE} is put into, readable by its owner alone; without it the secret is "
            "printed.",
            dir_okay=False,
        ),
    ] = None,
    service: Annotated[
        str, typer.Option(help="Only events of this service, by name or id; all of the account where empty.")
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Put a new subscription, with a new secret, in the place of the old one.")
    ] = False,
) -> None:
    """Create the subscription with the event types that are used, and store its signing secret.

    PagerDuty tells the secret once. A secret that the file has already stays in it beside the new one, so that nothing
    is refused meanwhile.
    """
    settings = _loaded(config)
    where = _address(url)
    if secret_file is not None:
        check_writable(secret_file)
    made = asyncio.run(_create(settings, where, service, secret_file, replace=replace))
    typer.echo(f"Subscription {made.id} sends {len(made.events)} event types to {made.url}.", err=True)
    if secret_file is None:
        typer.echo(f"{VARIABLE}={made.secret.get_secret_value()}")
        typer.echo("That is its secret: PagerDuty does not tell it again.", err=True)
    else:
        typer.echo(f"Its secret is in {secret_file} as {VARIABLE}.", err=True)
    typer.echo(
        f"Start the gateway with it, then: streamproc pagerduty webhook verify --url {made.url}",
        err=True,
    )


@app.command()
def verify(
    url: Url,
    config: ConfigFile = None,
    gateway: Annotated[
        str, typer.Option(help="Where the gateway is reached from here; the address of the settings by default.")
    ] = "",
    wait: Annotated[float, typer.Option(min=0.1, help="Seconds that a ping may take.")] = 15.0,
) -> None:
    """Check the subscription, and that a ping of PagerDuty arrives at the gateway with a signature that holds.

    Exit code 1 where something is wrong. Where no gateway answers and --gateway is not given, only the subscription is
    checked.
    """
    settings = _loaded(config)
    found = asyncio.run(_subscription(settings, _address(url)))
    faults = list(_faults(found, settings))
    if not faults:
        faults = _pinged(settings, found, gateway, wait)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(PROBLEMS)


@app.command()
def delete(url: Url, config: ConfigFile = None, yes: Yes = False) -> None:
    """Delete the subscriptions that send to an address."""
    settings = _loaded(config)
    where = _address(url)
    confirm(f"What people do in PagerDuty will no longer come back through {where}. Delete?", yes=yes)
    names = asyncio.run(_delete(settings, where))
    typer.echo(f"Deleted {', '.join(names)}." if names else f"No subscription sends to {where}.")


def _loaded(config: Path | None) -> Settings:
    configure("critical", "console")  # what goes wrong is told here, once
    return configuration.load(config)


def _address(url: str) -> str:
    given = url.strip()
    parts = urlsplit(given)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local(parts.hostname or "")):
        raise Unusable(f"{given}: PagerDuty sends to https:// only; put a proxy with a certificate before the gateway")
    if parts.path in ("", "/"):
        raise Unusable(f"{given}: the gateway takes webhooks at {PATH}: give {given.rstrip('/')}{PATH}")
    return given


async def _create(
    settings: Settings, url: str, service: str, secret_file: Path | None, *, replace: bool
) -> WebhookSubscription:
    async with RestClient(settings.pagerduty.rest) as client:
        old = await _sending_to(client, url)
        if old and not replace:
            raise Unusable(
                f"{url} has a subscription already ({old[0].id}): verify it, or --replace it for a new secret"
            )
        scope = await _scope(client, service)
        wanted = NewSubscription(url=url, events=EVENTS, description="streamproc", filter=scope)
        made = await client.create_webhook_subscription(wanted)
        if not made.secret.get_secret_value():
            await client.delete_webhook_subscription(made.id)
            raise OutsideRefused(
                "PagerDuty told no secret; the subscription is deleted again: create it in its web page"
            )
        if secret_file is not None:
            try:
                _store(secret_file, made.secret.get_secret_value())
            except Unusable:
                # Without its secret it would only be refused by the gateway.
                await client.delete_webhook_subscription(made.id)
                raise
        for one in old:
            await client.delete_webhook_subscription(one.id)
    return made


async def _sending_to(client: PagerDutyRest, url: str) -> list[WebhookSubscription]:
    return [one for one in await client.webhook_subscriptions() if one.url == url]


async def _scope(client: PagerDutyRest, service: str) -> Scope:
    if not service:
        return Scope()
    services = await client.services()
    for one in services:
        if service in (one.id, one.name):
            return Scope(type="service_reference", id=one.id)
    known = ", ".join(sorted(one.name for one in services)[:20]) or "none"
    raise Unusable(f"PagerDuty has no service {service!r}; it has {known}")


def _store(file: Path, secret: str) -> None:
    """Put a secret into an environment file, behind those that it has."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{file} cannot be read: it is no environment file") from error
    begin = f"{VARIABLE}="
    held = [part for line in lines if line.startswith(begin) for part in line.removeprefix(begin).split(",") if part]
    others = [line for line in lines if not line.startswith(begin)]
    write_whole(file, "\n".join([*others, f"{begin}{','.join([*held, secret])}", ""]), private=True)


async def _subscription(settings: Settings, url: str) -> WebhookSubscription:
    async with RestClient(settings.pagerduty.rest) as client:
        found = await _sending_to(client, url)
        everything = await client.webhook_subscriptions()
    if found:
        return found[0]
    others = ", ".join(sorted({one.url for one in everything})[:5]) or "none"
    raise Unusable(
        f"no subscription sends to {url} (others: {others}): streamproc pagerduty webhook create --url {url}"
    )


def _faults(found: WebhookSubscription, settings: Settings) -> Iterator[str]:
    again = "streamproc pagerduty webhook create --replace"
    if not found.active:
        yield f"{found.id} is not active: switch it on in PagerDuty, or {again}"
    if found.temporarily_disabled:
        yield (
            f"{found.id} is switched off by PagerDuty for 24 h, since three webhooks in a row were refused (most often "
            f"a wrong secret): mend that, then switch it on in PagerDuty, or {again}"
        )
    if missing := EVENTS - found.events:
        yield f"{found.id} does not send {', '.join(sorted(missing))}: {again}"
    if settings.pagerduty.security.webhook_validation and not settings.gateway.webhook_secrets:
        yield f"no signing secret is set here, so the gateway answers 503: set {VARIABLE} or gateway.webhook_secrets"


def _pinged(settings: Settings, found: WebhookSubscription, gateway: str, wait: float) -> list[str]:
    """Let PagerDuty ping, and see at the gateway's metrics what came of it; return what is wrong."""
    base = gateway.rstrip("/") or f"http://{settings.gateway.host}:{settings.gateway.port}"
    before = _heard(base)
    if before is None and gateway:
        return [f"no gateway answers at {base}: is it up, and the address right?"]
    asyncio.run(_ping(settings, found.id))
    if before is None:
        typer.echo(f"{found.id} is active. Whether its ping arrived is not known: no gateway answers at {base}.")
        return []
    until = time.monotonic() + wait
    while time.monotonic() < until:
        taken, refused = _heard(base) or before
        if taken > before[0]:
            typer.echo(f"{found.id} is active; its ping arrived at {base}, and the signature holds.")
            return []
        if refused > before[1]:
            return [f"a ping arrived at {base} and was refused: the secret set there is not that of {found.id}"]
        time.sleep(_PAUSE)
    mend = f"{found.url} must be reachable for PagerDuty, and lead to the gateway"
    return [f"no ping arrived at {base} within {wait:g} s: {mend}"]


async def _ping(settings: Settings, name: str) -> None:
    async with RestClient(settings.pagerduty.rest) as client:
        await client.ping_webhook_subscription(name)


def _heard(base: str) -> tuple[float, float] | None:
    """Return how many webhooks of no use the gateway took, and how many it refused; None where it does not answer."""
    try:
        answer = httpx.get(f"{base}/metrics", timeout=5.0)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    taken = refused = 0.0
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == "streamproc_feedback_total" and sample.labels.get("kind") == "ignored":
                taken += sample.value
            route, status = sample.labels.get("route"), sample.labels.get("status")
            if sample.name == "streamproc_http_requests_total" and route == PATH and status in ("401", "503"):
                refused += sample.value
    return taken, refused


async def _delete(settings: Settings, url: str) -> list[str]:
    async with RestClient(settings.pagerduty.rest) as client:
        found = await _sending_to(client, url)
        for one in found:
            await client.delete_webhook_subscription(one.id)
    return [one.id for one in found]
