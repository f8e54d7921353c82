"""What a running process tells of itself: its metrics, and its operations API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ValidationError

from streamproc import __version__
from streamproc.commands.common import OutsideRefused
from streamproc.core.errors import Transient, Unusable

WITHIN = 3.0
ASKS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
Labels = frozenset[tuple[str, str]]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Scrape:
    """Metrics of one process at one moment."""

    samples: Mapping[tuple[str, Labels], float]
    """By name (as shown, `_total` and `_bucket` included) and labels."""

    @classmethod
    def of(cls, text: str) -> Scrape:
        """Return what stands in Prometheus' text format.

        Raises:
            ValueError: it is none.
        """
        return cls(
            {
                (sample.name, frozenset(sample.labels.items())): float(sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return a metric summed by some of its labels; nothing where there is no such metric."""
        found: dict[tuple[str, ...], float] = {}
        for (known, given), value in self.samples.items():
            if known == name:
                named = dict(given)
                key = tuple(named.get(label, "") for label in labels)
                found[key] = found.get(key, 0.0) + value
        return found

    def total(self, name: str) -> float | None:
        """Return the sum of all series of a metric, None where there is none."""
        return self.by(name).get(())

    def grown(self, before: Scrape, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return by how much a counter has grown since another scrape; a process that began anew counts from 0."""
        then, now = before.by(name, *labels), self.by(name, *labels)
        return {key: value - then.get(key, 0.0) if value >= then.get(key, 0.0) else value for key, value in now.items()}

    def slowest(self, before: Scrape) -> tuple[str, float] | None:
        """Return the node that took longest for a record since another scrape, and how many seconds; None if idle."""
        seconds = self.grown(before, "streamproc_step_seconds_sum", "node")
        counts = self.grown(before, "streamproc_step_seconds_count", "node")
        means = {node: spent / counts[node,] for (node,), spent in seconds.items() if counts[node,]}
        return max(means.items(), key=lambda one: one[1]) if means else None


class Process:
    """A running process, asked over HTTP. Close it.

    Args:
        url: where it answers.
        token: of the operations API, empty where it needs none.
        transport: what carries the requests; httpx's own by default.
    """

    def __init__(self, url: str, token: str = "", transport: httpx.BaseTransport | None = None) -> None:
        headers = {"User-Agent": f"streamproc/{__version__}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.url = url.rstrip("/")
        self._http = httpx.Client(timeout=WITHIN, headers=headers, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def scrape(self) -> Scrape | None:
        """Return its metrics, None where none are answered."""
        try:
            answer = self._http.get(f"{self.url}/metrics")
            return Scrape.of(answer.text) if answer.is_success else None
        except (httpx.HTTPError, ValueError):
            return None

    def ask(self, path: str, kind: type[M]) -> M:
        """Return an answer of the operations API.

        Raises:
            Transient: nothing answers.
            OutsideRefused: it wants a token.
            Unusable: it is no gateway of this version.
        """
        try:
            answer = self._http.get(f"{self.url}{path}")
        except httpx.HTTPError as error:
            raise Transient(f"nothing answers at {self.url}: {error or type(error).__name__}; give --url") from error
        if answer.status_code in ASKS:
            raise OutsideRefused(f"{self.url} answers {answer.status_code}: set STREAMPROC_TOKEN to a token of it")
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError:
            said = f"what answers at {self.url}{path} is no gateway of this version (HTTP {answer.status_code})"
            raise Unusable(f"{said}; give --url") from None
