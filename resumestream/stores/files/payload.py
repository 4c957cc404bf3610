"""Payload of a catalog's streams in files: how it is read, packed, erased, checked, and what is thrown away."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from ...errors import StoreError
from .._frame import FRAME_BYTES, Frame
from . import audit, extents, view
from .disk import Disk
from .extents import Extent
from .held import Held
from .janitor import Janitor
from .packs import TABLES, Packs
from .segments import Missing, Segments, missing
from .trails import Trails
from .walk import payload
from .wipe import wipe

ERASE_BYTES = 1024 * 1024
"""About the most that one erasing step overwrites."""


class FilePayload:
    """Any thread may read; the rest is the catalog's writer's."""

    kind = "files"
    tables = extents.TABLES + TABLES

    def __init__(self, directory: Path, pages: Path, disk: Disk) -> None:
        self.directory, self.disk = directory, disk
        self.segments = Segments(directory / "segments", disk)
        self.trails = Trails(self.segments, pages)
        self.packs = Packs(directory / "packs", disk)
        self.janitor = Janitor(directory, self.segments, self.trails, self.packs)

    def serve(self, worker: str) -> None:
        """Be the one that writes for `worker`. Raises OSError."""
        for path in (self.segments.directory, self.packs.directory, self.segments.folder(worker)):
            self.disk.make_directory(path)
        self.disk.sync_directory(self.directory)
        self.trails.me = self.packs.worker = worker

    def close(self) -> None:
        self.trails.close()
        self.packs.close()
        self.trails.me = self.packs.worker = ""

    def read(self, conn: sqlite3.Connection, stream: int, at: int, end: int, tail: int) -> bytes:
        """Payload from `at` on, up to `end` or the end of what is stored together; `tail` is how far the stream has
        come. Segments are read as long as they are kept: they are at disk level before packs are. Raises StoreError
        where it is not there, or not as it was written: never other bytes. OSError."""
        if at >= end:
            return b""
        found = extents.covering(extents.of(conn, stream), at, tail)
        if found is None:
            return self.packs.read(conn, stream, at, end)
        extent, end = found[0], min(end, found[1])
        return self._walked(extent, at, end)

    def prepare(self, conn: sqlite3.Connection, stream: int, packed: int, tail: int) -> Frame | None:
        if self.packs.framed(conn, stream) > packed:
            return None
        end = min(packed + FRAME_BYTES, tail)
        parts: list[bytes] = []
        at = packed
        while at < end:
            parts.append(self.read(conn, stream, at, end, tail))
            at += len(parts[-1])
        return self.packs.write(b"".join(parts))

    def pack(self, conn: sqlite3.Connection, stream: int, packed: int, frame: Frame | None) -> int:
        if frame:
            self.packs.enter(conn, stream, packed, frame)
        return self.packs.framed(conn, stream)

    def erase(self, conn: sqlite3.Connection, stream: int) -> bool:
        if self.packs.erase(conn, stream, ERASE_BYTES):
            return True
        sql = "SELECT row, worker, first FROM extent WHERE stream = ? LIMIT 1"
        if (found := conn.execute(sql, (stream,)).fetchone()) is None:
            return False
        wipe(self.segments, *found)
        conn.execute("DELETE FROM extent WHERE row = ?", (found[0],))
        return True

    def free(self, conn: sqlite3.Connection) -> bool:
        """Give back what nobody needs any more. Outside a transaction. Returns whether there is more."""
        return self.janitor.free(conn)

    def verify(self, conn: sqlite3.Connection, stream: int, tail: int) -> list[str]:
        return self._twice(conn, lambda: self._verify(conn, stream, tail))

    def audit(self, conn: sqlite3.Connection) -> list[str]:
        return self._twice(conn, lambda: [*audit.packs(conn, self.packs), *audit.segments(conn, self.segments)])

    def _verify(self, conn: sqlite3.Connection, stream: int, tail: int) -> list[str]:
        if conn.execute("SELECT sealed_at IS NULL FROM stream WHERE row = ?", (stream,)).fetchone()[0]:
            tail, _ = view.live(conn, self.trails, stream)
        wrong: list[str] = []
        at = 0
        while at < tail:
            try:
                at += len(self.read(conn, stream, at, min(tail, at + FRAME_BYTES), tail))
            except (StoreError, OSError) as error:
                wrong.append(error.message if isinstance(error, StoreError) else f"payload cannot be read: {error}")
                at = self._next(conn, stream, at, tail)
        return wrong

    def _walked(self, extent: Extent, at: int, end: int) -> bytes:
        try:
            return self._walk(extent, at, end)
        except (FileNotFoundError, Missing):  # others of that worker were thrown away while they were looked through
            self.trails.forget()
            return self._walk(extent, at, end)

    def _walk(self, extent: Extent, at: int, end: int) -> bytes:
        trail = self.trails.reaching(extent.worker, extent.row, end)
        if trail is None or trail.at > at:
            raise missing(at, end)
        with self.segments.reading(extent.worker) as files:
            return payload(files, extent.row, trail, at, end)

    def _twice(self, conn: sqlite3.Connection, look: Callable[[], list[str]]) -> list[str]:
        """What is wrong in two views of the catalog: what was packed, moved or thrown away since the first began looked
        wrong in that alone."""
        if not (found := look()):
            return found
        conn.execute("COMMIT")
        conn.execute("BEGIN")
        self.trails.forget()
        still = look()
        return [sentence for sentence in found if sentence in still]

    def held(self, held: Held, at: int, end: int) -> bytes:
        """What is visible of a stream that we hold. Raises StoreError, OSError."""
        if at == end:
            return b""
        with self.segments.reading(self.trails.me) as files:
            return payload(files, held.extent, held.trail, at, end)

    def pack_behind(self, conn: sqlite3.Connection, stream: int, packed: int, base: int) -> int:
        """Pack the next piece below `base` of one of `behind`, if it still is one. Returns where it ends."""
        if (stream, base) not in self.behind(conn):
            return base
        return self.pack(conn, stream, packed, self.prepare(conn, stream, packed, base))

    def behind(self, conn: sqlite3.Connection) -> list[tuple[int, int]]:
        """Live streams that went on in other segments, and from which offset on, where what is below is still to be
        packed: it would keep the segments it is in."""
        sql = (
            "SELECT extent.stream, max(at) AS base FROM extent JOIN stream ON stream.row = extent.stream "
            "WHERE NOT copied AND sealed_at IS NULL AND at IS NOT NULL GROUP BY extent.stream HAVING count(*) > 1 "
            "AND base > (SELECT ifnull(max(frame.at + length), 0) FROM frame WHERE frame.stream = extent.stream)"
        )
        return conn.execute(sql).fetchall()

    @staticmethod
    def _next(conn: sqlite3.Connection, stream: int, at: int, tail: int) -> int:
        """Where reading can go on after damage at `at`."""
        later = [extent.at for extent in extents.of(conn, stream) if extent.at is not None and extent.at > at]
        if later:
            return min(later)
        sql = "SELECT ifnull(min(at), ?) FROM frame WHERE stream = ? AND at > ?"
        return int(conn.execute(sql, (tail, stream, at)).fetchone()[0])
