"""Throwing away segments and packs that nobody needs."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import StoreLocked
from .._schema import begin
from ..lock import FileLock
from .log import Log
from .packs import Packs
from .segments import Segments
from .trails import Trails

FRESH_S = 60
"""A pack may be this old before its rows come."""
MOVE_FRAMES = 8
"""How many frames one step of compaction moves: others wait for the catalog meanwhile."""
BUSY_S = 1
"""How long another process may be in the way: there is always a next time."""

_PACKED = (
    "SELECT extent.row FROM extent JOIN stream ON stream.row = extent.stream WHERE NOT copied AND "
    "CASE WHEN sealed_at IS NOT NULL THEN extent.stream NOT IN (SELECT stream FROM chore) ELSE "
    "(SELECT min(next.at) FROM extent AS next WHERE next.stream = extent.stream AND next.row > extent.row) <= "
    "(SELECT max(at + length) FROM frame WHERE frame.stream = extent.stream) END"
)
"""Extents of which all payload is in frames: those of ended streams, and those that others came after."""
_NEEDED = "SELECT 1 FROM extent WHERE worker = ? AND NOT copied AND first <= ? AND (last IS NULL OR last >= ?) LIMIT 1"
_WORTH = (
    "SELECT pack.row, pack.name, pack.worker, ifnull(sum(size), 0) FROM pack LEFT JOIN frame ON frame.pack = pack.row "
    "GROUP BY pack.row"
)


class Janitor:
    """Belongs to the catalog's writer thread. A file goes only once the rows that do without it are at disk level."""

    def __init__(self, directory: Path, segments: Segments, trails: Trails, packs: Packs) -> None:
        self._segments, self._trails, self._packs = segments, trails, packs
        self._lock = FileLock(directory / "janitor.lock")
        self.log: Log | None = None
        """Our own."""

    def free(self, conn: sqlite3.Connection) -> bool:
        """Returns whether there is more. Raises OSError, sqlite3.Error."""
        packed = conn.execute(_PACKED).fetchall()
        with _durable(conn):
            conn.executemany("UPDATE extent SET copied = 1 WHERE row = ?", packed)
            doomed = [path for worker in self._workers() for path in self._unneeded(conn, worker)]
            (newest,) = conn.execute("SELECT ifnull(max(row), 0) FROM extent").fetchone()
            live = {row for (row,) in conn.execute("SELECT row FROM extent WHERE NOT copied")}
        for path in doomed:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        self._trails.retain(live, newest)
        self._forget_empty(conn)
        try:
            self._lock.acquire()
        except StoreLocked:
            return False
        try:
            self._drop_unnamed(conn)
            return self._compact(conn)
        finally:
            self._lock.release()

    def _workers(self) -> list[str]:
        """Whose segments are ours to throw away: our own, and those of the dead."""
        return [worker for worker in self._segments.workers() if self._mine(worker) or not self._trails.alive(worker)]

    def _mine(self, worker: str) -> bool:
        return worker == self._trails.me

    def _unneeded(self, conn: sqlite3.Connection, worker: str) -> Iterator[Path]:
        for number in self._segments.numbers(worker):
            if conn.execute(_NEEDED, (worker, number, number)).fetchone():
                continue
            if self.log and worker == self._trails.me and number >= self.log.segment:
                # No stream is held that could be written there, and none begins before this thread is done here
                self.log.retire(number)
            yield self._segments.path(worker, number)

    def _forget_empty(self, conn: sqlite3.Connection) -> None:
        """Extents that were only kept because their segments were, and the folders of the dead."""
        for worker in self._workers():
            left = self._segments.numbers(worker)
            sql = "DELETE FROM extent WHERE worker = ? AND copied AND last < ?"
            conn.execute(sql, (worker, left[0] if left else 2**62))
            if not left and worker != self._trails.me:
                with contextlib.suppress(OSError):
                    self._segments.folder(worker).rmdir()

    def _drop_unnamed(self, conn: sqlite3.Connection) -> None:
        """Packs whose rows never came: whoever wrote them died before, or the disk was full for the rows."""
        named = {name for (name,) in conn.execute("SELECT name FROM pack")}
        for name in set(self._packs.names()) - named:
            if not self._packs.current(name) and time.time() - self._packs.made_at(name) > FRESH_S:
                self._packs.unlink(name)

    def _compact(self, conn: sqlite3.Connection) -> bool:
        """Move what is left in a pack that is under half live, or drop one that is empty."""
        for row, name, worker, live in conn.execute(_WORTH).fetchall():
            if self._packs.current(name) or (worker != self._trails.me and self._trails.alive(worker)):
                continue
            if 2 * live >= self._packs.size(name) > 0:
                continue
            with _durable(conn):
                sql = "SELECT stream, at FROM frame WHERE pack = ? LIMIT ?"
                frames = conn.execute(sql, (row, MOVE_FRAMES)).fetchall()
                self._packs.move(conn, frames)
                if len(frames) < MOVE_FRAMES:
                    conn.execute("DELETE FROM pack WHERE row = ?", (row,))
            if len(frames) < MOVE_FRAMES:
                self._packs.unlink(name)
            return True
        return False


@contextmanager
def _durable(conn: sqlite3.Connection) -> Iterator[None]:
    """A transaction at disk level, with all before it."""
    conn.execute("PRAGMA synchronous = FULL")
    try:
        begin(conn, BUSY_S)
        yield
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        conn.execute("PRAGMA synchronous = NORMAL")
