"""What the writer does while nobody asks: pack what has ended, erase what was purged, give the space back.

The table `chore` is the list of work, so a crash forgets none of it. Each step is small and a whole: an append that
comes meanwhile waits for one step at most.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable

from . import _payload
from ._schema import primary_code

logger = logging.getLogger("resumestream.store")

SCRUB_EVERY_S = 10
"""At most this often free pages are cut off and the WAL is emptied: both cost an fsync and writes."""
RETRY_S = 1
"""After another process or a full disk was in the way."""
VACUUM_PAGES = 256

_Chore = tuple[int, bool]
"""A stream's row, and whether it is to be erased rather than packed."""


class Keeper:
    """`chores` says that the list may hold work, `relax` spares its commits their sync. Only the writer's thread calls
    it."""

    def __init__(self, conn: sqlite3.Connection, *, chores: bool, relax: Callable[[], None]) -> None:
        self._conn = conn
        self._relax = relax
        self.chores = chores
        self._at_hand: _Chore | None = None
        self._aside: set[_Chore] = set()
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
        """Do one piece, due or not. Returns whether another could follow now. It is nobody's call: raises only where
        its transaction cannot be rolled back."""
        self._not_before = 0.0
        try:
            self._relax()
            if self.chores:
                self.chores = self._chore()
            elif self._scrub:
                self._scrub = self._free()
        except Exception as error:
            failed, self._at_hand = self._at_hand, None
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            if primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL):
                self._not_before = time.monotonic() + RETRY_S
            elif failed and primary_code(error) != sqlite3.SQLITE_IOERR:
                self._aside.add(failed)
                row, erase = failed
                logger.exception("stream row %d cannot be %s and is set aside", row, "erased" if erase else "packed")
            else:
                logger.exception("packing and erasing stop until a stream ends or is purged")
                self.stop()
        return (self.chores or self._scrub) and time.monotonic() >= self._not_before

    def stop(self) -> None:
        """Leave the rest to whoever asks next, or opens the store next."""
        self.chores = self._scrub = False

    def _chore(self) -> bool:
        """One piece of the oldest chore that is not set aside, erasing first: it is promised within a time, and gives
        a full disk room. False when there is none."""
        conn = self._conn
        conn.execute("BEGIN IMMEDIATE")
        sql = (
            "SELECT chore.stream, packed, tail, gone IS NOT NULL OR id IS NULL AS erase FROM chore "
            "LEFT JOIN stream ON stream.row = chore.stream ORDER BY erase DESC, chore.stream LIMIT ?"
        )
        oldest = conn.execute(sql, (len(self._aside) + 1,)).fetchall()
        found = next((chore for chore in oldest if (chore[0], bool(chore[3])) not in self._aside), None)
        if found:
            stream, packed, tail, erase = found
            self._at_hand = stream, bool(erase)
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
        self._at_hand = None
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
