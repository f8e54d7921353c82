"""Features of one alert of an incident: what a linear model reads.

Words and pairs of words of the alert's name, words of its summary, service and resource, its labels, and where it comes
from. Each field is scaled to length 1, so that a long summary does not drown a short name; words are not weighed by
rarity, which was measured to hurt. Severity is left out: the rules go by it, and the model must be able to disagree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from streamproc.events.incident import Incident, Member

MOST_NAME = 20
MOST_SUMMARY = 60
MOST_PLACE = 10
MOST_LABELS = 30
"""Words or labels read of each field: a sample has at most 152 features."""
LONGEST = 40
"""Characters kept of a word, a label's name and a label's value."""
LONGEST_TEXT = 4000
"""Characters read of a text."""

UNREAD = frozenset({"alertname", "container_id", "fingerprint", "host", "instance", "ip", "node", "pod", "uid"})
"""Labels that name the alert, which is read already, or one instance of many, which says nothing about the next one."""
SEVERITIES = frozenset({"level", "page", "pager", "priority", "severity", "sloth_severity", "urgency"})
"""Labels that say how bad it is."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+[a-z]+")
_NUMBER = re.compile(r"\d+")


def words(text: str, most: int = MOST_SUMMARY) -> list[str]:
    """Return the first words of a text in lower case; CamelCase is split, and bare numbers are no words.

    `KubePodCrashLooping on node-7: 93 %, HTTP 5xx` has kube, pod, crash, looping, on, node, http and 5xx.
    """
    return [match.lower()[:LONGEST] for match in _WORD.findall(text[:LONGEST_TEXT])[:most]]


def features(member: Member, incident: Incident) -> dict[str, float]:
    """Return the features of a member by name, `field:value`; each is in (0, 1] and rounded to 4 digits.

    Args:
        member: the alert to describe. Its severity and its times are not read.
        incident: the incident that it belongs to; its environment and cluster are read.
    """
    name = words(member.name, MOST_NAME)
    fields = (
        ("name", (*name, *(f"{left} {right}" for left, right in pairwise(name)))),
        ("summary", words(member.summary)),
        ("service", words(member.service, MOST_PLACE)),
        ("resource", words(member.resource, MOST_PLACE)),
        ("label", _labels(member)),
        ("source", _whole(member.source)),
        ("environment", _whole(incident.environment)),
        ("cluster", _whole(incident.cluster)),
    )
    return {feature: value for field, values in fields for feature, value in _scaled(field, values)}


def _labels(member: Member) -> list[str]:
    """Return the labels that tell kinds of alerts apart, numbers masked."""
    read = [name for name in sorted(member.labels) if name not in UNREAD and name.lower() not in SEVERITIES]
    return [f"{name[:LONGEST]}={_NUMBER.sub('#', member.labels[name])[:LONGEST]}" for name in read[:MOST_LABELS]]


def _whole(value: str) -> tuple[str, ...]:
    return (value.lower()[:LONGEST],) if value else ()


def _scaled(field: str, values: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Yield a feature for each different value, so that together they have length 1."""
    seen = dict.fromkeys(values)
    share = round(1 / math.sqrt(len(seen) or 1), 4)
    for value in seen:
        yield f"{field}:{value}", share
