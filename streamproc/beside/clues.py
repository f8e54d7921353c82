"""What the details of a foreign alert at PagerDuty tell of the alert at its source. Pure.

Sources: Alertmanager's `config/notifiers.go` (DefaultPagerdutyDetails: `firing` is the template `__text_alert_list`
until 0.28 and JSON from then on) and `template/default.tmpl`; Datadog's details hold `tags`, as text or as a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

MOST_SETS, MOST_LABELS, MOST_TEXT = 20, 64, 4_000
"""Of one alert so many label sets, of one set so many labels, and so many characters of text are kept."""
DEEPEST = 6
_LABEL = re.compile(r"^ - (?P<name>[A-Za-z_][A-Za-z0-9_]*) = (?P<value>.*)$")
_TAG = re.compile(r"(?P<name>[A-Za-z][\w./-]*):(?P<value>[^\s,;]+)")


class Clues(BaseModel):
    """What may tell which alert it was."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    labels: tuple[dict[str, str], ...] = ()
    """Label sets of the alerts that Alertmanager put into it."""
    occurrences: tuple[str, ...] = ()
    """`fingerprint@startsAt` of them, where they are told."""
    tags: dict[str, str] = {}
    """Datadog's tags, and other details that are a name with a short text."""
    text: str = ""
    """All other text."""


NO_CLUES = Clues()


def clues_of(details: Any) -> Clues:
    """Return what the details of an alert tell; whatever they are, it never fails."""
    if not isinstance(details, Mapping):
        return Clues(text=" ".join(_texts(details, 0))[:MOST_TEXT])
    firing = details.get("firing")
    labels, occurrences = _alertmanager(firing)
    rest = {name: value for name, value in details.items() if not (name == "firing" and labels)}
    return Clues(
        labels=tuple(labels[:MOST_SETS]),
        occurrences=tuple(occurrences[:MOST_SETS]),
        tags=dict(list(_tags(rest).items())[:MOST_LABELS]),
        text=" ".join(_texts(rest, 0))[:MOST_TEXT],
    )


def _alertmanager(firing: Any) -> tuple[list[dict[str, str]], list[str]]:
    if isinstance(firing, str):
        try:
            firing = json.loads(firing)
        except (ValueError, RecursionError):
            return _template(str(firing)), []
    if not isinstance(firing, list):
        return [], []
    alerts = [one for one in firing if isinstance(one, Mapping) and isinstance(one.get("labels"), Mapping)]
    labels = [{str(name): str(value) for name, value in list(one["labels"].items())[:MOST_LABELS]} for one in alerts]
    occurrences = [
        f"{one['fingerprint']}@{one['startsAt']}"
        for one in alerts
        if isinstance(one.get("fingerprint"), str) and isinstance(one.get("startsAt"), str)
    ]
    return labels, occurrences


def _template(text: str) -> list[dict[str, str]]:
    """Return the label sets of Alertmanager's template `__text_alert_list`; annotations stand behind their labels."""
    found: list[dict[str, str]] = []
    reading: dict[str, str] | None = None
    for line in text.splitlines():
        if line.strip() == "Labels:":
            reading = {}
            found.append(reading)
        elif line.strip() == "Annotations:" or line.startswith("Source:"):
            reading = None
        elif reading is not None and (label := _LABEL.match(line)) is not None and len(reading) < MOST_LABELS:
            reading[label["name"]] = label["value"]
    return [labels for labels in found if labels]


def _tags(details: Mapping[Any, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in details.items():
        if str(name).lower() in ("tags", "labels") and not isinstance(value, Mapping):
            listed = value if isinstance(value, list) else [value]
            for tag in _TAG.finditer(" ".join(map(str, listed))):
                found.setdefault(tag["name"], tag["value"])
        elif isinstance(value, Mapping) and str(name).lower() in ("tags", "labels"):
            found.update({str(key): str(one) for key, one in value.items()})
        elif isinstance(value, (str, int, float)) and len(str(value)) <= 200:  # noqa: PLR2004  longer ones are prose
            found.setdefault(str(name), str(value))
    return found


def _texts(value: Any, depth: int) -> Iterator[str]:
    """Yield every text within a value of JSON."""
    if depth > DEEPEST:
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, depth + 1)
