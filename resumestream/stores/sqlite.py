"""One SQLite file: what `resumestream` keeps its streams in unless told otherwise.

Writes go through one thread that commits groups (`_writer`), reads through a few read-only connections of their own,
so that a reader never waits for a commit.
"""

from __future__ import annotations

import math
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import anyio
import anyio.to_thread

from ..errors import StoreError, StreamNotFound
from ..model import (
    Attempt,
    Binding,
    Durability,
    Gone,
    Head,
    Lease,
    NewStream,
    Query,
    Seal,
    StreamId,
    StreamInfo,
    state_of,
)
from ..policy import Policy
from . import _payload, _rows, _rules, _schema
from ._writer import Batch, Writer
from .clock import StoreClock
from .lock import FileLock

T = TypeVar("T")

READERS = 4
"""Connections that read at a time; further reads wait their turn."""
PROBE_EVERY_S = 1
"""So long a probe that succeeded answers for those after it: anybody may ask, and each would be a commit."""


class SQLiteStore:
    """`serving`: hold the store's lock, make the file where there is none, do its idle-time work. Otherwise it is
    opened beside a server, or without one, to look and to leave an intent.

    Not to be shared between event loops. After `async with` it can be entered again.
    """

    def __init__(self, path: Path, *, policy: Policy, serving: bool, clock: Callable[[], float] | None = None) -> None:
        self._path = path.resolve()
        self.location = str(self._path)
        self.durability: Durability = policy.durability
        self.secrets: Sequence[bytes] = ()
        self._busy_s = policy.busy_s
        self._serving = serving
        self._clock = clock or StoreClock()
        self._lock = FileLock(self._path.with_name(self._path.name + ".lock"))
        self._idle: deque[sqlite3.Connection] = deque()
        self._writer: Writer | None = None

    async def __aenter__(self) -> Self:
        if self._writer:
            raise StoreError(f"the store at {self.location} is open already; make another handle")
        self._conn = await anyio.to_thread.run_sync(self._open)
        self._slots = anyio.CapacityLimiter(READERS)
        self._reading = 0
        self._quiet = anyio.Event()
        self._probed_at = -math.inf
        self._writer = Writer(self._conn, self.location, all_disk=self.durability == "disk", chores=self._serving)
        return self

    async def __aexit__(self, *exc: object) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with anyio.CancelScope(shield=True):
            if self._reading:
                await self._quiet.wait()
            await anyio.to_thread.run_sync(self._close, writer, limiter=anyio.CapacityLimiter(1))

    async def probe(self) -> None:
        if self.now() >= self._probed_at + PROBE_EVERY_S:
            await self._write(lambda batch: _rows.touch(batch.conn))
            self._probed_at = self.now()

    def now(self) -> float:
        return self._clock()

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        def op(batch: Batch) -> Lease:
            if new.key is not None:
                binding = _rules.bound(_rows.binding(batch.conn, new.key), new, replaces)
                _rows.bind(batch.conn, new.key, binding)
            _rows.insert(batch.conn, StreamInfo(new))
            return Lease(new.id, new.worker, 1)

        return await self._write(op, disk=new.key is not None)

    async def binding(self, key: str) -> Binding | None:
        return await self._read(lambda conn: _rows.binding(conn, key))

    async def acquire(self, stream: StreamId, worker: str) -> Lease:
        info = await self._change(stream, lambda info: _rules.acquired(info, worker))
        return Lease(stream, worker, info.epoch)

    async def begin(self, lease: Lease, attempt: Attempt, head: Head) -> None:
        await self._change(lease.stream, lambda info: _rules.begun(info, lease, attempt, head))

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        def op(batch: Batch) -> int:
            sql = "SELECT row, epoch, gone IS NOT NULL, sealed_at IS NOT NULL, tail FROM stream WHERE id = ?"
            found = batch.conn.execute(sql, (lease.stream,)).fetchone()
            if found is None:
                raise _rules.not_found(lease.stream)
            row, epoch, gone, sealed, tail = found
            state = state_of(gone=gone, sealed=sealed, tail=tail)
            _rules.appendable(lease, at, epoch=epoch, state=state, tail=tail)
            if data:
                batch.chunks.add(row, at, data)
            tail += len(data)
            batch.conn.execute("UPDATE stream SET tail = ?, events = events + ? WHERE row = ?", (tail, events, row))
            return int(tail)

        return await self._write(op)

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        return await self._change(
            lease.stream, lambda info: _rules.sealed(info, lease, seal, self.now()), disk=True, chore=True
        )

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        def look(conn: sqlite3.Connection) -> bytes:
            sql = "SELECT row, tail, gone IS NOT NULL FROM stream WHERE id = ?"
            if (found := conn.execute(sql, (stream,)).fetchone()) is None:
                raise _rules.not_found(stream)
            row, tail, gone = found
            _rules.readable(stream, at, tail=tail, gone=gone)
            return _payload.read(conn, row, at, min(at + max_bytes, tail))

        return await self._read(look)

    async def stat(self, stream: StreamId) -> StreamInfo:
        return await self._read(lambda conn: _rows.get(conn, stream)[1])

    async def find(self, query: Query) -> list[StreamInfo]:
        return await self._read(lambda conn: _rows.find(conn, query))

    async def unsealed(self) -> list[StreamInfo]:
        return await self._read(_rows.unsealed)

    async def request_cancel(self, stream: StreamId) -> None:
        await self._change(stream, _rules.cancel_requested, disk=True)

    async def cancel_requests(self) -> list[StreamId]:
        return await self._read(_rows.cancel_requests)

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        return await self._change(stream, lambda info: _rules.purged(info, why, self.now()), disk=True, chore=True)

    async def forget(self, stream: StreamId) -> None:
        def op(batch: Batch) -> None:
            try:
                row, info = _rows.get(batch.conn, stream)
            except StreamNotFound:
                return
            _rules.forgettable(info)
            _rows.delete(batch.conn, row, info)
            if info.new.key is not None:
                _rows.unbind(batch.conn, info.new.key, stream)

        await self._write(op)

    async def tidy(self) -> None:
        """Do all idle-time work now: pack what has ended, erase what was purged, give the space back."""
        while await self._entered().keep():
            pass

    async def _change(
        self, stream: StreamId, rule: Callable[[StreamInfo], StreamInfo], *, disk: bool = False, chore: bool = False
    ) -> StreamInfo:
        """Put a record through a rule. `chore`: what changed makes work for idle time."""

        def op(batch: Batch) -> StreamInfo:
            row, info = _rows.get(batch.conn, stream)
            changed = rule(info)
            if changed is not info:
                _rows.update(batch.conn, row, changed)
                if chore:
                    batch.conn.execute("INSERT OR IGNORE INTO chore VALUES (?, 0)", (row,))
                    batch.chores = True
            return changed

        return await self._write(op, disk=disk)

    async def _write(self, op: Callable[[Batch], T], *, disk: bool = False) -> T:
        return await self._entered().call(op, disk=disk)

    async def _read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """Look at one state of the store, in a thread."""
        self._entered()
        self._reading += 1
        try:
            return await anyio.to_thread.run_sync(self._look, look, limiter=self._slots)
        finally:
            self._reading -= 1
            if not self._reading and not self._writer:
                self._quiet.set()

    def _look(self, look: Callable[[sqlite3.Connection], T]) -> T:
        try:
            try:
                conn = self._idle.pop()
            except IndexError:
                conn = _schema.connect(self._path, "ro", busy_s=self._busy_s)
            try:
                conn.execute("BEGIN")
                return look(conn)
            finally:
                if conn.in_transaction:
                    conn.execute("COMMIT")
                self._idle.append(conn)
        except sqlite3.Error as error:
            raise _schema.translate(error, self.location) from error

    def _entered(self) -> Writer:
        if self._writer is None:
            raise StoreError(f"the store at {self.location} is not open; enter it first")
        return self._writer

    def _open(self) -> sqlite3.Connection:
        _schema.prepare(self._path, create=self._serving)
        if self._serving:
            self._lock.acquire()
        try:
            conn = _schema.open_writer(self._path, busy_s=self._busy_s, create=self._serving)
            self.secrets = _rows.secrets(conn)
        except BaseException:
            self._lock.release()
            raise
        return conn

    def _close(self, writer: Writer) -> None:
        """The writer's connection goes last: closing it empties and removes the WAL, where no other process reads."""
        writer.stop()
        writer.join()
        while self._idle:
            self._idle.pop().close()
        self._conn.close()
        self._lock.release()
