"""What a topic is; the list of them is `topics/*.toml`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Topic(BaseModel):
    """One topic of the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9.-]*$")
    """Name in the log."""
    version: int = Field(ge=1)
    """Version of the topic's meaning; the number in its file name."""
    title: str
    """What the topic holds, in one sentence."""
    key: str
    """Attribute of the events that is the record key; empty where the topic has one partition and no compaction."""
    events: tuple[str, ...]
    """Wire names of the events that the topic may hold."""
    partitions: int = Field(ge=1)
    """Number of partitions on Kafka; fixed for the life of the topic. The embedded runtime uses one."""
    cleanup: Literal["delete", "compact"] = "delete"
    """How the log is kept short: by age, or by keeping the newest record of a key."""
    retention_hours: int = Field(default=168, ge=1)
    """Age after which a record may go, where cleanup is by age."""
    producer: str
    """Who writes it."""
    consumers: tuple[str, ...]
    """Who reads it."""
    public: bool = False
    """True where the topic is a documented, stable interface for others."""
