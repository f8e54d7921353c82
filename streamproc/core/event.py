"""Events: frozen models that travel in the log, and the few that the fold itself understands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Scalar = str | int | float | bool | None
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Frozen(BaseModel):
    """A model that is never changed: a copy may share whatever it does not replace."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def trusted(cls, **values: Any) -> Self:
        """Return a model of values that are known to be right: nothing is validated or copied; 4 times as fast.

        For what the pipeline itself makes by the thousand a second. Defaults are filled in.
        """
        made = object.__new__(cls)
        _set(made, "__dict__", {**_defaults(cls), **values})
        _set(made, "__pydantic_fields_set__", set(values))
        _set(made, "__pydantic_extra__", None)
        _set(made, "__pydantic_private__", None)
        return made

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, which are not validated; 5 times as fast as pydantic's own.

        A decision makes some twenty copies, so this was a fifth of its cost.
        """
        if deep:
            return super().model_copy(update=update, deep=True)
        copied = object.__new__(type(self))
        _set(copied, "__dict__", {**self.__dict__, **update} if update else dict(self.__dict__))
        _set(copied, "__pydantic_fields_set__", self.__pydantic_fields_set__)
        _set(copied, "__pydantic_extra__", None)
        _set(copied, "__pydantic_private__", None)
        return copied


_set = object.__setattr__


@cache
def _defaults(kind: type[Frozen]) -> dict[str, Any]:
    """Return the defaults of a model, in the order of its fields: JSON is written in this order too."""
    return {name: field.get_default() for name, field in kind.model_fields.items()}


class Event(Frozen):
    """What travels in the log. Unknown fields of a newer writer are ignored, so that a rolling upgrade can be read."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")

    TYPE: ClassVar[str]
    """Name and version on the wire, for example `alert.v1`; the header `type` carries it."""

    def encode(self) -> bytes:
        """Return the value of the record."""
        return self.model_dump_json().encode()

    def extra_headers(self) -> dict[str, bytes]:
        """Return headers beside `type` and `now`, which the fold adds."""
        return {}

    @classmethod
    def decode(cls, value: bytes, headers: Mapping[str, bytes]) -> Self:  # noqa: ARG003  a raw event reads them
        """Return the event of a record.

        Raises:
            pydantic.ValidationError: the value is not JSON, or not of this schema.
        """
        return cls.model_validate_json(value)


class Why(Frozen):
    """One link of a reason chain: which stage decided what, on which figures, at which record of which inbox."""

    model_config = ConfigDict(frozen=True)

    stage: str
    reason: str
    now: AwareDatetime
    origin: str
    """`topic/partition/offset` of the inbox record that was decided on."""
    figures: dict[str, Scalar] = {}


class Explained(Event):
    """An event that carries its reason chain; the fold extends it, stages never do."""

    trail: tuple[Why, ...] = ()


class Wake(Event):
    """A timer that has come due. The fold drops it unless `due` still stands in the row as `wake_at`."""

    TYPE: ClassVar[str] = "wake.v1"

    table: str
    key: str
    due: AwareDatetime
    forced: bool = False
    """True where the runtime no longer waited for upstream nodes that lag behind `due`."""
    fired: AwareDatetime | None = None
    """When it was produced: long after `due` where nothing ran in between. Decisions are dated by `due` still."""


class Activated(Event):
    """Switches every row-holder to one immutable version of a large thing (configuration, catalogue, model)."""

    TYPE: ClassVar[str] = "activated.v1"

    kind: str
    version: int = Field(ge=1)
    checksum: Digest
    author: str = ""
    reason: str = ""


class Artifact(Event):
    """An immutable version of a large thing; readers find it by the checksum of its body."""

    TYPE: ClassVar[str] = "artifact.v1"

    kind: str
    version: int = Field(ge=1)
    checksum: Digest
    body: str

    @property
    def artifact_id(self) -> str:
        """Key of the compacted topic: `kind/version/checksum`."""
        return f"{self.kind}/{self.version}/{self.checksum}"


class DeadLetter(Event):
    """An input that could not be used, kept with its bytes so that it can be read, mended and retried."""

    TYPE: ClassVar[str] = "dead-letter.v1"

    reason: str
    detail: str
    node: str = ""
    stage: str = ""
    topic: str = ""
    partition: int = -1
    offset: int = -1
    part: int = 0
    """Which refused part of the record this is, where one record holds several alerts."""
    now: AwareDatetime | None = None
    value: bytes = b""
    headers: dict[str, str] = {}
    left_out: int | None = Field(default=None, exclude_if=lambda told: told is None)
    """Bytes of a value that was too large for a dead letter: it stands in its inbox alone, and cannot be retried."""

    @property
    def retryable(self) -> bool:
        """True where it came out of an inbox, and is whole."""
        return self.topic != "" and self.left_out is None

    @property
    def letter_id(self) -> str:
        """Key of the dead-letter topic, and the name by which a person retries it."""
        return f"{self.topic}:{self.partition}:{self.offset}:{self.part}"


def iso(moment: datetime) -> bytes:
    """Return a UTC moment as it stands in headers, microseconds kept."""
    return moment.isoformat(timespec="microseconds").encode()
