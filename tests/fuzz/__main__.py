"""`python -m tests.fuzz [--minutes 5] [--least 10000000] [--seed S]`: rounds in every process until the time is over.

A round that fails ends the run and says its seed; `--seed` plays that round alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import time

from .rounds import FIXTURES, RECORDINGS, Tally, corpus, play, play_until


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--least", type=int, default=10_000_000, help="cut points without which the run fails")
    parser.add_argument("--seed", help="play the round of this seed alone")
    options = parser.parse_args()
    if options.seed:
        print(play(options.seed, corpus(FIXTURES, RECORDINGS)))
        return
    base, processes, until = secrets.token_hex(4), os.cpu_count() or 1, time.time() + 60 * options.minutes
    count = len(corpus(FIXTURES, RECORDINGS))
    print(f"fuzz: {count} transcripts, {processes} processes, {options.minutes:g} min, seeds {base}.*", flush=True)
    total = Tally()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for tally in pool.starmap(play_until, [(f"{base}.{number}", until) for number in range(processes)]):
            total.add(tally)
    print(f"fuzz: {total.rounds:,} rounds, {total.cuts:,} cut points, {total.damage:,} damaged bytes; all well")
    if total.cuts < options.least:
        sys.exit(f"fuzz: fewer than {options.least:,} cut points; give it more minutes")


if __name__ == "__main__":
    main()
