"""Payload in SQLite: slices of chunks while streams are live, frames of their own once they are sealed.

One chunk holds what one commit appended to all streams: a row a commit is what makes many slow streams cheap. A frame
is a long run of one stream, compressed. Where a frame is, it is what counts; the slices below it are on their way out.
Every function runs inside its caller's transaction, and every byte that is read has passed its check.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterator

from ..errors import StoreError
from ._audit import counted
from ._frame import FRAME_BYTES, Frame, checked, damaged, inflated
from ._schema import primary_code

SLICE_BYTES = 64 * 1024
"""The most of one slice: reading any part of it checks all of it."""
ERASE_BYTES = 1024 * 1024
"""About the most that one erasing step overwrites."""
MAX_CHUNK_BYTES = 1024 * 1024
"""After this much one commit begins a further chunk: no batch, however large, meets SQLite's limit for one value."""
STEP_SLICES = 1024
"""The most slices that one step drops: about 10 ms in which no append is written."""

_Slice = tuple[int, int, int, int, int]
"""at, row, pos, length, sum"""
_END = 2**63 - 1


class ChunkWriter:
    """Collects what one transaction appends, and writes it as one row at the end."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._row = 0
        self._parts: list[bytes] = []
        self._length = 0

    def add(self, stream: int, at: int, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            self._add(stream, at + start, data[start : start + SLICE_BYTES])

    def flush(self) -> None:
        if self._parts:
            self._conn.execute("INSERT INTO chunk VALUES (?, ?)", (self._row, b"".join(self._parts)))
            self._parts.clear()
            self._length = 0

    def _add(self, stream: int, at: int, data: bytes) -> None:
        if not self._parts:
            (self._row,) = self._conn.execute("SELECT ifnull(max(row), 0) + 1 FROM chunk").fetchone()
        values = (stream, at, self._row, self._length, len(data), zlib.crc32(data))
        self._conn.execute("INSERT INTO slice VALUES (?, ?, ?, ?, ?, ?)", values)
        self._parts.append(data)
        self._length += len(data)
        if self._length >= MAX_CHUNK_BYTES:
            self.flush()


class Slices:
    """Payload, and how to read it."""

    kind = "sqlite"
    tables = """
