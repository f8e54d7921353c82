"""What do other scopes feel of a hot one? 100,000 alerts a minute of one scope, nine of ten repeats, embedded runtime.

Twenty alerts a second of 16 other scopes, each of which opens an incident, are timed from before they are appended
until `decide` has decided them; disk synced before every answer. Reference: the same without the hot scope. Then how
many incidents the hot scope has become, and whether they count what was sent.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.kafka import NUMBERED, median, quick
from bench.load import alert, body
from streamproc.beginning import arming
from streamproc.core.fold import Folded
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.embedded.runtime import Config, Embedded, LiveDesk
from streamproc.topology import TOPICS, TOPOLOGY

HOT_A_SECOND = 100_000 / 60
A_BODY = 10
OTHERS_A_SECOND = 20
SCOPES = 16
NEW = 0.1
FIRST_HOT = 10_000_000
"""Numbers are the fingerprints: those of the hot scope begin here."""
TICK = 0.01
WITHIN = 600.0
RESTS, REST = 10, 0.1
"""So many looks in a row, so many seconds apart, must find nothing left to fold."""


class Decided:
    """Notes when `decide` first says something of each numbered alert; on the folding thread."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:  # noqa: ARG002  a sensor's signature
        """Look through what was emitted."""
        if node != "decide":
            return
        now = time.monotonic()
        for emit in folded.emits:
            if (found := NUMBERED.search(emit.value)) is not None:
                self.at.setdefault(int(found[1]), now)


class Load:
    """Alerts of the hot scope and of the others."""

    def __init__(self, runtime: Embedded, *, hot: bool) -> None:
        self._runtime = runtime
        self._with_hot = hot
        self._random = random.Random(1)  # noqa: S311  the same alerts each time
        self._tasks: set[asyncio.Task[None]] = set()
        self.hot = 0
        """Alerts of the hot scope that were sent."""
        self.different = 0
        """Of them, those that were no repeats."""
        self.began: dict[int, float] = {}

    async def run(self, seconds: float) -> None:
        """Send for so long, however long an answer takes; return once all is answered."""
        begun = time.monotonic()
        while (spent := time.monotonic() - begun) < seconds:
            while self._with_hot and self.hot < spent * HOT_A_SECOND:
                self._send([self._hot_one() for _ in range(A_BODY)])
            while len(self.began) < spent * OTHERS_A_SECOND:
                number = len(self.began)
                one = alert(number, service=f"s{number:08d}")
                one["labels"]["cluster"] = f"c-{number % SCOPES}"
                self.began[number] = time.monotonic()
                self._send([one])
            await asyncio.sleep(TICK)
        await asyncio.gather(*self._tasks)

    def _hot_one(self) -> dict[str, object]:
        self.hot += 1
        if self.hot * NEW > self.different:
            self.different += 1
            number = self.different
        else:
            number = self._random.randrange(1, self.different + 1)
        one = alert(FIRST_HOT + number)
        one["labels"]["cluster"] = "hot"
        return one

    def _send(self, alerts: list[dict[str, object]]) -> None:
        entry = Entry("alerts.raw", b"", body(alerts), {"source": b"alertmanager"})
        task = asyncio.create_task(self._runtime.append([entry]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def measure(folder: Path, seconds: float, *, hot: bool) -> float:
    """Send, wait until all is decided, print, and return the p99 of the other scopes in milliseconds."""
    decided, clock = Decided(), SystemClock()
    runtime = Embedded(folder, TOPOLOGY, TOPICS, clock, Config(), decided, _fatal)
    await runtime.start()
    await runtime.append([Entry.of("policies", arming(1, clock.now(), author="bench", adopt=False), "arm")])
    load = Load(runtime, hot=hot)
    await load.run(seconds)
    ended, until = time.monotonic(), time.monotonic() + WITHIN
    desk = LiveDesk(folder, runtime)
    rests = 0
    while rests < RESTS and time.monotonic() < until:  # between two nodes of one round none has a lag
        rests = 0 if any(node.lag for node in runtime.nodes()) else rests + 1
        await asyncio.sleep(REST)
    took = [(decided.at[number] - began) * 1e3 for number, began in load.began.items() if number in decided.at]
    shown = "  ".join(f"{name} {median(took, part):7.1f} ms" for name, part in (("p50", 0.5), ("p99", 0.99)))
    print(
        f"{'beside a hot scope' if hot else 'alone (reference)':<20} other scopes  {shown}  {len(took)} alerts", end=""
    )
    print(f"  {len(load.began) - len(took)} undecided" if len(took) < len(load.began) else "")
    if hot:
        rate, late = load.hot / seconds * 60, time.monotonic() - ended - RESTS * REST
        print(f"       hot scope: {load.hot:,} alerts, {rate:,.0f} a minute; all folded {late:.1f} s later")
        open_ = [one for one in desk.incidents("open", 1_000_000, "") if one.scope.endswith(":hot")]
        counts = Counter({one.incident_id: one.open_count for one in open_})
        print(
            f"       {load.different:,} different ones in {len(open_)} incident(s), which count {counts.total():,}",
            end="",
        )
        print(f" ({', '.join(f'{count:,}' for _, count in counts.most_common())})")
    await runtime.stop()
    return median(took, 0.99)


def _fatal(error: Exception) -> None:
    raise error


def main() -> None:
    """Measure and print."""
    seconds = 8.0 if quick() else 60.0
    folder = Path(tempfile.mkdtemp())
    try:
        reference = asyncio.run(measure(folder / "alone", seconds, hot=False))
        found = asyncio.run(measure(folder / "hot", seconds, hot=True))
    finally:
        shutil.rmtree(folder)
    print(f"p99 of other scopes {found:.0f} ms, {found / reference:.1f} x the reference; aim 500 ms")
