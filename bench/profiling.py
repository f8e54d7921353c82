"""Where the time goes: the functions that took most of a profile, by what they took themselves."""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path


def hottest(profile: cProfile.Profile, most: int = 10) -> list[tuple[str, float]]:
    """Return the functions with the largest shares of a profile, waiting left out."""
    spent = {
        _name(file, line, name): own
        for (file, line, name), (*_, own, _, _) in vars(pstats.Stats(profile))["stats"].items()
        if "poll" not in name
    }
    whole = sum(spent.values())
    return [(name, own / whole) for name, own in sorted(spent.items(), key=lambda pair: -pair[1])[:most]]


def _name(file: str, line: int, name: str) -> str:
    if file == "~":
        return name.strip("<>")
    path = Path(file)
    return f"{path.parent.name}/{path.name}:{line} {name}"
