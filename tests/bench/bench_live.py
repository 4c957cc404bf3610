"""What a live event costs: CPU of resumestream per event, in SQLite and in memory, against a plain relay that keeps
nothing, and against the provider itself.

Many slow streams at once, as in service; one stream as fast as it goes; and streams of one event, which cost their
set-up. Every request has a key of its own. Runs are interleaved. Figures, never a verdict.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from pathlib import Path

from processes import Run, Server, load, serving

RELAY = "Starlette + aiohttp relay"
CHAT = "/v1/chat/completions"


def main() -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        raw = stack.enter_context(serving("raw"))
        kept = stack.enter_context(serving("ours", raw.url, str(Path(folder, "bench.db"))))
        held = stack.enter_context(serving("ours", raw.url, "memory:"))
        relay = stack.enter_context(serving("relay", raw.url))
        targets = {
            "resumestream, SQLite": (kept, f"/openai{CHAT}"),
            "resumestream, memory": (held, f"/openai{CHAT}"),
            RELAY: (relay, CHAT),
            "raw ASGI, the provider": (raw, CHAT),
        }
        compare("50 streams of 120 events, 40 events/s each", targets, rounds=2, streams=50, events=120, rate=40)
        compare("1 stream of 8000 events, unpaced", targets, rounds=3, streams=1, events=8000, rate=0)
        compare("100 streams of 1 event: the set-up", targets, rounds=3, streams=100, events=1, rate=0)
        print("\nCPU of the server process, the set-up of its streams included: the best round of each.")


def compare(
    title: str, targets: dict[str, tuple[Server, str]], *, rounds: int, streams: int, events: int, rate: int
) -> None:
    runs: dict[str, list[Run]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, (server, path) in targets.items():
            keyed = f"authorization:bench idempotency-key:{secrets.token_hex(8)}-{{}}"
            run = server.measured("live", f"POST {path}?n={events}&rate={rate} {keyed}", streams)
            assert run.events == streams * events, f"{name} sent {run.events} events, not {streams * events}"
            runs[name].append(run)
    cpu_us = {name: min(run.cpu_s / run.events for run in runs[name]) * 1e6 for name in runs}
    speed = {name: max(run.events / run.seconds[0] for run in runs[name]) for name in runs}
    print(f"\n{title}; {load()}")
    print(f"{'':<28}{'CPU: x relay':>14}{'us/event':>10}{'events/s':>10}")
    for name in runs:
        print(f"{name:<28}{cpu_us[name] / cpu_us[RELAY]:>14.2f}{cpu_us[name]:>10.1f}{speed[name]:>10.0f}")


if __name__ == "__main__":
    main()
