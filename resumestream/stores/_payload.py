"""Payload in SQLite: slices of chunks. Every function runs inside its caller's transaction.

While streams are live, one chunk holds what one commit appended to all of them: a row a commit is what makes many slow
streams cheap. Once sealed, a stream is packed into chunks of its own, so that a replay reads long runs.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict

from ..errors import StoreError

PACK_BYTES = 256 * 1024
"""Of a packed chunk: one block of a replay, and the most that one packing step copies. Measured through `read` of the
store, thread hop included, two cores: 1.9 to 2.2 GB/s in blocks of this size, 0.8 GB/s in blocks of 64 KiB."""
ERASE_BYTES = 4 * PACK_BYTES
"""About the most that one erasing step overwrites."""
MAX_CHUNK_BYTES = 4 * PACK_BYTES
"""After this much one commit begins a further chunk: no batch, however large, meets SQLite's limit for one value."""
STEP_SLICES = 1024
"""The most slices that one step drops: about 10 ms in which no append is written."""

_Slice = tuple[int, int, int, int]
"""at, row, pos, length"""


class ChunkWriter:
    """Collects what one transaction appends, and writes it as one row at the end."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._row = 0
        self._parts: list[bytes] = []
        self._length = 0

    def add(self, stream: int, at: int, data: bytes) -> None:
        if not self._parts:
            self._row = _next_row(self._conn)
        _insert_slice(self._conn, stream, (at, self._row, self._length, len(data)))
        self._parts.append(data)
        self._length += len(data)
        if self._length >= MAX_CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._parts:
            self._conn.execute("INSERT INTO chunk VALUES (?, ?)", (self._row, b"".join(self._parts)))
            self._parts.clear()
            self._length = 0


def read(conn: sqlite3.Connection, stream: int, at: int, end: int) -> bytes:
    """Payload from `at` to `end`, all of it. Raises StoreError where it is not there: never other bytes."""
    sql = (
        "SELECT at, row, pos, length FROM slice WHERE stream = ?1 AND at < ?3 AND at >= "
        "(SELECT max(at) FROM slice WHERE stream = ?1 AND at <= ?2) ORDER BY at"
    )
    parts: list[bytes] = []
    position = at
    for start, row, pos, length in conn.execute(sql, (stream, at, end)):
        skip = position - start
        if not 0 <= skip < length:
            break
        size = min(length - skip, end - position)
        with conn.blobopen("chunk", "data", row, readonly=True) as blob:
            blob.seek(pos + skip)
            parts.append(blob.read(size))
        position += size
    if position != end or sum(map(len, parts)) != end - at:
        raise StoreError(f"the store is damaged: payload is missing between offsets {at} and {end} of a stream")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def pack(conn: sqlite3.Connection, stream: int, packed: int, tail: int) -> int:
    """Move the next piece of a sealed stream, from `packed` on, into a chunk of its own. Returns where it ends."""
    end = min(packed + PACK_BYTES, tail)
    slices = _slices(conn, stream, packed, end)
    at, row, pos, length = slices[-1]
    end = min(end, at + length)
    data = read(conn, stream, packed, end)
    if end < at + length:  # the rest of the last slice stays where it is
        cut = end - at
        _insert_slice(conn, stream, (end, row, pos + cut, length - cut))
        slices[-1] = (at, row, pos, cut)
    _drop(conn, stream, slices)
    own = _next_row(conn)
    conn.execute("INSERT INTO chunk VALUES (?, ?)", (own, data))
    _insert_slice(conn, stream, (packed, own, 0, len(data)))
    return end


def erase(conn: sqlite3.Connection, stream: int) -> bool:
    """Drop the next piece of a stream that nobody may read any more. Returns whether there is more."""
    slices = _slices(conn, stream, 0, None)
    size = 0
    for count, (_, _, _, length) in enumerate(slices, 1):
        size += length
        if size >= ERASE_BYTES:
            del slices[count:]
            break
    _drop(conn, stream, slices)
    return bool(slices)


def _drop(conn: sqlite3.Connection, stream: int, slices: list[_Slice]) -> None:
    """Nothing of the slices stays: a chunk that nobody else has a slice of is deleted (`secure_delete` overwrites it),
    in others their bytes become zeros."""
    by_row: defaultdict[int, list[_Slice]] = defaultdict(list)
    for piece in slices:
        by_row[piece[1]].append(piece)
    conn.executemany("DELETE FROM slice WHERE stream = ? AND at = ?", [(stream, at) for at, _, _, _ in slices])
    for row, pieces in by_row.items():
        if conn.execute("SELECT 1 FROM slice WHERE row = ? LIMIT 1", (row,)).fetchone() is None:
            conn.execute("DELETE FROM chunk WHERE row = ?", (row,))
            continue
        with conn.blobopen("chunk", "data", row) as blob:
            for _, _, pos, length in pieces:
                blob.seek(pos)
                blob.write(bytes(length))


def _slices(conn: sqlite3.Connection, stream: int, at: int, end: int | None) -> list[_Slice]:
    """The first slices from `at` on, `STEP_SLICES` at most."""
    sql = "SELECT at, row, pos, length FROM slice WHERE stream = ? AND at >= ? AND at < ? ORDER BY at LIMIT ?"
    return conn.execute(sql, (stream, at, end if end is not None else 2**63 - 1, STEP_SLICES)).fetchall()


def _insert_slice(conn: sqlite3.Connection, stream: int, piece: _Slice) -> None:
    conn.execute("INSERT INTO slice VALUES (?, ?, ?, ?, ?)", (stream, *piece))


def _next_row(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT ifnull(max(row), 0) + 1 FROM chunk").fetchone()[0])
