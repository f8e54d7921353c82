"""The long run: `python -m tests.fuzz.long --examples 1000000 --seed 7`.

Every attack draws all that it does from one seed, so a finding is played again by the line that is printed with it.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter
from random import Random

from tests.fuzz.parsers import PARSERS


def main() -> int:
    """Attack every parser for the same time; return 1 where something was found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--examples", type=int, default=1_000_000, help="inputs in all")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="name of one parser")
    options.add_argument("--minutes", type=float, default=0, help="stop after this long")
    given = options.parse_args()
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", FutureWarning)  # of `re`, about what a pattern may mean one day
    chosen = [parser for parser in PARSERS if given.only in ("", parser.name)]
    done: Counter[str] = Counter()
    found: Counter[str] = Counter()
    spent = dict.fromkeys(chosen, 0.0)
    seeds = dict.fromkeys(chosen, given.seed)
    ends = time.monotonic() + given.minutes * 60 if given.minutes else float("inf")
    while done.total() < given.examples and (began := time.monotonic()) < ends:
        parser = min(chosen, key=lambda each: spent[each])
        try:
            done[parser.name] += parser.attack(Random(seeds[parser]))  # noqa: S311  it must be the same again
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  whatever escapes is the finding
            done[parser.name] += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            mark = f"{parser.name}: {type(error).__name__} at {place.name}:{place.lineno}"
            found[mark] += 1
            if found[mark] == 1:
                again = f"--only '{parser.name}' --seed {seeds[parser]} --examples 1"
                print(f"{mark}\n  {str(error)[:1000]}\n  again: {again}", flush=True)  # noqa: T201
        seeds[parser] += 1
        spent[parser] += time.monotonic() - began
    print(f"{done.total()} inputs: {dict(done)}; {found.total()} findings: {dict(found)}")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
