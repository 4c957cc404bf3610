"""What is wrong with a catalog: one sentence each. Changes nothing."""

from __future__ import annotations

import sqlite3

from ..errors import StoreError, StreamNotFound
from ..model import StreamId
from . import _rows
from ._payload import Payload

_COUNTS = [
    ("SELECT count(*) FROM label WHERE stream NOT IN (SELECT row FROM stream)", "{} labels are of no stream"),
    (
        "SELECT count(*) FROM binding WHERE stream NOT IN (SELECT id FROM stream)",
        "{} keys mean a stream that is not there",
    ),
    (
        "SELECT count(*) FROM chore JOIN stream ON stream.row = chore.stream WHERE sealed_at IS NULL",
        "{} streams that are live are to be packed",
    ),
    (
        "WITH is_ AS (SELECT principal, sum(tail) AS bytes FROM stream WHERE sealed_at IS NOT NULL AND gone IS NULL"
        " GROUP BY principal HAVING bytes > 0), says AS (SELECT * FROM kept WHERE payload_bytes <> 0)"
        " SELECT count(DISTINCT principal) FROM (SELECT * FROM (SELECT * FROM is_ EXCEPT SELECT * FROM says)"
        " UNION ALL SELECT * FROM (SELECT * FROM says EXCEPT SELECT * FROM is_))",
        "what is kept for {} principals is counted wrongly",
    ),
]
"""What counts damage, and the sentence where there is some."""


def one(conn: sqlite3.Connection, payload: Payload, stream: StreamId) -> list[str]:
    """Of a stream: its record, and every byte of its payload. Raises StreamNotFound."""
    try:
        row, info = _rows.get(conn, stream)
    except StreamNotFound:
        raise
    except StoreError as error:
        return [error.message]
    return [] if info.gone else payload.verify(conn, row, info.tail)


def whole(conn: sqlite3.Connection, payload: Payload) -> list[str]:
    """Of the file, of every record, and of what holds them together; not of payload."""
    found = [f"SQLite says: {line}" for (line,) in conn.execute("PRAGMA integrity_check") if line != "ok"]
    found += _rows.damage(conn)
    found += counted(conn, _COUNTS)
    return found + payload.audit(conn)


def counted(conn: sqlite3.Connection, counts: list[tuple[str, str]]) -> list[str]:
    """The sentences of which the count is not none."""
    return [sentence.format(count) for sql, sentence in counts if (count := conn.execute(sql).fetchone()[0])]
