"""Does an alert cost the same however much is open? The fold alone, in memory; each line against its smallest size.

A repeat, with 1,000 to 1,000,000 open episodes in one partition. A new incident, with 10 to 10,000 open incidents of
other services in its scope; with open incidents of its own service, which came too far apart to be one; with 10 to
10,000 active silences that do not match it. Aim: within 1.2 of the smallest. Where a cost grows, the profile of the
largest.
"""

from __future__ import annotations

import cProfile
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from bench.kafka import median, quick
from bench.kafka_restore import row
from bench.load import BEGAN, bodies
from bench.profiling import hottest
from streamproc.beginning import arming
from streamproc.core.event import iso
from streamproc.core.fold import Lookups, fold
from streamproc.core.record import Position, Record
from streamproc.core.step import Node
from streamproc.core.table import RowKey, RowStore, encode_rows
from streamproc.events.feedback import Matcher, Policy, PolicyKind
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.state import EPISODE, EpisodeRow
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY

NODES = {node.name: node for node in TOPOLOGY}
NOBODY = Lookups(lambda _: None)
NOW = BEGAN + timedelta(hours=1)
APART = timedelta(minutes=21)
"""More than the window of `correlate`: what comes so much later opens another incident of its service."""
BATCH = 200
ROUNDS = 30
FRESH = 5_000_000
"""Number of the first alert that is measured: further than all that stand."""
AIM = 1.2
MEBIBYTE = 1024 * 1024


