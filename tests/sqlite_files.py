"""SQLite stores as tests make them, and looks at their files from outside."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from resumestream.model import Lease, NewStream, Outcome, Seal, StreamId
from resumestream.policy import Policy
from resumestream.stores import SQLiteStore
from resumestream.stores._frame import FRAME_BYTES

SEAL = Seal(Outcome.COMPLETED, "end", "The provider finished.")


def server(path: Path, **policy: Any) -> SQLiteStore:
    return SQLiteStore(path, policy=Policy(**policy), serving=True)


def offline(path: Path, **policy: Any) -> SQLiteStore:
    return SQLiteStore(path, policy=Policy(**policy), serving=False)


async def stream(store: SQLiteStore, name: str, *parts: bytes) -> Lease:
    lease = await store.create(NewStream(StreamId(name), "p", "u", "w", store.now(), 60, 60, labels=("label",)))
    at = 0
    for part in parts:
        at = await store.append(lease, at, part)
    return lease


async def whole(store: SQLiteStore, name: str) -> bytes:
    payload = b""
    while data := await store.read(StreamId(name), len(payload), FRAME_BYTES):
        payload += data
    return payload


async def together(store: SQLiteStore, *calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What each call returned or raised, when the writer finds all of them waiting: they are one batch."""
    assert store._writer
    release, results = threading.Event(), [None] * len(calls)

    async def run(number: int, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            results[number] = await call()
        except Exception as error:
            results[number] = error

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(store._writer.call, lambda _: release.wait(10), disk=False))
            await anyio.wait_all_tasks_blocked()
            for number, call in enumerate(calls):
                tasks.start_soon(run, number, call)
            await anyio.wait_all_tasks_blocked()
            release.set()
    return results


async def allow_pages(store: SQLiteStore, most: int) -> None:
    """Let the database have that many pages, or the present number if that is more: a full disk, as SQLite tells it."""
    limit = f"PRAGMA max_page_count = {most}"
    await store._entered().call(lambda batch: batch.conn.execute(limit).fetchall(), disk=False)


def rows(path: Path, sql: str) -> list[Any]:
    conn = sqlite3.connect(path)
    try:
        return conn.execute(sql).fetchall()
    finally:
        conn.close()


def content(path: Path) -> bytes:
    """What is in every file of the store."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()) if file.is_file())
