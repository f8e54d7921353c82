"""`streamproc test-page`: does a routing key work, and does PagerDuty hear this machine?"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from streamproc import settings as configuration
from streamproc.commands.common import ConfigFile, OutsideRefused
from streamproc.core.errors import Transient, Unusable
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, PageAction, PageText, Verdict
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.logs import configure
from streamproc.settings import Settings
from streamproc.sinks.pagerduty.client import EventsClient, Sent
from streamproc.sinks.pagerduty.config import EU_EVENTS, US_EVENTS
from streamproc.sinks.pagerduty.encode import encode
from streamproc.stages.escalate import DEFAULT

KEY = 32
"""Characters of a routing key."""
RoutingKey = Annotated[
    str,
    typer.Option(
        "--routing-key",
        envvar="PAGERDUTY_ROUTING_KEY",
        help="Integration key of a PagerDuty service (Events API v2): 32 characters.",
        show_default=False,
    ),
]
TEXT = PageText(
    summary="TEST of streamproc: nothing is wrong, this resolves by itself",
    source="streamproc test-page",
    severity=Severity.INFO,
    kind="test",
    details={"what": "Somebody ran `streamproc test-page` to see that pages arrive. Nothing needs to be done."},
)


def page_a_test(
    config: ConfigFile = None,
    routing_key: RoutingKey = "",
    keep: Annotated[bool, typer.Option("--keep", help="Leave it open; without it, it is resolved at once.")] = False,
) -> None:
    """Send a test page to PagerDuty, and resolve it again.

    It is marked as a test. Without --routing-key it goes to the destination `default` of the settings.
    """
    settings = configuration.load(config)
    destination = settings.pagerduty.destinations.get(DEFAULT)
    key = checked(routing_key) or (destination.routing_key.get_secret_value() if destination else "")
    if not key:
        raise Unusable("there is no routing key: give --routing-key, or set PAGERDUTY_ROUTING_KEY")
    typer.echo(send_test_page(settings, key, keep=keep))


def checked(routing_key: str) -> str:
    """Return a routing key without the spaces around it; empty stays empty.

    Raises:
        Unusable: it cannot be one.
    """
    key = routing_key.strip()
    if key and (len(key) != KEY or not key.isascii() or not key.isalnum()):
        raise Unusable(
            f"that is no routing key: PagerDuty's have {KEY} letters and digits, this has {len(key)} characters"
        )
    return key


def send_test_page(settings: Settings, key: str, *, keep: bool) -> str:
    """Send a test page, and resolve it unless `keep`; return what PagerDuty answered.

    Raises:
        OutsideRefused: PagerDuty did not take it; the message says why, and the mend.
        Transient: PagerDuty did not answer.
    """
    configure("critical", "console")  # the answer is told here, once
    at = settings.pagerduty.api.base_url
    sent = asyncio.run(_send(settings, key, keep=keep))
    for answer in sent:
        _refuse(answer, at)
    said = [f"PagerDuty answered {answer.status}: {answer.message}" for answer in sent]
    return f"{said[0]}. The test page {'stays open' if keep else 'is resolved again'} (key ...{key[-4:]}, {at})."


async def _send(settings: Settings, key: str, *, keep: bool) -> list[Sent]:
    once = settings.pagerduty.api.retry_config.model_copy(update={"max_attempts": 1})
    api = settings.pagerduty.api.model_copy(update={"retry_config": once})
    actions = [PageAction.TRIGGER] if keep else [PageAction.TRIGGER, PageAction.RESOLVE]
    now = SystemClock().now()
    name = f"streamproc-test-page/{now.isoformat()}"
    answers = []
    async with EventsClient(api) as client:
        for seq, action in enumerate(actions, start=1):
            escalation = Escalation(
                incident_id=name,
                scope="test",
                destination=DEFAULT,
                routing_key=key,
                dedup_key=name,
                action=action,
                seq=seq,
                text=TEXT if action is PageAction.TRIGGER else None,
                at=now,
            )
            answers.append(await client.send(encode(escalation, delayed_by=None)))
            if answers[-1].verdict is not Verdict.DELIVERED:
                break
    return answers


def _refuse(answer: Sent, at: str) -> None:
    if answer.verdict is Verdict.REFUSED:
        mend = "check that the key is the Integration Key of an Events API v2 integration"
        raise OutsideRefused(f"{at} refused the test page with {answer.status}: {answer.message}; {mend}{region(at)}")
    if answer.status is not None and answer.verdict is Verdict.AGAIN:
        raise Transient(f"{at} could not take the test page ({answer.status}: {answer.message}); try again in a minute")
    if answer.verdict is Verdict.AGAIN:
        raise Transient(f"{at} cannot be reached ({answer.message}); is a proxy or a firewall between{region(at)}")


def region(at: str) -> str:
    """Return what to change where the account is in the other region."""
    regions = {US_EVENTS: ("EU", EU_EVENTS), EU_EVENTS: ("US", US_EVENTS)}
    if at not in regions:
        return ""
    name, address = regions[at]
    return f"; an account in the {name} needs pagerduty.api.base_url: {address}"
