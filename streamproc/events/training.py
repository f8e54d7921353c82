"""Sample: the features of a decision, kept until its label is known. Label: what people made of it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AwareDatetime

from streamproc.core.event import Event


class Sample(Event):
    """Features as they stood when the incident was decided; the prediction is scored before it is learned from."""

    TYPE: ClassVar[str] = "sample.v1"

    sample_id: str
    """Incident id: one sample an incident, of the alert that opened it."""
    features: dict[str, float]
    p_page: float | None = None
    model_version: int = 0
    at: AwareDatetime


class Label(Event):
    """Whether an incident was worth a page."""

    TYPE: ClassVar[str] = "label.v1"

    sample_id: str
    page: bool
    weight: float = 1.0
    source: str
    """`acknowledged`, `label`, `unheeded` and the like."""
    at: AwareDatetime
