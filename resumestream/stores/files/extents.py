"""Extents in the catalog: which worker's segments hold a stream's payload, from which offset on.

The highest row of a stream is its present owner's. Until that has an offset its owner is still finding out how far the
one before it came, and nothing of the stream is new.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

TABLES = """
CREATE TABLE extent (
    row INTEGER PRIMARY KEY AUTOINCREMENT,  -- names it in records
    stream INTEGER NOT NULL,
    worker TEXT NOT NULL,
    first INTEGER NOT NULL,  -- segment
    last INTEGER,  -- segment; NULL while there may be more
    at INTEGER,  -- NULL until it is known
    events INTEGER NOT NULL,  -- of the stream below that
    opened_at REAL NOT NULL,
    copied INTEGER NOT NULL DEFAULT 0  -- into packs, durably: only to be erased from here on
);
CREATE INDEX extent_of_stream ON extent (stream);
CREATE INDEX extent_of_worker ON extent (worker, copied);
"""


class Extent(NamedTuple):
    row: int
    worker: str
    first: int
    at: int | None
    events: int


def of(conn: sqlite3.Connection, stream: int) -> list[Extent]:
    """In the order in which they were opened."""
    sql = "SELECT row, worker, first, at, events FROM extent WHERE stream = ? AND NOT copied ORDER BY row"
    return [Extent(*row) for row in conn.execute(sql, (stream,))]


def top(conn: sqlite3.Connection, stream: int) -> int:
    """Whose holder may append; 0: nobody ever did."""
    (row,) = conn.execute("SELECT ifnull(max(row), 0) FROM extent WHERE stream = ?", (stream,)).fetchone()
    return int(row)


def begin(conn: sqlite3.Connection, stream: int, worker: str, segment: int, at: int | None, now: float) -> int:
    """Returns its row."""
    sql = "INSERT INTO extent (stream, worker, first, at, events, opened_at) VALUES (?, ?, ?, ?, 0, ?)"
    return int(conn.execute(sql, (stream, worker, segment, at, now)).lastrowid or 0)


def publish(conn: sqlite3.Connection, stream: int, extent: int, at: int, events: int, segment: int) -> None:
    """It begins at `at`. Those that never came that far are void; the one before has nothing behind `segment`."""
    conn.execute("DELETE FROM extent WHERE stream = ? AND at IS NULL AND row < ?", (stream, extent))
    sql = "UPDATE extent SET last = ? WHERE stream = ? AND row < ? AND last IS NULL"
    conn.execute(sql, (segment, stream, extent))
    conn.execute("UPDATE extent SET at = ?, events = ? WHERE row = ?", (at, events, extent))
    conn.execute("UPDATE stream SET tail = ?, events = ? WHERE row = ? AND sealed_at IS NULL", (at, events, stream))


def close(conn: sqlite3.Connection, extent: int, segment: int) -> None:
    """Nothing more is written to it."""
    conn.execute("UPDATE extent SET last = ? WHERE row = ?", (segment, extent))


def covering(extents: list[Extent], at: int, tail: int) -> tuple[Extent, int] | None:
    """The published extent that holds the byte at `at`, and where it ends."""
    end = tail
    for extent in reversed(extents):
        if extent.at is None:
            continue
        if extent.at <= at:
            return (extent, end) if at < end else None
        end = min(end, extent.at)
    return None
