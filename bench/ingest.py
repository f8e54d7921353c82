"""How many alerts a second are taken over HTTP, beside a real Alertmanager on the same machine in the same run?

Alertmanager takes them into memory (`POST /api/v2/alerts`); streamproc answers once they are on disk, synced. The same
alerts, the same client: a process of its own with keep-alive connections. Reference: Alertmanager.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import orjson

from bench.load import alert, body

SECONDS = 5.0
CONNECTIONS = 32
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
    until = time.perf_counter() + seconds

    async def post() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (begun := time.perf_counter()) < until:
            writer.write(head + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answer[:16] and b" 202 " not in answer[:16]:
                raise RuntimeError(answer[:200].decode("latin-1"))
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            took.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(post() for _ in range(CONNECTIONS)))
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


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 2 and sys.argv[1] == "--hammer":
        url, count = sys.argv[2], int(sys.argv[3])
        content = posted(count) if "/api/v2/" in url else webhook(count)
        print(*asyncio.run(hammer(url, content, count, SECONDS)))
        return
    binary = shutil.which("prometheus-alertmanager")
    folder = Path(tempfile.mkdtemp())
    (folder / "alertmanager.yml").write_text(CONFIG)
    servers: list[tuple[str, str, list[str], str]] = [
        (
            "streamproc",
            "http://127.0.0.1:18080/v1/ingest/alertmanager",
            [sys.executable, "-m", "streamproc", "run", "--port", "18080", "--data-dir", str(folder / "data")],
            "http://127.0.0.1:18080/ready",
        ),
    ]
    if binary is None:
        print("no prometheus-alertmanager here: nothing to compare with")
    else:
        servers.insert(
            0,
            (
                "alertmanager",
                "http://127.0.0.1:19093/api/v2/alerts",
                [
                    binary,
                    f"--config.file={folder}/alertmanager.yml",
                    f"--storage.path={folder}/am",
                    "--web.listen-address=127.0.0.1:19093",
                    "--cluster.listen-address=",
                ],
                "http://127.0.0.1:19093/-/ready",
            ),
        )
    try:
        for count in (1, 100):
            reference = 0.0
            for name, url, command, health in servers:
                rate, p50, p99 = _measure(url, command, health, count)
                reference = reference or rate
                took = f"p50 {p50:6.1f} ms  p99 {p99:6.1f} ms"
                print(
                    f"{count:>4} alerts a request  {name:<13} {rate:10,.0f} alerts/s  {took}  {rate / reference:5.2f} x"
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(url: str, command: list[str], health: str, count: int) -> tuple[float, float, float]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            ready(health, process)
            answer = subprocess.run(
                [sys.executable, "-m", "bench.ingest", "--hammer", url, str(count)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": "."},
            )
        finally:
            process.send_signal(signal.SIGTERM)
    rate, p50, p99 = map(float, answer.stdout.split())
    return rate, p50, p99


if __name__ == "__main__":
    main()
