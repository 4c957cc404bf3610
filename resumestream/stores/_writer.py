"""The one thread that writes to SQLite, with group commit: what is asked while it commits is committed together next.

An operation refuses before its first write, so a refusal leaves the transaction as it found it and the operations
beside it go on. No lock, no wait but COMMIT.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import current_token

from ..errors import ResumeStreamError, StoreError
from ._keeper import Keeper
from ._payload import Payload
from ._reserve import Reserve
from ._schema import FAILURES, begin, lost_a_sync, primary_code, translate
from ._slices import ChunkWriter

logger = logging.getLogger("resumestream.store")

T = TypeVar("T")

KEEP_EVERY_S = 0.25
"""Idle-time work gets a step this often though there is no idle time: packing must keep up with sealing."""

CHECKPOINT_ROWS = 750
"""Rows changed from one checkpoint to the next: about the 1000 pages of SQLite's own default."""


@dataclass(slots=True)
class Batch:
    """One transaction, as its operations see it."""

    conn: sqlite3.Connection
    chunks: ChunkWriter
    chores: bool = False
    """An operation left work for idle time."""


class _Call:
    """Somebody who waits for the writer: by itself, for one piece of idle-time work; `anew`: from the list of it."""

    def __init__(self, *, anew: bool = False) -> None:
        self.anew = anew
        self.done = anyio.Event()
        self.result: Any = None
        self.error: Exception | None = None


class _Write(_Call):
    """For an operation to be committed."""

    def __init__(self, op: Callable[[Batch], object], disk: bool, vital: bool) -> None:
        super().__init__()
        self.op, self.disk, self.vital = op, disk, vital


