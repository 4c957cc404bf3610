"""`python -m tests.simulation SEED`: play that schedule and tell all of it; `--fault NAME` breaks resumestream on
purpose. With `--count N` play those of N seeds from there on, on every core, and tell what went wrong."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import nullcontext

from .campaign import campaign, players
from .faults import FAULTS
from .simulation import play


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int)
    one_or_many = parser.add_mutually_exclusive_group()
    one_or_many.add_argument("--fault", choices=FAULTS)
    one_or_many.add_argument("--count", type=int)
    options = parser.parse_args()
    if options.count:
        sys.exit(many(options.seed, options.count))
    with FAULTS[options.fault]() if options.fault else nullcontext():
        played = play(options.seed)
    print(played.schedule, played.trace, played, sep="\n\n")
    sys.exit(bool(played.violations))


def many(seed: int, count: int) -> bool:
    """Whether something went wrong."""
    began, bad = time.monotonic(), 0
    with players() as pool:
        for told in campaign(pool, range(seed, seed + count)):
            bad += 1
            print(told, flush=True)
    print(f"{count} schedules in {time.monotonic() - began:.1f} s; {bad} went wrong")
    return bad > 0


if __name__ == "__main__":
    main()
