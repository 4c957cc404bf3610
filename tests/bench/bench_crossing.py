"""What a reader waits longer whose worker is not the one that drains: two processes on one SQLite store.

One client reads one paced stream through both, and notes when each event came. The difference of the two is what
crossing costs. Figures, never a verdict.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import statistics
import tempfile
import time
from pathlib import Path

from processes import DEADLINE_S, Server, load, serving

EVENTS, RATE = 1000, 100
CHAT = f"/v1/chat/completions?n={EVENTS}&rate={RATE}"


def main() -> None:
    with contextlib.ExitStack() as stack:
        store = str(Path(stack.enter_context(tempfile.TemporaryDirectory()), "bench.db"))
        raw = stack.enter_context(serving("raw"))
        draining = stack.enter_context(serving("ours", raw.url, store))
        other = stack.enter_context(serving("ours", raw.url, store))
        here = stack.enter_context(asked(draining))
        assert here.recv(1, socket.MSG_PEEK)  # it is claimed: the other one attaches
        there = stack.enter_context(asked(other))
        came_here, came_there = arrivals(here, there)
    # What there was before the second one had attached came to it at once, and late.
    later = [(b - a) * 1e3 for a, b in zip(came_here, came_there, strict=True)][EVENTS // 20 :]
    p50, p99 = statistics.median(later), statistics.quantiles(later, n=100)[98]
    print(f"\nCrossing processes: {len(later)} events of one stream, {RATE} a second; {load()}")
    print(f"added by crossing: p50 {p50:.2f} ms, p99 {p99:.2f} ms, at the most {max(later):.2f} ms")


def asked(server: Server) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=DEADLINE_S)
    lines = f"POST /openai{CHAT} HTTP/1.1", "host: 127.0.0.1", "authorization: bench", "idempotency-key: crossing"
    sock.sendall("\r\n".join((*lines, "content-length: 0", "", "")).encode())
    return sock


def arrivals(*socks: socket.socket) -> list[list[float]]:
    """When each event came, by socket."""
    came: list[list[float]] = [[] for _ in socks]
    with selectors.DefaultSelector() as unended:
        for sock, times in zip(socks, came, strict=True):
            unended.register(sock, selectors.EVENT_READ, (sock, times))
        while unended.get_map():
            if not (ready := unended.select(DEADLINE_S)):
                raise SystemExit(f"no byte more after {[len(times) for times in came]} events")
            for key, _ in ready:
                sock, times = key.data
                data = sock.recv(1 << 16)
                if not data:
                    raise SystemExit("an answer ended early")
                # The end of an event lies within one chunk, so the chunks' own lines cut none in two.
                times.extend([time.perf_counter()] * data.count(b"\n\n"))
                if len(times) == EVENTS:
                    unended.unregister(sock)
    return came


if __name__ == "__main__":
    main()
