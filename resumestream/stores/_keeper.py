"""What the writer does while nobody asks: pack what has ended, erase what was purged, give the space back.

The table `chore` is the list of work, so a crash forgets none of it. Each step is small and a whole: an append that
comes meanwhile waits for one step at most.
"""

from __future__ import annotations

import errno
import logging
import math
import sqlite3
import time
from collections.abc import Callable

from ._frame import Frame
from ._payload import Payload
from ._reserve import Reserve
from ._schema import begin, lost_a_sync, primary_code

logger = logging.getLogger("resumestream.store")

SCRUB_EVERY_S = 10
"""At most this often free pages are cut off and the WAL is emptied: both cost an fsync and writes."""
LOOK_EVERY_S = 10
"""So often a server looks for work that another process left, and for room to keep in reserve."""
RETRY_S = 1
"""After another process or a full disk was in the way."""
AGAIN_S = 60
"""After a stream could not be erased, or not be packed for what may pass, like a lack of descriptors."""
VACUUM_PAGES = 256

_Chore = tuple[int, bool]
"""A stream's row, and whether it is to be erased rather than packed."""
_Found = tuple[int, int, int, int]
"""A stream's row, how far it is packed, its tail, and whether it is to be erased rather than packed."""


class Keeper:
    """`relax` spares its commits their sync. With a `reserve` it serves: it finds the work of dead processes, too. Only
    the writer's thread calls it. Several processes may do this on one store: each step sees the list as it is."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        payload: Payload,
        reserve: Reserve | None,
        *,
        busy_s: float,
        relax: Callable[[], None],
    ) -> None:
        self._conn, self._payload, self._reserve = conn, payload, reserve
        self._busy_s, self._relax = busy_s, relax
        self.chores = reserve is not None
        """The list may hold work."""
        self._at_hand: _Chore | None = None
        self._aside: dict[_Chore, float] = {}
        """What failed, and when to try again."""
        self._scrub = self.chores
        self._scrub_at = 0.0
        self._not_before = 0.0
        self._look_at = time.monotonic() + LOOK_EVERY_S if reserve else math.inf

    def wait_s(self) -> float | None:
        """How long until there is something to do; None for ever."""
        due = self._look_at
        if self.chores:
            due = min(due, self._not_before)
        elif self._scrub:
            due = min(due, max(self._not_before, self._scrub_at))
        return max(0.0, due - time.monotonic()) if due < math.inf else None

    def step(self) -> bool:
        """Do one piece, due or not. Returns whether another could follow now. It is nobody's call: raises only where
        its transaction cannot be rolled back, or a sync was lost."""
        self._not_before = 0.0
        try:
            self._relax()
            if self.chores:
                self.chores = self._chore()
            elif self._scrub:
                self._scrub = self._free()
            if self._look_at <= time.monotonic():
                self._look()
        except Exception as error:
            failed, self._at_hand = self._at_hand, None
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            if lost_a_sync(error):
                raise
            full = getattr(error, "errno", None) == errno.ENOSPC
            if full or primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL):
                self._not_before = time.monotonic() + RETRY_S
            elif failed and primary_code(error) != sqlite3.SQLITE_IOERR:
                row, erase = failed
                # What is damaged will not be packed later either
                wait_s = AGAIN_S if erase or isinstance(error, OSError) else math.inf
                self._aside[failed] = time.monotonic() + wait_s
                logger.exception("stream row %d cannot be %s and is set aside", row, "erased" if erase else "packed")
            else:
                logger.exception("packing and erasing stop until a stream ends or is purged")
                self.stop()
        return (self.chores or self._scrub) and time.monotonic() >= self._not_before

    def recall(self) -> None:
        """There may be work that nobody here knows of."""
        self.chores = self._scrub = True

    def end(self) -> None:
        """Do nothing ever again."""
        self.stop()
        self._look_at = math.inf

    def stop(self) -> None:
        """Leave the rest to whoever asks next, or to the next look."""
        self.chores = self._scrub = False

    def _look(self) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self.chores |= self._conn.execute("SELECT 1 FROM chore LIMIT 1").fetchone() is not None
        if self._reserve:
            self._reserve.take()

    def _chore(self) -> bool:
        """One piece of the oldest chore that is not set aside, erasing first: it is promised within a time, and gives
        a full disk room. False when there is none."""
        conn = self._conn
        now = time.monotonic()
        self._aside = {chore: again for chore, again in self._aside.items() if again > now}
        if (found := self._oldest()) is None:
            return False
        stream, packed, tail, erase = found
        self._at_hand = stream, bool(erase)
        frame = self._prepared(found) if not erase and packed < tail else None
        begin(conn, self._busy_s)
        if found == self._oldest():  # else another process did it, or the stream was purged
            if erase:
                done = not self._payload.erase(conn, stream)
            else:
                packed = self._payload.pack(conn, stream, packed, frame) if packed < tail else tail
                conn.execute("UPDATE chore SET packed = ? WHERE stream = ?", (packed, stream))
                done = packed == tail
            if done:
                conn.execute("DELETE FROM chore WHERE stream = ?", (stream,))
        conn.execute("COMMIT")
        self._scrub = True
        self._at_hand = None
        return True

    def _oldest(self) -> _Found | None:
        sql = (
            "SELECT chore.stream, packed, tail, gone IS NOT NULL OR id IS NULL AS erase FROM chore "
            "LEFT JOIN stream ON stream.row = chore.stream ORDER BY erase DESC, chore.stream LIMIT ?"
        )
        oldest: list[_Found] = self._conn.execute(sql, (len(self._aside) + 1,)).fetchall()
        return next((chore for chore in oldest if (chore[0], bool(chore[3])) not in self._aside), None)

    def _prepared(self, chore: _Found) -> Frame | None:
        """Read and compress without the lock that other processes wait for. The stream may be packed or erased
        meanwhile, and then look damaged."""
        stream, packed, tail, _ = chore
        self._conn.execute("BEGIN")
        try:
            return self._payload.prepare(self._conn, stream, packed, tail)
        except Exception as error:
            self._conn.execute("ROLLBACK")
            if lost_a_sync(error) or chore == self._oldest():
                raise
            return None
        finally:
            if self._conn.in_transaction:
                self._conn.execute("COMMIT")

    def _free(self) -> bool:
        """Cut off some free pages; when there are none left, empty the WAL. False when that is done."""
        conn = self._conn
        if conn.execute("PRAGMA freelist_count").fetchone()[0]:
            begin(conn, self._busy_s)
            conn.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            conn.execute("COMMIT")
            return True
        # A reader in the way is a reason to come back, not to wait
        (blocked, _, _) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._scrub_at = time.monotonic() + SCRUB_EVERY_S
        if blocked:
            self._scrub_at = self._not_before = time.monotonic() + RETRY_S
        return self._payload.free(conn) or bool(blocked)
