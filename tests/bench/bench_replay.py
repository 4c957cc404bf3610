"""How fast a finished stream is read again: resumestream from SQLite, against a plain relay that asks the provider
once more, and against the ceiling, an app that sends the same bytes from memory.

One keep-alive connection, a raw client in a process of its own, rounds interleaved. Figures, never a verdict.
"""

from __future__ import annotations

import contextlib
import hashlib
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from processes import Run, Server, load, serving

EVENTS = 8000
ROUNDS = 5
TIMES = 30
CALL = f"/v1/chat/completions?n={EVENTS}"


def main() -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        raw = stack.enter_context(serving("raw"))
        relay = stack.enter_context(serving("relay", raw.url))
        ours = stack.enter_context(serving("ours", raw.url, str(Path(folder, "bench.db"))))
        path, size = recorded(ours, raw)
        asked = {
            "resumestream, SQLite": (ours, f"GET {path} authorization:bench"),
            "Starlette + aiohttp relay": (relay, f"POST {CALL}"),
            "raw ASGI, from memory": (raw, f"POST {CALL}"),
        }
        runs: dict[str, list[Run]] = {name: [] for name in asked}
        for _ in range(ROUNDS):
            for name, (server, request) in asked.items():
                run = server.measured("replay", request, TIMES)
                assert run.bytes == size * TIMES, f"{name} sent {run.bytes} bytes, not {size * TIMES}"
                runs[name].append(run)
        report(runs, size)


def recorded(ours: Server, raw: Server) -> tuple[str, int]:
    """Record one stream; its path once it is packed, and its size."""
    asked = urllib.request.Request(f"{ours.url}/openai{CALL}", b"", {"authorization": "bench"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        path, body = f"/streams/{answer.headers['stream-id']}", answer.read()
    with urllib.request.urlopen(f"{raw.url}{CALL}", timeout=10) as answer:
        sent = answer.read()
    time.sleep(1)  # for the store's idle-time work
    asked = urllib.request.Request(f"{ours.url}{path}", headers={"authorization": "bench"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        kept = answer.read()
    assert hashlib.sha256(sent).digest() == hashlib.sha256(body).digest() == hashlib.sha256(kept).digest()
    return path, len(kept)


def report(runs: dict[str, list[Run]], size: int) -> None:
    def speed(name: str) -> float:
        return size / 1e6 / statistics.median(seconds for run in runs[name] for seconds in run.seconds)

    def best(name: str) -> float:
        return size / 1e6 / min(seconds for run in runs[name] for seconds in run.seconds)

    def cpu_ms(name: str) -> float:
        return min(run.cpu_s for run in runs[name]) / TIMES * 1e3

    _, relay, raw = runs
    print(f"\nReplay of a finished stream of {EVENTS} events, {size / 1e6:.2f} MB; {load()}")
    print(f"{'':<28}{'speed: x relay':>14}{'x raw':>8}{'CPU: x relay':>14}{'x raw':>8}"
          f"{'MB/s':>8}{'best':>7}{'CPU ms':>8}")
    for name in runs:
        print(
            f"{name:<28}{speed(name) / speed(relay):>14.2f}{speed(name) / speed(raw):>8.2f}"
            f"{cpu_ms(name) / cpu_ms(relay):>14.2f}{cpu_ms(name) / cpu_ms(raw):>8.2f}"
            f"{speed(name):>8.0f}{best(name):>7.0f}{cpu_ms(name):>8.2f}"
        )
    print(f"Medians and best of {ROUNDS * TIMES} replays; CPU of the server process, best of {ROUNDS} rounds.")


if __name__ == "__main__":
    main()
