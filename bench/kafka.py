"""What measurements on Kafka share: a broker of their own, workers as processes, an endpoint that counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamproc.core.step import Topology
from streamproc.runtime.faust import chatter
from streamproc.runtime.faust.client import Place, admin_client, close_producer, writer
from streamproc.runtime.faust.commit import Line
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.ends import Ends

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ROOT / "deploy" / "kafka" / "kafka-dev"
READY_WITHIN = 90.0
SAMPLE_EVERY = 0.25
NUMBERED = re.compile(rb"s(\d{8})\b")
"""Each new alert names a service of its own, so that a page says which alert it is of."""
ANSWER = b'{"status":"success","message":"Event processed","dedup_key":"k"}'
ANSWERED = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER
)


def quick() -> bool:
    """Return whether small sizes are wanted: to see that it runs, not to measure."""
    return "--quick" in sys.argv


def median(values: list[float], share: float = 0.5) -> float:
    """Return a quantile, not a number where there are no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


# -- the broker ------------------------------------------------------------------------------------------------------


@contextmanager
def broker() -> Iterator[str]:
    """Start one broker on a free port, in a temporary folder, while the context is open; return its address."""
    folder = Path(tempfile.mkdtemp(prefix="streamproc-bench-"))
    chatter.bound()
    place = ["--data", str(folder), "--port", str(_free_ports()), "--heap", "768m"]
    try:
        subprocess.run([str(COMMAND), "start", *place], check=True, stdout=subprocess.DEVNULL)
        yield f"127.0.0.1:{place[3]}"
    finally:
        subprocess.run([str(COMMAND), "stop", *place], check=False, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports() -> int:
    """Return a port that is free now, and so is the next one, which the controller takes."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 1))
                return port


def config_at(address: str, prefix: str) -> Config:
    """Return settings for topics of a measurement of its own."""
    return Config(bootstrap=(address,), prefix=f"{prefix}.", replication=1, production=False)


async def at_rest(config: Config, topology: Topology, within: float) -> None:
    """Return once everything that stands in the inboxes is folded, as the workers show it to the group.

    Raises:
        TimeoutError: it is not, in so many seconds.
    """
    ends, places = Ends(config), _inboxes(config, topology)
    await ends.start()
    try:
        async with admin_client(config) as admin, asyncio.timeout(within):
            while True:
                shown = await admin.list_consumer_group_offsets(config.group_id)
                stands = {Place(*place): noted.offset for place, noted in shown.items()}
                found = await ends.of(places)
                if all(end == 0 or stands.get(place, 0) >= end for place, end in found.items()):
                    return
                await asyncio.sleep(SAMPLE_EVERY)
    finally:
        await ends.stop()


def _inboxes(config: Config, topology: Topology) -> list[Place]:
    return [
        Place(config.topic(node.inbox.name), partition)
        for node in topology
        for partition in range(node.inbox.partitions)
    ]


# -- workers ---------------------------------------------------------------------------------------------------------


@dataclass
class Workers:
    """`streamproc worker --armed`, so many of them, with what the system says of their CPU and memory."""

    processes: list[subprocess.Popen[bytes]]
    rss: list[int] = field(default_factory=list)
    """Bytes of the largest worker, every quarter of a second."""

    def cpu(self) -> float:
        """Return the seconds of processor time of all of them so far."""
        return sum(_ticks(process.pid) for process in self.processes) / os.sysconf("SC_CLK_TCK")

    async def sample(self) -> None:
        """Note memory, for ever."""
        while True:
            self.rss.append(max(_resident(process.pid) for process in self.processes))
            await asyncio.sleep(SAMPLE_EVERY)


def _ticks(pid: int) -> int:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def workers(config: Config, endpoint: str, count: int = 1, tree: Path = ROOT) -> AsyncIterator[Workers]:
    """Run workers until the context is left; they are ready when it is entered.

    Args:
        config: where.
        endpoint: takes the pages.
        count: how many.
        tree: the checkout whose `streamproc` runs, to compare two.
    """
    settings: Mapping[str, Any] = {
        "pagerduty": {
            "api": {"base_url": endpoint},
            "destinations": {"default": {"routing_key": "R" * 32}},
            "requests_per_minute": 10_000_000,
        },
        "kafka": config.model_dump(mode="json", include={"bootstrap", "prefix", "replication", "production"}),
        "logs": {"level": "warning"},
    }
    folder = Path(tempfile.mkdtemp())
    (folder / "streamproc.yaml").write_text(json.dumps(settings))
    ports = [_free_ports() for _ in range(count)]
    started: list[subprocess.Popen[bytes]] = []
    told = ["--config", str(folder / "streamproc.yaml")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "PAGERDUTY_"))}
    environment["PYTHONPATH"] = str(tree)
    base = [sys.executable, "-m", "streamproc"]
    try:
        apply = [*base, "topics", "apply", *told]
        quiet = subprocess.DEVNULL
        await asyncio.to_thread(subprocess.run, apply, check=True, cwd=tree, env=environment, stdout=quiet)
        for port in ports:
            command = [*base, "worker", "--armed", *told, "--port", str(port)]
            started.append(subprocess.Popen(command, cwd=tree, env=environment))  # noqa: ASYNC220  it does not wait
        async with asyncio.timeout(READY_WITHIN):
            for process, port in zip(started, ports, strict=True):
                await _ready(process, port)
        found = Workers(started)
        sampling = asyncio.create_task(found.sample())
        yield found
        sampling.cancel()
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            await asyncio.to_thread(process.wait, 20)
        shutil.rmtree(folder)


async def _ready(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, sending = await asyncio.open_connection("127.0.0.1", port)
            sending.write(b"GET /ready HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
            sending.close()
            if b" 200 " in line:
                return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"the worker ended with {process.returncode}")


# -- the endpoint ----------------------------------------------------------------------------------------------------


class Endpoint:
    """Takes every page at once, and notes when the first one of each numbered alert came. In a measurement's loop."""

    def __init__(self) -> None:
        self.came: dict[int, float] = {}
        self.requests = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Listen while the context is open; return the address."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _talk(self, reader: asyncio.StreamReader, answering: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                now = time.time()
                self.requests += 1
                if (found := NUMBERED.search(body)) is not None:
                    self.came.setdefault(int(found[1]), now)
                answering.write(ANSWERED)
        answering.close()


# -- what stands in a topic before a measurement begins --------------------------------------------------------------


async def produce(config: Config, place: Place, lines: Iterable[Line]) -> int:
    """Write records to a partition, in batches as large as the topic takes; return their bytes."""
    producer = await writer(config)
    batch, size = producer.create_batch(), 0
    deliveries: deque[Any] = deque()
    for key, value, headers in lines:
        if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            deliveries.append(await producer.send_batch(batch, place.topic, partition=place.partition))
            if len(deliveries) > 4:
                await deliveries.popleft()
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None, headers=headers)
        size += len(value or b"") + len(key)
    deliveries.append(await producer.send_batch(batch, place.topic, partition=place.partition))
    await asyncio.gather(*deliveries)
    await close_producer(producer)
    return size
