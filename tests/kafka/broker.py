"""A real broker for tests: `deploy/kafka/kafka-dev` on free ports of loopback, with a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid1

from streamproc.runtime.faust.config import Config

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / "deploy" / "kafka" / "kafka-dev"
JARS = Path(os.environ.get("KAFKA_LIBS", ROOT / ".kafka" / "libs"))
PORTS_TRIED = 200


def why_not() -> str:
    """Return why no broker can be started here, empty where one can."""
    if shutil.which("java") is None:
        return "no Java here; tests of the Kafka runtime need Java 17 or newer"
    if not any(JARS.glob("kafka_2.13-*.jar")) and shutil.which("mvn") is None:
        return "no broker jars here, and no Maven to fetch them; see docs/kafka.md"
    return ""


def free_ports(count: int) -> int:
    """Return the first of `count` ports in a row that are free now."""
    for _ in range(PORTS_TRIED):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = probe.getsockname()[1]
        try:
            for port in range(first, first + count):
                with socket.socket() as other:
                    other.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        return int(first)
    raise RuntimeError("no free ports")


def _stands(pid: int) -> bool:
    """Return whether every thread of a process has stopped; some run on for a moment after the signal."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)


@dataclass
class Broker:
    """One broker, or three of them."""

    folder: Path
    nodes: int = 1
    port: int = 0
    options: tuple[str, ...] = ()
    """More of `kafka-dev start`."""

    def __post_init__(self) -> None:
        self.port = self.port or free_ports(2 * self.nodes)

    @property
    def bootstrap(self) -> list[str]:
        return [f"127.0.0.1:{self.port + 2 * at}" for at in range(self.nodes)]

    def start(self, node: int | None = None) -> None:
        self._run("start", node)

    def stop(self, node: int | None = None) -> None:
        self._run("stop", node)

    def kill(self, node: int | None = None) -> None:
        self._run("kill", node)

    def pause(self) -> None:
        """Stop every broker process in its tracks: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)
        while not all(_stands(pid) for pid in self._pids()):
            pass

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in self._pids():
            os.kill(pid, number)

    def _pids(self) -> list[int]:
        return [int((self.folder / f"node-{at}" / "kafka.pid").read_text()) for at in range(1, self.nodes + 1)]

    def _run(self, what: str, node: int | None) -> None:
        only = [] if node is None else ["--node", str(node)]
        place = ["--port", str(self.port), "--data", str(self.folder), "--nodes", str(self.nodes)]
        done = subprocess.run(  # noqa: S603  our own script
            [str(COMMAND), what, *place, *only, *self.options], capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise RuntimeError(f"kafka-dev {what} failed ({done.returncode}):\n{done.stdout}{done.stderr}")


def config_for(broker: Broker) -> Config:
    return Config(
        bootstrap=tuple(broker.bootstrap),
        prefix=f"t{uuid1().hex[:12]}.",
        replication=broker.nodes,
        production=False,
        session_timeout=6,
    )
