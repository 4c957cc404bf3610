"""What a live stream costs in memory whose reader never reads: resumestream against a plain relay, which keeps
nothing, and against the server alone, which only answers. And what thousands of finished streams cost.

The slope between two numbers of streams: what a process takes anyway drops out, and so does the window of the newest
payload, which a stream before them has filled. Figures, never a verdict.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from pathlib import Path

import anyio
from processes import DEADLINE_S, Server, load, serving

from resumestream.model import NewStream, Outcome, Seal, StreamId
from resumestream.policy import Policy
from resumestream.stores import SQLiteStore

FEW, MANY = 180, 420
CHAT = "/v1/chat/completions"
LIVE = "bytes=100000&piece=25000&rate=10"
FILL = "bytes=24000000&piece=65536&rate=0&end=1"
LONG = "bytes=200000000&piece=65536&rate=0&end=1"
TINY_BYTES, LARGE_BYTES = 2048, 1024 * 1024
PROMPT = b"x" * 20_000
SEALED = 10_000
SEAL = Seal(Outcome.COMPLETED, "end_seen", "The provider finished the answer.")


def main() -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        held = stack.enter_context(serving("held"))
        print(f"\nMemory of a live stream whose reader never reads, from {FEW} to {MANY} of them; {load()}")
        print(f"{'':<28}{'x relay':>8}{'kB/stream':>11}{'fixed MB':>10}   200 MB beside: unread, read: MB more")
        with serving("relay", held.url) as relay:
            of_relay = measure("Starlette + aiohttp relay", relay, CHAT, None)
        with serving("held") as alone:
            measure("uvicorn alone", alone, CHAT, of_relay)
        for name, store in (("SQLite", f"{folder}/bench.db"), ("files", f"file://{folder}/bench")):
            with serving("ours", held.url, store) as ours:
                measure(f"resumestream, {name}", ours, f"/openai{CHAT}", of_relay)
        print(f"\n{'finished streams':<28}{'start ms':>9}{'MB':>7}")
        for count in (FEW, SEALED):
            path = Path(folder, f"{count}.db")
            anyio.run(fill, path, count)
            began = time.perf_counter()
            with serving("ours", held.url, str(path)) as ours:
                ours.cpu_s()  # it answers
                print(f"{count:<28}{(time.perf_counter() - began) * 1e3:>9.0f}{ours.memory_bytes() / 1e6:>7.1f}")


def measure(name: str, server: Server, path: str, of_relay: float | None) -> float:
    """kB a stream."""
    with contextlib.ExitStack() as stack:
        read(server, f"{path}?{FILL}", "fill")
        before = 0
        for number in range(MANY):
            if number == FEW:
                before = settled(server)
            stack.enter_context(asked(server, f"{path}?{LIVE}", str(number), TINY_BYTES))
            if number % 40 == 0:
                time.sleep(0.1)  # so that a queue of new connections is no part of it
        taken = settled(server)
        each = (taken - before) / (MANY - FEW) / 1e3
        more = ""
        if path != CHAT:  # the others keep nothing
            stack.enter_context(asked(server, f"{path}?{LONG}", "unread", TINY_BYTES))
            unread = settled(server)
            read(server, f"{path}?{LONG}", "read")
            more = f"{(unread - taken) / 1e6:.1f}, {(settled(server) - unread) / 1e6:.1f}"
        fixed = (before - each * 1e3 * FEW) / 1e6
        print(f"{name:<28}{each / (of_relay or each):>8.2f}{each:>11.1f}{fixed:>10.1f}   {more:>20}", flush=True)
        return each


def asked(server: Server, target: str, key: str, buffer_bytes: int) -> socket.socket:
    """The request is sent; the answer waits in a buffer of that size."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    sock.settimeout(DEADLINE_S)
    sock.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
    lines = f"POST {target} HTTP/1.1", "host: 127.0.0.1", "authorization: bench", f"idempotency-key: {key}"
    ends = "stream-on-disconnect: cancel"  # with its reader, so that no server waits for it at its own end
    sock.sendall("\r\n".join((*lines, ends, f"content-length: {len(PROMPT)}", "", "")).encode() + PROMPT)
    return sock


def read(server: Server, target: str, key: str) -> None:
    """To its end."""
    end, last = b"0\r\n\r\n", b""
    with asked(server, target, key, LARGE_BYTES) as sock:
        while not last.endswith(end):
            data = sock.recv(LARGE_BYTES)
            if not data:
                raise SystemExit("an answer ended early")
            last = last[-len(end) :] + data[-len(end) :]


def settled(server: Server) -> int:
    """Bytes of memory, once the process has done what there was to do."""
    deadline, used = time.monotonic() + DEADLINE_S, -1.0
    while time.monotonic() < deadline:
        before, used = used, server.cpu_s()
        if used - before < 0.05:  # what looks at the store and at the clock goes on
            break
        time.sleep(0.3)
    return server.memory_bytes()


async def fill(path: Path, count: int) -> None:
    async with SQLiteStore(path, policy=Policy(), serving=True) as store, anyio.create_task_group() as tasks:
        for part in range(500):
            tasks.start_soon(_fill, store, range(part, count, 500))


async def _fill(store: SQLiteStore, numbers: range) -> None:
    for number in numbers:
        lease = await store.create(NewStream(StreamId(f"s{number}"), "p", "u", "w", store.now(), 6e4, 6e4))
        await store.append(lease, 0, b"data: x\n\n", 1)
        await store.seal(lease, SEAL)


if __name__ == "__main__":
    main()
