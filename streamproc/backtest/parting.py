"""Where two reason chains part. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamproc.core.event import Why

IDS = frozenset({"incident", "feedback", "sample", "seq", "checksum", "like"})
"""Figures of reason chains that only name something: that they differ says nothing."""


@dataclass(frozen=True, slots=True)
class Parting:
    """The first step at which two reason chains part."""

    stage: str
    a: Why | None
    """None where A's chain is over already."""
    b: Why | None
    figures: tuple[str, ...] = ()
    """The figures that differ, where stage and reason are the same."""


def part(a: Sequence[Why], b: Sequence[Why]) -> Parting | None:
    """Return where two reason chains part, None where they say the same.

    Figures that both tell are compared too, but not those that only name something. Where the chains begin at different
    moments, figures tell more of the records than of the configurations: other reasons go before them.
    """
    same_record = bool(a and b) and a[0].now == b[0].now
    reasons = _parting(a, b, figures=False)
    return _parting(a, b, figures=True) if same_record or reasons is None else reasons


def _parting(a: Sequence[Why], b: Sequence[Why], *, figures: bool) -> Parting | None:
    for ours, theirs in zip(a, b, strict=False):
        if (ours.stage, ours.reason) != (theirs.stage, theirs.reason):
            return Parting(ours.stage, ours, theirs)
        named = _unlike(ours.figures, theirs.figures) if figures else ()
        if named:
            return Parting(ours.stage, ours, theirs, named)
    if len(a) == len(b):
        return None
    shorter = min(len(a), len(b))
    longer = (a if len(a) > len(b) else b)[shorter]
    return Parting(longer.stage, *((longer, None) if len(a) > len(b) else (None, longer)))


def _unlike(a: Mapping[str, object], b: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(sorted(name for name in (a.keys() & b.keys()) - IDS if a[name] != b[name]))
