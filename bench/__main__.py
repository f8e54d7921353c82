"""Run measurements by name: `python -m bench [NAME ...] [--quick]`.

Without a name all that need nothing but this machine, `ingest` with what it finds to compare with; `kafka` stands for
all of those that need a broker.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module

from streamproc.runtime.collector import tune

QUESTIONS = ("graph", "growth", "embedded", "hot-scope", "deliver", "ingest", "traces", "backtest")
KAFKA = ("kafka-dedupe", "kafka-latency", "kafka-storm", "kafka-restore")


def main() -> None:
    """Run the named measurements."""
    asked = [name for word in sys.argv[1:] if word != "--quick" for name in (KAFKA if word == "kafka" else (word,))]
    known = QUESTIONS + KAFKA
    if unknown := set(asked) - set(known):
        sys.exit(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # brokers and workers are stopped on the way out
    tune()  # as `streamproc run` does
    for name in asked or QUESTIONS:
        module = import_module(f"bench.{name.replace('-', '_')}")
        print(f"== {name}: {(module.__doc__ or '').splitlines()[0]}")
        module.main()
        print()


main()