class Partition:
    """One partition of a node, folded by hand: no log, no runtime."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.rows = RowStore(node.tables)
        self._position = Position(0, BEGAN, "bench")

    @property
    def now(self) -> datetime:
        """The moment of the last record."""
        return self._position.now

    def take(self, values: Sequence[tuple[bytes, str]], now: datetime) -> float:
        """Fold records of (value, type) as one micro-batch and keep the rows; return microseconds of CPU for each."""
        first, stamp = self._position.next_offset, iso(now)
        records = [
            Record(self._node.inbox.name, 0, first + n, value, now, b"", {"type": kind.encode(), "now": stamp})
            for n, (value, kind) in enumerate(values)
        ]
        begun = time.process_time()
        folded = fold(self._node, records, self.rows, self._position, NOBODY, LETTERS)
        written = encode_rows(folded.changes)
        spent = time.process_time() - begun
        if folded.dead_letters:
            raise RuntimeError(folded.dead_letters[0].detail)
        self.rows.install(folded.changes, written)
        self._position = folded.position
        return spent / len(records) * 1e6


def upstream(last: str, topic: str, count: int, *, services: int, first: int = 0) -> list[tuple[bytes, str]]:
    """Return what the nodes up to `last` make of new alerts, as values and types."""
    nodes = TOPOLOGY[: [node.name for node in TOPOLOGY].index(last) + 1]
    runtime = Memory(nodes, LETTERS, MemoryJournal(TOPICS), ManualClock(NOW))
    some = bodies(count, 1, services=services, first=first)
    runtime.append(Entry("alerts.raw", b"", one, {"source": b"alertmanager"}) for one in some)
    runtime.run()
    return [(record.value, record.headers["type"].decode()) for record in runtime.records(topic)]


# -- repeats ---------------------------------------------------------------------------------------------------------


def repeats(count: int) -> tuple[float, float]:
    """Return microseconds for a repeat among so many open episodes, and KiB of memory for each of them."""
    (value, kind), *_ = upstream("normalise", "alerts", 1, services=1)
    named = value.partition(b'"fingerprint":"')[2].partition(b'"')[0]
    raw = row()
    model = EpisodeRow.model_validate_json(raw)
    partition, before = Partition(NODES["deduplicate"]), _resident()
    for number in range(count):
        fingerprint = f"fp:v1:{number:032x}"
        address = RowKey(EPISODE.name, fingerprint)
        partition.rows.install({address: model}, {address: raw.replace(named, fingerprint.encode())})
    grown = _resident() - before
    chosen = random.Random(1)  # noqa: S311  the same alerts each time
    costs = []
    for turn in range(ROUNDS):
        some = [f"fp:v1:{chosen.randrange(count):032x}".encode() for _ in range(BATCH)]
        costs.append(partition.take([(value.replace(named, one), kind) for one in some], NOW + timedelta(seconds=turn)))
    return median(costs), grown / count / 1024


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# -- new incidents ---------------------------------------------------------------------------------------------------


def deciding() -> Partition:
    """Return a partition of `decide` that is armed."""
    partition = Partition(NODES["decide"])
    policy = arming(1, NOW, author="bench", adopt=False)
    partition.take([(policy.encode(), policy.TYPE)], NOW)
    return partition


def with_other_services(count: int) -> Partition:
    """Return a partition with so many open incidents, each of another service."""
    partition = deciding()
    for some in _batches(upstream("deduplicate", "episodes", count, services=count)):
        partition.take(some, NOW)
    return partition


def with_its_service(count: int) -> Partition:
    """Return a partition with so many open incidents of the service that the measured alerts name."""
    partition = deciding()
    for number, episode in enumerate(upstream("deduplicate", "episodes", count, services=1)):
        partition.take([episode], NOW + APART * number)
    return partition


def with_silences(count: int) -> Partition:
    """Return a partition with so many active silences for other services."""
    partition = deciding()
    ends = NOW + timedelta(days=1)
    policies = [
        Policy(
            policy_id=f"silence-{number}",
            kind=PolicyKind.SILENCE,
            version=1,
            matchers=(Matcher(name="service", op="=", value=f"another-{number}"),),
            starts_at=BEGAN,
            ends_at=ends,
            author="bench",
            reason="bench",
        )
        for number in range(count)
    ]
    for some in _batches([(policy.encode(), policy.TYPE) for policy in policies]):
        partition.take(some, NOW)
    return partition


def _batches(values: list[tuple[bytes, str]]) -> Iterator[list[tuple[bytes, str]]]:
    for at in range(0, len(values), BATCH):
        yield values[at : at + BATCH]


def opening(partition: Partition, *, own_service: bool, some: int) -> tuple[float, cProfile.Profile]:
    """Return microseconds for an alert that opens an incident, one a micro-batch, and the profile of as many more."""
    services = 1 if own_service else 10_000_000
    fresh = upstream("deduplicate", "episodes", some * 2, services=services, first=FRESH)
    apart = APART if own_service else timedelta(seconds=1)
    moments = [partition.now + apart * (n + 1) for n in range(len(fresh))]
    taken = list(zip(fresh, moments, strict=True))
    cost = median([partition.take([value], now) for value, now in taken[:some]])
    profile = cProfile.Profile()
    profile.enable()
    for value, now in taken[some:]:
        partition.take([value], now)
    profile.disable()
    return cost, profile


def compare(what: str, sizes: Sequence[int], prepare: Callable[[int], Partition], *, own_service: bool = False) -> None:
    """Measure at each size, and print; the profile of the largest where it grew."""
    reference = 0.0
    for size in sizes:
        cost, profile = opening(prepare(size), own_service=own_service, some=10 if own_service else 20)
        reference = reference or cost
        print(f"{size:>9,} {what:<34} {cost:9.1f} us of CPU  {cost / reference:6.2f} x")
    if cost / reference > AIM:
        for name, share in hottest(profile, 8):
            print(f"{'':>10}{share:6.1%}  {name}")


def main() -> None:
    """Measure and print."""
    reference = 0.0
    for count in (1_000, 10_000, 100_000) if quick() else (1_000, 10_000, 100_000, 1_000_000):
        cost, size = repeats(count)
        reference = reference or cost
        print(f"{count:>9,} {'open episodes, a repeat':<34} {cost:9.1f} us of CPU  {cost / reference:6.2f} x", end="")
        print(f"  {size:5.2f} KiB of memory a row")
    many = (10, 100, 1_000) if quick() else (10, 100, 1_000, 10_000)
    compare("open incidents of other services", many, with_other_services)
    compare(
        "open incidents of its service", (10, 100) if quick() else (10, 100, 500), with_its_service, own_service=True
    )
    compare("active silences", many, with_silences)
