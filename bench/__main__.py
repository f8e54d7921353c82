"""Run measurements by name: `python -m bench [graph] [embedded] [ingest]`; all of them without a name."""

from __future__ import annotations

import sys
from importlib import import_module

from streamproc.runtime.collector import tune

QUESTIONS = ("graph", "embedded", "ingest")


def main() -> None:
    """Run the named measurements."""
    unknown = set(sys.argv[1:]) - set(QUESTIONS)
    if unknown:
        sys.exit(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(QUESTIONS)}")
    tune()  # as `streamproc run` does
    for name in sys.argv[1:] or QUESTIONS:
        print(f"== {name}: {(import_module(f'bench.{name}').__doc__ or '').splitlines()[0]}")
        import_module(f"bench.{name}").main()
        print()


main()
