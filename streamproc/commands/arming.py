"""`streamproc arm` and `disarm`: from the dry run to pages, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from streamproc.beginning import BESIDE, arming
from streamproc.commands.common import DEFAULT_DATA, Author, ConfigFile, DataDir, Yes, confirm, login
from streamproc.commands.console import count_of
from streamproc.commands.site import STATUS, OnKafka, Site, opened, when
from streamproc.core.errors import Unusable
from streamproc.events.feedback import ARM, Policy
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.embedded.desk import SqliteDesk

Adopt = Annotated[
    bool,
    typer.Option(
        "--adopt/--page-open", help="Adopt what is open with one summary, or page it as if it had begun just now."
    ),
]


def arm(
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    author: Author = "",
    adopt: Adopt = True,
    yes: Yes = False,
) -> None:
    """Let pages go out; what is open now is adopted with one summary.

    Until then the pipeline is in a dry run: it decides and shows everything and sends nothing.
    """
    with opened(data_dir, config, STATUS, kafka=kafka) as site:
        known = _known(site.desk)
        if known is not None and not known.withdrawn:
            typer.echo(f"Armed already, by {known.author} at {known.starts_at:%Y-%m-%d %H:%M:%S} UTC.")
            return
        if known is not None and known.reason == BESIDE:
            raise Unusable("it runs --beside, and so delivers nothing: start it without --beside, then arm it")
        standing = count_of(site.desk.status().open_incidents, "incident")
        fate = "adopted with one summary and no page" if adopt else "paged as if new"
        confirm(f"Pages will go out from now on. {standing} open now will be {fate}. Arm?", yes=yes)
        _wish(site, known, author, adopt=adopt, withdrawn=False)


def disarm(
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    author: Author = "",
    yes: Yes = False,
) -> None:
    """Back to the dry run: everything is decided, and nothing new is sent.

    What was paged before is still acknowledged and resolved at PagerDuty.
    """
    with opened(data_dir, config, STATUS, kafka=kafka) as site:
        known = _known(site.desk)
        if known is None or known.withdrawn:
            typer.echo("Not armed: the pipeline is in a dry run already.")
            return
        paged = count_of(site.desk.status().paged_incidents, "incident")
        confirm(f"No new page will go out. {paged} paged now will still be resolved at PagerDuty. Disarm?", yes=yes)
        _wish(site, known, author, adopt=True, withdrawn=True)


def _known(desk: SqliteDesk) -> Policy | None:
    return next((policy for policy in desk.policies() if policy.policy_id == ARM), None)


def _wish(site: Site, known: Policy | None, author: str, *, adopt: bool, withdrawn: bool) -> None:
    version = 1 if known is None else known.version + 1
    policy = arming(version, SystemClock().now(), author=login(author), adopt=adopt, withdrawn=withdrawn)
    taken = site.append([Entry.of("policies", policy)])
    typer.echo(f"{'Disarmed' if withdrawn else 'Armed'} (by {policy.author}). {when(taken=taken)}")
