"""How many alerts a second are taken over HTTP, beside Alertmanager and Alerta on the same machine in the same run?

Alertmanager takes them into memory (`POST /api/v2/alerts`). streamproc on one machine answers once they are on disk,
synced; the gateway on Kafka once the broker has them (acks=all; one broker, so one replica). Alerta stores them in
PostgreSQL (`POST /webhooks/prometheus`). The same alerts, the same client: a process of its own with keep-alive
connections. Reference: Alertmanager; of the gateway on Kafka the ratio to Alerta too.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import orjson

from bench.alerta import NoAlerta, alerta
from bench.kafka import broker, config_at, quick
from bench.load import alert, body

SECONDS = 5.0
CONNECTIONS = 32
WARM = 20.0
"""Seconds that the broker is warmed up for."""
ON_KAFKA = "kafka gateway"
ALERTA = "alerta"
CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


def webhook(count: int) -> bytes:
    """Return a webhook for streamproc."""
    return body([alert(n) for n in range(count)])


def posted(count: int) -> bytes:
    """Return the same alerts as Alertmanager takes them; still firing."""
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = [alert(n) for n in range(count)]
    kept = ("labels", "annotations", "startsAt", "generatorURL")
    return orjson.dumps([{name: one[name] for name in kept} | {"endsAt": ends} for one in made])


async def hammer(url: str, content: bytes, alerts: int, seconds: float) -> tuple[float, float, float]:
    """Post `content` over and over; return alerts a second, and p50 and p99 of the answers in milliseconds."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode()
    took: list[float] = []

    async def post(until: float) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        begun = time.perf_counter()
        while True:
            writer.write(head + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            said = await reader.readexactly(int(length or 0))
            if not answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 201 ", b"HTTP/1.1 202 ")):
                raise RuntimeError((answer + said)[:1000].decode("latin-1"))
            begun, before = time.perf_counter(), begun
            took.append(begun - before)
            if begun >= until:
                break
        writer.close()

    await post(0.0)  # Alerta fails where a new alert comes twice at once
    took.clear()
    until = time.perf_counter() + seconds
    await asyncio.gather(*(post(until) for _ in range(CONNECTIONS)))
    took.sort()
    return len(took) * alerts / seconds, took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3


def ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            if httpx.get(url, timeout=1).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{url} never answered")


@dataclass(frozen=True)
class Server:
    """One of those that are compared: how it is started, and where it takes alerts."""

    name: str
    url: str
    command: list[str]
    health: str
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def servers(folder: Path) -> Iterator[list[Server]]:
    """Yield those that can run here; what they stand on runs while the context is open."""
    with ExitStack() as stack:
        found = [*_alertmanager(folder), _embedded(folder)]
        try:
            address = stack.enter_context(broker())
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no broker, so no gateway on Kafka: {error}")
        else:
            found.append(_on_kafka(folder, address))
        try:
            command, environment = stack.enter_context(alerta(folder, 18099))
        except NoAlerta as error:
            print(f"no Alerta to compare with: {error}")
        else:
            base = "http://127.0.0.1:18099"
            told = f"{base}/webhooks/prometheus"
            found.append(Server(ALERTA, told, command, f"{base}/management/healthcheck", environment))
        yield found


def _alertmanager(folder: Path) -> list[Server]:
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        print("no Alertmanager here: nothing to compare with")
        return []
    (folder / "alertmanager.yml").write_text(CONFIG)
    base = "http://127.0.0.1:19093"
    command = [
        binary,
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/am",
        "--web.listen-address=127.0.0.1:19093",
        "--cluster.listen-address=",
    ]
    return [Server("alertmanager", f"{base}/api/v2/alerts", command, f"{base}/-/ready")]


def _embedded(folder: Path) -> Server:
    base = "http://127.0.0.1:18080"
    command = [sys.executable, "-m", "streamproc", "run", "--port", "18080", "--data-dir", str(folder / "data")]
    return Server("streamproc", f"{base}/v1/ingest/alertmanager", command, f"{base}/ready")


def _on_kafka(folder: Path, address: str) -> Server:
    kafka = config_at(address, "ingest").model_dump(
        mode="json", include={"bootstrap", "prefix", "replication", "production"}
    )
    settings = folder / "kafka.yaml"
    settings.write_text(json.dumps({"kafka": kafka, "logs": {"level": "warning"}}))
    base, told = [sys.executable, "-m", "streamproc"], ["--config", str(settings)]
    subprocess.run([*base, "topics", "apply", *told], check=True, stdout=subprocess.DEVNULL)
    url = "http://127.0.0.1:18081"
    command = [*base, "gateway", *told, "--port", "18081"]
    return Server(ON_KAFKA, f"{url}/v1/ingest/alertmanager", command, f"{url}/ready")


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 2 and sys.argv[1] == "--hammer":
        url, count, seconds = sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
        content = posted(count) if "/api/v2/" in url else webhook(count)
        print(*asyncio.run(hammer(url, content, count, seconds)))
        return
    seconds, warm = (2.0, 3.0) if quick() else (SECONDS, WARM)
    folder = Path(tempfile.mkdtemp())
    try:
        with servers(folder) as compared:
            for server in compared:
                if server.name == ON_KAFKA:
                    _measure(server, 1, warm)
            for count in (1, 100):
                _print(count, {server.name: _measure(server, count, seconds) for server in compared})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _print(count: int, found: Mapping[str, tuple[float, float, float]]) -> None:
    reference = next(iter(found.values()))[0]
    for name, (rate, p50, p99) in found.items():
        took = f"p50 {p50:7.1f} ms  p99 {p99:7.1f} ms"
        print(f"{count:>4} alerts a request  {name:<13} {rate:10,.0f} alerts/s  {took}  {rate / reference:6.3f} x")
    if ON_KAFKA in found and ALERTA in found:
        times = found[ON_KAFKA][0] / found[ALERTA][0]
        print(f"       the gateway on Kafka takes {times:.0f} times what Alerta takes; aim 60")


def _measure(server: Server, count: int, seconds: float) -> tuple[float, float, float]:
    """Start the server, hammer it, stop it; return alerts a second, p50 and p99 of the answers in milliseconds."""
    environment = {**os.environ, "PYTHONPATH": "."}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        server.command, stdout=quiet, stderr=quiet, env={**environment, **server.environment}
    ) as process:
        try:
            ready(server.health, process)
            answer = subprocess.run(
                [sys.executable, "-m", "bench.ingest", "--hammer", server.url, str(count), str(seconds)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        finally:
            process.send_signal(signal.SIGTERM)
    rate, p50, p99 = map(float, answer.stdout.split())
    return rate, p50, p99


if __name__ == "__main__":
    main()
