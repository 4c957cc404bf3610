"""`python -m chaos run|list`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .scenario import play
from .scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Chaos for servers of resilient streams.")
    parser.add_argument("names", nargs="*", help="scenarios; all of them where none is named")
    options = parser.parse_args()
    failed = 0
    for name in options.names or SCENARIOS:
        for configuration in SCENARIOS[name].configurations():
            with tempfile.TemporaryDirectory() as directory:
                verdict = play(SCENARIOS[name], configuration, Path(directory))
            failed += not verdict.held
            print(f"{verdict.scenario:<24} {verdict.configuration:<18} {verdict.seconds:5.1f} s  {verdict.failure}")
            for violation in verdict.violations:
                print(f"    {violation}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
