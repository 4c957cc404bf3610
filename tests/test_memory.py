"""What a live stream takes in memory whose reader never reads. Measured on a server process; no wall clock counts."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from .workers import Job, Worker, Zygote

DEADLINE_S = 30
FEW, MANY = 80, 320
PIECE = b"data: " + b"x" * 59_992 + b"\n\n"
PROMPT = b"x" * 60_000
MOST_BYTES = 80_000
"""A stream: two connections, three tasks and their frames, about 45 kB with the server's own 12, and neither its prompt
nor a piece of its payload: each would be another 60 kB."""
WINDOW_BYTES = 1024 * 1024
"""Small, so that the first few fill it, and it is no part of the slope."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One piece, then silence until the caller leaves."""
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len(PROMPT))
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    writer.write(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
    await reader.read()
    writer.close()


@contextmanager
def provider() -> Iterator[str]:
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0, backlog=MANY))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_a_live_stream_holds_neither_its_prompt_nor_its_payload(tmp_path: Path) -> None:
    """On uvicorn: hypercorn itself keeps the last of what it received and sent on each connection."""
    path = tmp_path / "streams.db"
    with ExitStack() as stack:
        url = stack.enter_context(provider())
        job = Job(
            store=f"sqlite:///{path}",
            provider=url,
            log=tmp_path / "log",
            policy={"window_bytes": WINDOW_BYTES},
        )
        worker = stack.enter_context(Zygote()).start(job)
        taken = dict[int, int]()
        for number in range(1, MANY + 1):
            stack.enter_context(unread(worker, number))
            if number % 20 == 0:
                logged(path, number)
            if number in (FEW, MANY):
                taken[number] = anonymous_bytes(worker.pid)
        each = (taken[MANY] - taken[FEW]) / (MANY - FEW)
        assert each < MOST_BYTES


def unread(worker: Worker, number: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.settimeout(DEADLINE_S)
    sock.connect(("127.0.0.1", int(worker.url.rpartition(":")[2])))
    head = f"POST /provider/v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: a\r\nidempotency-key: {number}\r\n"
    sock.sendall(f"{head}content-length: {len(PROMPT)}\r\n\r\n".encode() + PROMPT)
    return sock


def logged(path: Path, streams: int) -> None:
    """Wait until the store has the payload of so many."""
    deadline, size = time.monotonic() + DEADLINE_S, 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        while size < streams * len(PIECE):
            assert time.monotonic() < deadline, f"only {size / len(PIECE):.1f} of {streams} streams were logged"
            time.sleep(0.02)
            size = conn.execute("SELECT total(tail) FROM stream").fetchone()[0]


def anonymous_bytes(pid: int) -> int:
    """What a process takes beside the files it maps."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.partition("\nAnonymous:")[2].split()[0]) * 1024
