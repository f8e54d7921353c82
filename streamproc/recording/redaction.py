"""A recorded line -> the same with pseudonyms. Pure.

What decides where an alert belongs (labels, group keys, titles) is redacted by itself, whatever stands beside it: so
equal values stay equal, different ones different, and a backtest groups as before. Annotations and addresses lose in
addition what their own alert's redacted labels say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from streamproc.recording.pseudonyms import SHORTEST, Pseudonyms
from streamproc.recording.rules import Rules

LABELS = frozenset({"labels", "commonLabels", "groupLabels"})
ANNOTATIONS = frozenset({"annotations", "commonAnnotations"})
TAGS = frozenset({"tags", "alert_scope", "scope", "scopes"})
"""Datadog's lists of `name:value`."""
AS_LABELS = {
    **{name: name for name in ("environment", "cluster", "service", "team", "resource", "severity")},
    "hostname": "host",
    "host": "host",
}
"""Fields of a body that stand for a label."""
FREE = frozenset({"body", "text_only_msg", "event_msg", "generatorURL", "dashboardURL", "panelURL", "silenceURL"}) | {
    "imageURL", "link", "url", "snapshot", "summary", "description", "message",
}  # fmt: skip
"""Texts in which alerts say again what their labels say, and that decide nothing."""
STRUCTURE = frozenset(
    {
        "at",
        "status",
        "startsAt",
        "endsAt",
        "starts_at",
        "ends_at",
        "version",
        "date",
        "last_updated",
        "alert_transition",
    }
) | {"alert_type", "event_type", "alert_priority", "alert_id", "id", "receiver"}
"""What no pattern finds anything in: words, times and numbers of the producer. A rule for `fields.NAME` takes them."""
FINGERPRINT = re.compile(r"[0-9a-f]{16}")
REPLACED = b'{"scrubbed":"this line could not be read"}'
"""Stands for a line that cannot be read: every reader counts it as a bad one, and it says nothing."""


class Redactor:
    """Redacts recorded requests.

    Args:
        rules: what is redacted.
        key: makes the pseudonyms; see `Pseudonyms`.
    """

    def __init__(self, rules: Rules, key: bytes) -> None:
        self._rules = rules
        self._names = Pseudonyms(key)

    def line(self, text: bytes) -> bytes:
        """Return a line of a recording, or of feedback, redacted; without its end of line.

        Raises:
            ValueError: it is no object of JSON; its text is not redacted, and must not be kept.
        """
        said = orjson.loads(text)
        if not isinstance(said, dict):
            raise ValueError("it is no object")  # noqa: TRY004  whoever reads lines knows ValueErrors
        try:
            return orjson.dumps({name: self._part(name, value) for name, value in said.items()})
        except RecursionError:
            raise ValueError("it is nested too deep") from None

    def _part(self, name: str, value: Any) -> Any:
        if name == "body":
            return self.text_body(value) if isinstance(value, str) else self.body(value)
        if name == "alert" and isinstance(value, str):  # of feedback: the producer's fingerprint@startsAt
            identity, at, since = value.partition("@")
            return f"{self._names.digest(identity)}{at}{since}" if FINGERPRINT.fullmatch(identity) else value
        return value

    def text_body(self, body: str) -> str:
        """Return a body that is told as text; JSON within is redacted as JSON."""
        try:
            return orjson.dumps(self.body(orjson.loads(body))).decode()
        except orjson.JSONDecodeError:
            return self.text(body)

    def body(self, body: Any) -> Any:
        """Return a parsed body, redacted."""
        return self._any(body, "", {})

    # -- values ---------------------------------------------------------------------------------------------------

    def _any(self, value: Any, name: str, known: dict[str, str]) -> Any:
        """Return a value that stands under `name`; `known` are redacted values of the alert that it belongs to."""
        if isinstance(value, dict):
            return self._object(value, name, known)
        if isinstance(value, list):
            return [self._any(each, name, known) for each in value]
        if isinstance(value, str):
            return self._string(value, name, known)
        if value is not None and not isinstance(value, bool) and self._rules.takes("fields", name):
            return self._names.of(str(value))
        return value

    def _object(self, value: Mapping[str, Any], name: str, known: dict[str, str]) -> dict[str, Any]:
        if name in LABELS:
            return {label: self._label(label, one) for label, one in value.items()}
        if name in ANNOTATIONS:
            return {each: self._annotation(each, one, known) for each, one in value.items()}
        own = known | self._values(value)
        return {each: self._any(one, each, own) for each, one in value.items()}

    def _values(self, alert: Mapping[str, Any]) -> dict[str, str]:
        """Return the label values of an alert that are redacted, with their pseudonyms."""
        found: dict[str, str] = {}
        for group in LABELS:
            labels = alert.get(group)
            if isinstance(labels, dict):
                found |= {
                    v: self._names.of(v) for n, v in labels.items() if self._rules.takes("labels", n) and type(v) is str
                }
        for name, label in AS_LABELS.items():
            value = alert.get(name)
            if isinstance(value, str) and self._rules.takes("labels", label):
                found[value] = self._names.of(value)
        return {value: pseudonym for value, pseudonym in found.items() if len(value) >= SHORTEST}

    def _string(self, text: str, name: str, known: dict[str, str]) -> str:
        if name == "fingerprint" and FINGERPRINT.fullmatch(text):
            return self._names.digest(text)  # it is a hash of the labels, so it tells them to whoever can guess
        if self._rules.takes("fields", name):
            return self._names.of(text)
        if name in AS_LABELS:
            return str(self._label(AS_LABELS[name], text))
        if name in STRUCTURE:
            return text
        if name in TAGS:
            return ",".join(self._tag(tag) for tag in text.split(","))
        return self.text(self._names.known(text, known) if name in FREE else text)

    def _label(self, name: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if self._rules.takes("labels", name):
            return self._names.of(value)
        return self.text(value)

    def _tag(self, tag: str) -> str:
        name, colon, value = tag.partition(":")
        lead = name[: len(name) - len(name.lstrip())]
        return f"{lead}{name.strip()}{colon}{self._label(name.strip(), value)}" if colon else self.text(tag)

    def _annotation(self, name: str, value: Any, known: dict[str, str]) -> Any:
        if not isinstance(value, str):
            return value
        if self._rules.takes("annotations", name):
            return self._names.of(value)
        return self.text(self._names.known(value, known))

    def text(self, text: str) -> str:
        """Return a text that stands alone, redacted."""
        return self._names.in_text(text, self._rules.detected, self._takes_label)

    def _takes_label(self, name: str) -> bool:
        return self._rules.takes("labels", name)
