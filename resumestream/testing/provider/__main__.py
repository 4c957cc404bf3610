"""`python -m resumestream.testing.provider`: the scripted provider as a process."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from . import Script, ScriptedProvider


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m resumestream.testing.provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--fixtures", type=Path, help="folder of transcripts that a script may name")
    parser.add_argument("--default", type=Script.from_json, help="JSON of the script for calls without their own")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ScriptedProvider(port=options.port, default=options.default, fixtures=options.fixtures) as provider:
        print(f"provider: serving {provider.url}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
