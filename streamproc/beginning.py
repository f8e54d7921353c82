"""What a pipeline begins with: its settings and the service catalogue as bodies of artifacts, what arms it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import orjson
import yaml

from streamproc.core.errors import Unusable
from streamproc.core.fold import CONFIG
from streamproc.events.feedback import ARM, Policy, PolicyKind
from streamproc.policies import POLICIES, body_of
from streamproc.services import CATALOGUE, Catalogue
from streamproc.settings import Settings

BESIDE = "runs beside another route"
"""Reason of the disarming that a start with --beside leaves in the log: `arm` refuses while it stands."""


def arming(
    version: int, now: datetime, *, author: str, adopt: bool = True, withdrawn: bool = False, reason: str = ""
) -> Policy:
    """Return the policy that arms the pipeline, or disarms it."""
    return Policy(
        policy_id=ARM,
        kind=PolicyKind.ARM,
        version=version,
        starts_at=now,
        author=author,
        reason=reason or ("disarmed" if withdrawn else "armed"),
        withdrawn=withdrawn,
        adopt=adopt,
    )


def read_catalogue(settings: Settings) -> str | None:
    """Return the service catalogue of the settings as the body of its artifact, None where none is set.

    Raises:
        Unusable: the file cannot be read or used.
    """
    if settings.services is None:
        return None
    return catalogue_of(settings.services)


def catalogue_of(file: Path) -> str:
    """Return a services.yaml as the body of the artifact `catalogue`.

    Raises:
        Unusable: the file cannot be read or used.
    """
    try:
        given = yaml.safe_load(file.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: dates that are none, no UTF-8
        raise Unusable(f"{file} cannot be read: {error}") from error
    try:
        return Catalogue.of(orjson.dumps(given or {}).decode()).model_dump_json()
    except (Unusable, TypeError) as error:
        raise Unusable(f"{file}: {error}") from error


def settings_of(settings: Settings, catalogue: str | None) -> dict[str, str]:
    """Return what settings decide by, as bodies of artifacts by kind; no catalogue where none is set."""
    bodies = {CONFIG: settings.stages(), POLICIES: body_of(settings.policies)}
    return bodies if catalogue is None else {**bodies, CATALOGUE.name: catalogue}
