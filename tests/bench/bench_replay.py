"""How fast a finished stream is read again: resumestream from SQLite, against a plain relay, which must ask the
provider once more, and against the ceiling, an app that sends the same bytes from memory.

One keep-alive connection, a raw client in a process of its own, runs interleaved. Figures, never a verdict.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from processes import DEADLINE_S, DIRECT, Run, Server, load, serving

EVENTS = 8000
ROUNDS, TIMES = 5, 30
CALL = f"/v1/chat/completions?n={EVENTS}"
RELAY, RAW = "Starlette + aiohttp relay", "raw ASGI, from memory"


def main() -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        raw = stack.enter_context(serving("raw"))
        relay = stack.enter_context(serving("relay", raw.url))
        ours = stack.enter_context(serving("ours", raw.url, str(Path(folder, "bench.db"))))
        path, size = recorded(ours, raw)
        targets = {
            "resumestream, SQLite": (ours, f"GET {path} authorization:bench"),
            RELAY: (relay, f"POST {CALL}"),
            RAW: (raw, f"POST {CALL}"),
        }
        runs: dict[str, list[Run]] = {name: [] for name in targets}
        for _ in range(ROUNDS):
            for name, (server, request) in targets.items():
                run = server.measured("replay", request, TIMES)
                assert run.bytes == size * TIMES, f"{name} sent {run.bytes} bytes, not {size * TIMES}"
                runs[name].append(run)
        report(runs, size)


def recorded(ours: Server, raw: Server) -> tuple[str, int]:
    """Record one answer, and check that it reads as the provider sent it. The stream's path, and its size."""
    sent, _ = fetched(raw.url + CALL, b"")
    first, stream = fetched(f"{ours.url}/openai{CALL}", b"")
    time.sleep(1)  # the store packs in idle time
    path = f"/streams/{stream}"
    again, _ = fetched(ours.url + path)
    assert sent == first == again
    return path, len(sent)


def fetched(url: str, body: bytes | None = None) -> tuple[bytes, str | None]:
    request = urllib.request.Request(url, body, {"authorization": "bench"})
    with DIRECT.open(request, timeout=DEADLINE_S) as answer:
        return answer.read(), answer.headers["stream-id"]


def report(runs: dict[str, list[Run]], size: int) -> None:
    took = {name: [seconds for run in runs[name] for seconds in run.seconds] for name in runs}
    speed = {name: size / 1e6 / statistics.median(took[name]) for name in runs}
    cpu_ms = {name: min(run.cpu_s for run in runs[name]) / TIMES * 1e3 for name in runs}
    print(f"\nReplay of a finished stream of {EVENTS} events, {size / 1e6:.2f} MB; {load()}")
    print(f"{'':<28}{'speed: x relay':>14}{'x raw':>7}{'CPU: x relay':>14}{'x raw':>7}", end="")
    print(f"{'MB/s':>7}{'best':>7}{'CPU ms':>8}")
    for name in runs:
        faster, dearer = [f"{of[name] / of[RELAY]:14.2f}{of[name] / of[RAW]:7.2f}" for of in (speed, cpu_ms)]
        best = size / 1e6 / min(took[name])
        print(f"{name:<28}{faster}{dearer}{speed[name]:7.0f}{best:7.0f}{cpu_ms[name]:8.2f}")
    print(f"MB/s: the median and the best of {ROUNDS * TIMES} replays. CPU of the server process: the best round.")


if __name__ == "__main__":
    main()