CREATE TABLE chunk (row INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE slice (
    stream INTEGER NOT NULL,
    at INTEGER NOT NULL,
    row INTEGER NOT NULL,
    pos INTEGER NOT NULL,
    length INTEGER NOT NULL,
    sum INTEGER NOT NULL,  -- CRC-32 of its bytes
    PRIMARY KEY (stream, at)
) WITHOUT ROWID;
CREATE INDEX slice_of_chunk ON slice (row);

CREATE TABLE frame (
    row INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    at INTEGER NOT NULL,
    length INTEGER NOT NULL,  -- of the payload; data as long as that is the payload itself, shorter data a zstd frame
    sum INTEGER NOT NULL,  -- CRC-32 of data
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX frame_of_stream ON frame (stream, at);
"""

    def read(self, conn: sqlite3.Connection, stream: int, at: int, end: int) -> bytes:
        """Payload from `at` on, up to `end` or the end of a frame. Raises StoreError where it is not there, or not as
        it was written: never other bytes."""
        if at >= end:
            return b""
        sql = "SELECT at, length, sum, data FROM frame WHERE stream = ? AND at <= ? ORDER BY at DESC LIMIT 1"
        found = conn.execute(sql, (stream, at)).fetchone()
        if found and at < found[0] + found[1]:
            start, length, sum_, data = found
            data = checked(start, length, len(data), sum_, data)
            return inflated(start, length, data)[at - start : end - start]
        return _sliced(conn, stream, at, end)

    def prepare(self, conn: sqlite3.Connection, stream: int, packed: int, tail: int) -> Frame | None:
        if _framed(conn, stream, packed):
            return None
        raw = _sliced(conn, stream, packed, min(packed + FRAME_BYTES, tail))
        return Frame.of(raw)

    def pack(self, conn: sqlite3.Connection, stream: int, packed: int, frame: Frame | None) -> int:
        """Also drops the slices below its end, some at a time: `packed` until that is done."""
        if frame:
            values = (stream, packed, frame.length, frame.sum, frame.data)
            conn.execute("INSERT INTO frame (stream, at, length, sum, data) VALUES (?, ?, ?, ?, ?)", values)
        end = packed + _framed(conn, stream, packed)
        slices = [piece for piece in _slices(conn, stream, end) if piece[0] + piece[3] <= end]
        _drop(conn, stream, slices)
        return packed if len(slices) == STEP_SLICES else end

    def erase(self, conn: sqlite3.Connection, stream: int) -> bool:
        """Drop the next piece of a stream that nobody may read any more. Returns whether there is more."""
        sql = "SELECT row FROM frame WHERE stream = ? ORDER BY at LIMIT ?"
        if frames := conn.execute(sql, (stream, ERASE_BYTES // FRAME_BYTES)).fetchall():
            conn.executemany("DELETE FROM frame WHERE row = ?", frames)
            return True
        slices = _slices(conn, stream, _END)
        size = 0
        for count, piece in enumerate(slices, 1):
            size += piece[3]
            if size >= ERASE_BYTES:
                del slices[count:]
                break
        _drop(conn, stream, slices)
        return bool(slices)

    def free(self, conn: sqlite3.Connection) -> bool:
        return False  # the file is the catalog's, which gives back its pages

    def verify(self, conn: sqlite3.Connection, stream: int, tail: int) -> list[str]:
        """Read all payload of a stream below `tail`. One sentence for each thing that is wrong."""
        wrong: list[str] = []
        at = 0
        while at < tail:
            try:
                at += len(self.read(conn, stream, at, tail))
            except StoreError as error:
                wrong.append(error.message)
                at = _next_piece(conn, stream, at, tail)
        return wrong

    def audit(self, conn: sqlite3.Connection) -> list[str]:
        """Look at its own tables as a whole. One sentence for each thing that is wrong."""
        return counted(conn, _COUNTS)


_LOST = "stream NOT IN (SELECT row FROM stream) AND stream NOT IN (SELECT stream FROM chore)"
_COUNTS = [
    (f"SELECT count(*) FROM slice WHERE {_LOST}", "{} slices of payload belong to no stream"),
    (f"SELECT count(*) FROM frame WHERE {_LOST}", "{} frames of payload belong to no stream"),
    ("SELECT count(*) FROM slice WHERE row NOT IN (SELECT row FROM chunk)", "{} slices of payload have no chunk"),
    ("SELECT count(*) FROM chunk WHERE row NOT IN (SELECT row FROM slice)", "{} chunks of payload have no slice"),
    (
        "SELECT count(*) FROM (SELECT at, lag(at + length) OVER (PARTITION BY stream ORDER BY at) AS before FROM frame)"
        " WHERE at <> ifnull(before, 0)",
        "{} frames of payload overlap, or leave bytes out",
    ),
    (
        "SELECT count(*) FROM (SELECT max(frame.at + frame.length) AS end, tail FROM frame JOIN stream"
        " ON stream.row = frame.stream GROUP BY frame.stream) WHERE end > tail",
        "{} streams have frames beyond their end",
    ),
]
"""What counts damage, and the sentence where there is some."""


def _framed(conn: sqlite3.Connection, stream: int, at: int) -> int:
    """Length of the frame that begins there; 0 where there is none."""
    found = conn.execute("SELECT length FROM frame WHERE stream = ? AND at = ?", (stream, at)).fetchone()
    return int(found[0]) if found else 0


def _sliced(conn: sqlite3.Connection, stream: int, at: int, end: int) -> bytes:
    """Payload from `at` to `end`, all of it, out of slices alone."""
    parts: list[bytes] = []
    position = at
    for start, row, pos, length, sum_ in _covering(conn, stream, at, end):
        if start > position or start + length <= position:
            break
        data = _bytes(conn, row, pos, length)
        if zlib.crc32(data) != sum_:
            raise damaged(start, start + length, "they are not as they were written")
        parts.append(data[position - start : end - start])
        position += len(parts[-1])
    if position != end:
        raise damaged(position, end, "they are missing")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _bytes(conn: sqlite3.Connection, row: int, pos: int, length: int) -> bytes:
    """None at all where some are not there."""
    try:
        with conn.blobopen("chunk", "data", row, readonly=True) as blob:
            blob.seek(pos)
            data = blob.read(length)
    except (ValueError, OverflowError):
        return b""  # beyond its end
    except sqlite3.OperationalError as error:
        if primary_code(error) != sqlite3.SQLITE_ERROR:
            raise
        return b""  # no such row
    return data if len(data) == length else b""


def _covering(conn: sqlite3.Connection, stream: int, at: int, end: int) -> Iterator[_Slice]:
    sql = (
        "SELECT at, row, pos, length, sum FROM slice WHERE stream = ?1 AND at < ?3 AND at >= "
        "(SELECT max(at) FROM slice WHERE stream = ?1 AND at <= ?2) ORDER BY at"
    )
    return conn.execute(sql, (stream, at, end))


def _slices(conn: sqlite3.Connection, stream: int, end: int) -> list[_Slice]:
    """The first slices that begin below `end`, `STEP_SLICES` at most."""
    sql = "SELECT at, row, pos, length, sum FROM slice WHERE stream = ? AND at < ? ORDER BY at LIMIT ?"
    return conn.execute(sql, (stream, end, STEP_SLICES)).fetchall()


def _drop(conn: sqlite3.Connection, stream: int, slices: list[_Slice]) -> None:
    """Nothing of the slices stays: a chunk that nobody else has a slice of is deleted (`secure_delete` overwrites it),
    in others their bytes become zeros."""
    by_row: defaultdict[int, list[_Slice]] = defaultdict(list)
    for piece in slices:
        by_row[piece[1]].append(piece)
    conn.executemany("DELETE FROM slice WHERE stream = ? AND at = ?", [(stream, piece[0]) for piece in slices])
    for row, pieces in by_row.items():
        if conn.execute("SELECT 1 FROM slice WHERE row = ? LIMIT 1", (row,)).fetchone() is None:
            conn.execute("DELETE FROM chunk WHERE row = ?", (row,))
            continue
        with conn.blobopen("chunk", "data", row) as blob:
            for _, _, pos, length, _ in pieces:
                blob.seek(pos)
                blob.write(bytes(length))


def _next_piece(conn: sqlite3.Connection, stream: int, at: int, tail: int) -> int:
    """Where reading can go on after damage at `at`."""
    sql = (
        "SELECT min(at) FROM (SELECT at FROM frame WHERE stream = ?1 AND at > ?2 "
        "UNION ALL SELECT at FROM slice WHERE stream = ?1 AND at > ?2)"
    )
    (found,) = conn.execute(sql, (stream, at)).fetchone()
    return tail if found is None else int(found)
