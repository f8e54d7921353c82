"""Policies of the settings file: silences and maintenance windows that are written down as a part of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from streamproc.core.errors import Rejected, Unusable
from streamproc.events.feedback import Policy, PolicyKind
from streamproc.matching import parse
from streamproc.stages.relay import refuse_unsafe

POLICIES = "policies"
"""Kind of the artifact that holds the policies of a settings file."""
PREFIX = "settings/"
"""Begins the ids of policies of the settings file."""
MOMENT = timedelta(seconds=1)


class PolicyConfig(BaseModel):
    """A silence or a maintenance window."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["silence", "maintenance"] = "silence"
    """What it is called; both mute."""
    matchers: tuple[str, ...] = Field(min_length=1)
    """Conditions as in Alertmanager, for example `service="checkout"`; all must hold."""
    starts_at: AwareDatetime | None = None
    """When it begins; empty for when it first counts."""
    ends_at: AwareDatetime
    """When it ends."""
    reason: str = Field(min_length=1)
    """Why; shown with every alert that it mutes."""
    author: str = ""
    """Who wants it."""

    @field_validator("matchers")
    @classmethod
    def _are_matchers(cls, told: tuple[str, ...]) -> tuple[str, ...]:
        for text in told:
            try:
                parse(text)
            except Unusable as error:
                raise ValueError(str(error)) from None
        return told

    @model_validator(mode="after")
    def _is_safe(self) -> PolicyConfig:
        try:
            refuse_unsafe(self.policy("it", self.starts_at or self.ends_at - MOMENT, 1))
        except Rejected as refusal:
            raise ValueError(str(refusal)) from None
        return self

    def policy(self, name: str, begins: datetime, version: int) -> Policy:
        """Return the record of a policy.

        Args:
            name: its key in the settings.
            begins: when it begins.
            version: of the policy.
        """
        return Policy(
            policy_id=f"{PREFIX}{name}",
            kind=PolicyKind(self.kind),
            version=version,
            matchers=tuple(parse(text) for text in self.matchers),
            starts_at=begins,
            ends_at=self.ends_at,
            author=self.author or "settings",
            reason=self.reason,
        )


Policies = dict[Annotated[str, Field(min_length=1, max_length=100)], PolicyConfig]
_BODY: TypeAdapter[dict[str, PolicyConfig]] = TypeAdapter(dict[str, PolicyConfig])


def body_of(policies: Mapping[str, PolicyConfig]) -> str:
    """Return policies as the body of their artifact."""
    told = {name: one.model_dump(mode="json", exclude_none=True) for name, one in policies.items()}
    return json.dumps(told, ensure_ascii=False, sort_keys=True)


def policies_of(body: str) -> dict[str, PolicyConfig]:
    """Return the policies of a body that `body_of` made."""
    return _BODY.validate_json(body)


def wishes(wanted: Mapping[str, PolicyConfig], known: Iterable[Policy], now: datetime) -> list[Policy]:
    """Return what must be told so that exactly the wanted policies stand: new and changed ones, and withdrawals.

    Args:
        wanted: by their keys in the settings; one that has ended is none.
        known: the newest version of every policy that is known; those of people are left alone.
        now: the moment.
    """
    standing = {policy.policy_id: policy for policy in known if policy.policy_id.startswith(PREFIX)}
    found: list[Policy] = []
    for name, one in sorted(wanted.items()):
        if one.ends_at <= now:
            continue
        before = standing.pop(f"{PREFIX}{name}", None)
        if before is None:
            found.append(one.policy(name, one.starts_at or now, 1))
            continue
        stood = min(before.starts_at, now)  # one that was to begin later, and says so no more, begins now
        same = one.policy(name, one.starts_at or stood, before.version)
        if same != before:
            begins = one.starts_at or (now if before.withdrawn else stood)
            found.append(one.policy(name, begins, before.version + 1))
    gone = (one for one in standing.values() if not one.withdrawn and (one.ends_at is None or one.ends_at > now))
    return [*found, *(one.model_copy(update={"version": one.version + 1, "withdrawn": True}) for one in gone)]
