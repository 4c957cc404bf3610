"""What the writer does while nobody asks: pack what has ended, erase what was purged, give the space back.

The table `chore` is the list of work, so a crash forgets none of it. Each step is small and a whole: an append that
comes meanwhile waits for one step at most.
"""

from __future__ import annotations

import logging
import sqlite3
import time

from . import _payload
from ._schema import primary_code

logger = logging.getLogger("resumestream.store")

SCRUB_EVERY_S = 10
"""At most this often free pages are cut off and the WAL is emptied: both cost an fsync and writes."""
RETRY_S = 1
"""After another process or a full disk was in the way."""
VACUUM_PAGES = 256


class Keeper:
    """`chores` says that the list may hold work. Only the writer's thread calls it."""

    def __init__(self, conn: sqlite3.Connection, *, chores: bool) -> None:
        self._conn = conn
        self.chores = chores
        self._scrub = chores
        self._scrub_at = 0.0
        self._not_before = 0.0

    def wait_s(self) -> float | None:
        """How long until there is something to do; None for ever."""
        if not self.chores and not self._scrub:
            return None
        due = self._not_before if self.chores else max(self._not_before, self._scrub_at)
        return max(0.0, due - time.monotonic())

    def step(self) -> bool:
        """Do one piece, due or not. Returns whether another could follow now. Does not raise: it is nobody's call."""
        self._not_before = 0.0
        try:
            if self.chores:
                self.chores = self._chore()
            elif self._scrub:
                self._scrub = self._free()
        except Exception as error:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            self._not_before = time.monotonic() + RETRY_S
            if primary_code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL):
                logger.exception("packing and erasing stop until a stream ends or is purged")
                self.stop()
        return (self.chores or self._scrub) and time.monotonic() >= self._not_before

    def stop(self) -> None:
        """Leave the rest to whoever asks next, or opens the store next."""
        self.chores = self._scrub = False

    def _chore(self) -> bool:
        """One piece of the oldest chore, erasing first: it is promised within a time, and gives a full disk room. False
        when there is none."""
        conn = self._conn
        conn.execute("BEGIN IMMEDIATE")
        sql = (
            "SELECT chore.stream, packed, tail, gone IS NOT NULL OR id IS NULL AS erase FROM chore "
            "LEFT JOIN stream ON stream.row = chore.stream ORDER BY erase DESC, chore.stream LIMIT 1"
        )
        found = conn.execute(sql).fetchone()
        if found:
            stream, packed, tail, erase = found
            if erase:
                done = not _payload.erase(conn, stream)
                self._scrub = True
            else:
                packed = _payload.pack(conn, stream, packed, tail) if packed < tail else tail
                conn.execute("UPDATE chore SET packed = ? WHERE stream = ?", (packed, stream))
                done = packed == tail
            if done:
                conn.execute("DELETE FROM chore WHERE stream = ?", (stream,))
        conn.execute("COMMIT")
        return found is not None

    def _free(self) -> bool:
        """Cut off some free pages; when there are none left, empty the WAL. False when that is done."""
        conn = self._conn
        if conn.execute("PRAGMA freelist_count").fetchone()[0]:
            conn.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            return True
        (busy_ms,) = conn.execute("PRAGMA busy_timeout").fetchone()
        conn.execute("PRAGMA busy_timeout = 0")  # a reader in the way is a reason to come back, not to wait
        try:
            (blocked, _, _) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            conn.execute(f"PRAGMA busy_timeout = {busy_ms}")
        self._scrub_at = time.monotonic() + SCRUB_EVERY_S
        if blocked:
            self._scrub_at = self._not_before = time.monotonic() + RETRY_S
        return bool(blocked)