class Writer:
    """Make it on the loop that will call it. `conn` is its own from then on, until `join` has returned."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        location: str,
        payload: Payload,
        reserve: Reserve | None,
        *,
        all_disk: bool,
        busy_s: float,
    ) -> None:
        self._conn, self._location, self._reserve = conn, location, reserve
        self._all_disk, self._busy_s = all_disk, busy_s
        # What it moves and drops is durable already; the next synced commit covers it
        self._keeper = Keeper(conn, payload, reserve, busy_s=busy_s, relax=partial(self._sync, False))
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._full: bool | None = None
        self._kept_at = 0.0
        self._checkpoint_at = CHECKPOINT_ROWS
        self._broken = ""
        """Why nothing more is written, once that is so."""
        loop: Any = current_token().native_token
        self._soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon  # asyncio's name, else trio's
        self._thread = threading.Thread(target=self._run, name="resumestream-writer", daemon=True)
        self._thread.start()

    async def call(self, op: Callable[[Batch], T], *, disk: bool, vital: bool = False) -> T:
        """What `op` returns or raises, once it is committed: at disk level if `disk`, else to survive a process kill;
        if `vital`, out of the reserve where nothing else is left. Cancelled, it stops waiting; the operation happens
        all the same. `op` may run again if its commit failed."""
        result: T = await self._wait(_Write(op, disk, vital))
        return result

    async def keep(self, *, anew: bool = False) -> bool:
        """Do one piece of idle-time work now, `anew`: also of what others left. Returns whether there is more."""
        return bool(await self._wait(_Call(anew=anew)))

    def stop(self) -> None:
        """Let the thread end after what was asked before."""
        self._queue.put(None)

    @property
    def broken(self) -> str:
        """Why it writes nothing more, once that is so: what a sync lost may lie anywhere in the log."""
        return self._broken

    def give_up(self, error: Exception) -> None:
        """A sync beside it was lost: write nothing more. Any thread may call it."""
        self._break(error)

    def join(self) -> None:
        self._thread.join()

    async def _wait(self, call: _Call) -> Any:
        self._queue.put(call)
        await call.done.wait()
        if call.error:
            raise call.error
        return call.result

    def _run(self) -> None:
        running = True
        while running:
            asked = self._take()
            calls = [call for call in asked if call]
            running = len(calls) == len(asked)
            if writes := [call for call in calls if isinstance(call, _Write)]:
                self._write(writes)
            for call in calls:
                if not isinstance(call, _Write):
                    if call.anew:
                        self._keeper.recall()
                    call.result = self._keep()
            self._report(calls)
            if self._conn.total_changes >= self._checkpoint_at and not self._broken:
                self._checkpoint()
            if not asked or (self._keeper.wait_s() == 0 and time.monotonic() > self._kept_at + KEEP_EVERY_S):
                self._keep()

    def _take(self) -> list[_Call | None]:
        """All that was asked so far, None for `stop`. Waits for the first; comes back empty for idle-time work."""
        asked: list[_Call | None] = []
        with contextlib.suppress(queue.Empty):
            asked.append(self._queue.get(timeout=self._keeper.wait_s()))
            while True:
                asked.append(self._queue.get_nowait())
        return asked

    def _write(self, calls: list[_Write]) -> None:
        """Commit the calls together. If that fails by the fault of one of them, each by itself: a large append that
        finds no space takes no seal with it."""
        error = None if self._broken else self._commit(calls)
        if self._broken:
            for call in calls:
                call.error = StoreError(f"the store at {self._location} must be opened again ({self._broken})")
        elif error and len(calls) > 1 and not _hits_all(error):
            for call in calls:
                self._write([call])
        elif error and self._finds_room(calls, error):
            self._write(calls)
        elif error:
            for call in calls:
                call.error = translate(error, self._location) if isinstance(error, FAILURES) else error

    def _finds_room(self, calls: list[_Write], error: Exception) -> bool:
        """Whether the reserve was there, and was given up for them."""
        full = primary_code(error) == sqlite3.SQLITE_FULL and all(call.vital for call in calls)
        return full and self._reserve is not None and self._reserve.give_up()

    def _commit(self, calls: list[_Write]) -> Exception | None:
        """One transaction. Returns why nothing of it happened; what one operation refused is that call's own error."""
        conn = self._conn
        batch = Batch(conn, ChunkWriter(conn))
        try:
            self._sync(self._all_disk or any(call.disk for call in calls))
            begin(conn, self._busy_s)
            for call in calls:
                call.error = None
                try:
                    call.result = call.op(batch)
                except ResumeStreamError as refusal:
                    call.error = refusal
            batch.chunks.flush()
            conn.execute("COMMIT")
        except Exception as error:
            if lost_a_sync(error):
                self._break(error)
            self._roll_back()
            return error
        self._keeper.chores |= batch.chores
        return None

    def _checkpoint(self) -> None:
        """SQLite would do this within a commit, and keep a lost sync to itself."""
        self._checkpoint_at = self._conn.total_changes + CHECKPOINT_ROWS
        try:
            self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            if lost_a_sync(error):
                self._break(error)
            else:
                logger.warning("the write-ahead log at %s is emptied later: %s", self._location, error)

    def _roll_back(self) -> None:
        """After a full disk or an I/O error SQLite has done so itself."""
        try:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
        except Exception as error:
            self._break(error)

    def _break(self, error: Exception) -> None:
        """Write nothing more: nobody can tell what a commit would make durable. The thread lives on, to say so to
        whoever asks."""
        if not self._broken:
            logger.error(
                "the store at %s takes no more writes until it is opened again", self._location, exc_info=error
            )
            self._broken = repr(error)
        self._keeper.end()

    def _keep(self) -> bool:
        if self._broken:
            self._keeper.end()  # it may have been at work when another thread gave up
            return False
        self._kept_at = time.monotonic()
        try:
            return self._keeper.step()
        except Exception as error:
            self._break(error)
            return False

    def _sync(self, full: bool) -> None:
        if full is not self._full:
            self._conn.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._full = full

    def _report(self, calls: list[_Call]) -> None:
        """One callback for all of them, so that a batch wakes the loop once."""

        def wake() -> None:
            for call in calls:
                call.done.set()

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._soon(wake)


def _hits_all(error: Exception) -> bool:
    """Whether the disk or the lock failed, and not what one operation asked for. SQLite's refusals of a value are
    subclasses of these two; no space may be one operation's size."""
    failed = type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError)
    return failed and primary_code(error) != sqlite3.SQLITE_FULL
