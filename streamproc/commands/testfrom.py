"""`streamproc test --from`: a page that was, or was not, as a case that guards what shall be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import typer
import yaml

from streamproc import settings as configuration
from streamproc.backtest.recorded import EmbeddedInboxes, Inboxes
from streamproc.beginning import read_catalogue
from streamproc.commands.common import ConfigFile
from streamproc.commands.site import INCIDENTS, opened
from streamproc.commands.written import write_whole
from streamproc.core.errors import Unusable
from streamproc.policytest.capturing import Captured, Wanted, capture, case_of, ground_then, slug
from streamproc.policytest.format import Suite
from streamproc.policytest.playing import Ground, play
from streamproc.policytest.reading import Read
from streamproc.recording.keys import any_key
from streamproc.recording.redaction import Redactor
from streamproc.recording.rules import Rules
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.views import IncidentView

SECRETS = Rules(detected=frozenset({"email", "token"}))
"""What no case holds; anything else of it may be what decides."""


def write_case(
    incident: str, places: Sequence[Path], expect: Wanted, data_dir: Path, config: ConfigFile, *, kafka: bool
) -> None:
    """Write a case of an incident into a file, or to standard output where none is named.

    Raises:
        Unusable: there is no such incident, the log holds too little of it, or the file exists.
    """
    if len(places) > 1:
        raise Unusable("--from writes one file: name one, or a folder, or none for standard output")
    with opened(data_dir, config, INCIDENTS, kafka=kafka) as site:
        view = _found(site.desk, incident)
    with _log(data_dir, config, kafka=kafka) as inboxes:
        found = capture(inboxes, view)
        then = ground_then(inboxes, found.begins)
    if then is None:
        typer.echo("The log does not hold the settings that decided it: those of now are taken.", err=True)
        settings = configuration.load(config)
        then = Ground.of(settings, read_catalogue(settings))
    thin = _reproduced(found, then)
    redactor = Redactor(SECRETS, any_key())
    made = case_of(found, redactor, expect, thin=thin)
    target = _target(places, redactor.text(view.summary.title), view.summary.incident_id)
    head = {} if config is None else {"config": _beside(config, target)}
    text = yaml.safe_dump({**head, "cases": [made]}, sort_keys=False, allow_unicode=True, width=120)
    if target is None:
        typer.echo(text, nl=False)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"{target.parent} cannot be made: {error.strerror}") from error
    write_whole(target, text, private=False)
    typer.echo(f"{target}: {made['name']}. Look through it before it goes anywhere: label values are as they were.")


def _found(desk: SqliteDesk, text: str) -> IncidentView:
    named = [text, *desk.matching(text)]
    views = {view.summary.incident_id: view for name in named if (view := desk.incident(name)) is not None}
    if text in views or len(views) == 1:
        return views.get(text) or next(iter(views.values()))
    if not views:
        raise Unusable(f"no incident is called {text!r}; `streamproc status` lists the open ones")
    raise Unusable(f"{text!r} could be {', '.join(sorted(views))}: give more of it")


def _reproduced(found: Captured, ground: Ground) -> bool:
    """Return whether the case comes to what was also without repeats.

    Raises:
        Unusable: it does not come to what was, even with all that the log holds.
    """
    failed = ""
    for thin in (True, False):
        made = case_of(found, Redactor(SECRETS, any_key()), "as-it-was", thin=thin)
        (result,) = play(_as_read(made), ground)
        if result.passed:
            return thin
        failed = result.summary
    raise Unusable(
        f"played alone, {found.view.summary.incident_id} does not come to what it came to then ({failed}): "
        "what decided it is not in its own alerts, silences and answers, as after arming, or with a learned model"
    )


def _as_read(made: dict[str, Any]) -> Read:
    document = {"cases": [made]}
    root = yaml.compose(yaml.safe_dump(document, sort_keys=False), Loader=yaml.SafeLoader)
    assert root is not None  # noqa: S101  it was just written
    return Read(Path("case"), Suite.model_validate(document), root)


def _target(places: Sequence[Path], title: str, incident_id: str) -> Path | None:
    if not places:
        return None
    (place,) = places
    folder = place.is_dir() or place.suffix not in {".yaml", ".yml"}
    target = place / f"{slug(title)}-{incident_id[-8:]}.test.yaml" if folder else place
    if target.exists():
        raise Unusable(f"{target} exists already: name another file")
    return target


def _beside(config: Path, target: Path | None) -> str:
    """Return where the settings are, as seen from the file."""
    folder = Path.cwd() if target is None else target.parent
    return os.path.relpath(config, folder)


def _log(data_dir: Path, config: ConfigFile, *, kafka: bool) -> AbstractContextManager[Inboxes]:
    if not kafka:
        return EmbeddedInboxes(data_dir)
    from streamproc.runtime.faust.inboxes import KafkaInboxes  # noqa: PLC0415  loads aiokafka

    return KafkaInboxes(configuration.load(config).kafka)
