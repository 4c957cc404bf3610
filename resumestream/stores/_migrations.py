"""Older formats of the catalog, and the way forward from each: one step a version, all of them in one transaction."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sqlite3
import zlib
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("resumestream.store")

_V2 = """
DROP INDEX stream_unsealed;
DROP INDEX stream_to_cancel;
ALTER TABLE stream ADD COLUMN due_at REAL;
ALTER TABLE stream ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
CREATE INDEX stream_unsealed ON stream (worker) WHERE sealed_at IS NULL;
CREATE INDEX stream_due ON stream (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX stream_oldest ON stream (sealed_at) WHERE sealed_at IS NOT NULL AND gone IS NULL;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('kind', 'sqlite');
CREATE TABLE kept (principal TEXT PRIMARY KEY, payload_bytes INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO kept SELECT principal, sum(tail) FROM stream
WHERE sealed_at IS NOT NULL AND gone IS NULL GROUP BY principal;
CREATE TRIGGER kept_more AFTER UPDATE OF sealed_at ON stream
WHEN OLD.sealed_at IS NULL AND NEW.sealed_at IS NOT NULL AND NEW.gone IS NULL BEGIN
    INSERT INTO kept VALUES (NEW.principal, NEW.tail)
    ON CONFLICT DO UPDATE SET payload_bytes = payload_bytes + excluded.payload_bytes; END;
CREATE TRIGGER kept_less AFTER UPDATE OF gone ON stream
WHEN OLD.gone IS NULL AND NEW.gone IS NOT NULL AND OLD.sealed_at IS NOT NULL BEGIN
    UPDATE kept SET payload_bytes = payload_bytes - OLD.tail WHERE principal = OLD.principal;
    DELETE FROM kept WHERE principal = OLD.principal AND payload_bytes <= 0; END;
CREATE TABLE ledger (
    stream TEXT NOT NULL,
    number INTEGER NOT NULL,
    principal TEXT NOT NULL,
    ended_at REAL NOT NULL,
    labels TEXT NOT NULL,
    attempt TEXT NOT NULL,
    PRIMARY KEY (stream, number)
);
CREATE INDEX ledger_ended ON ledger (ended_at);
ALTER TABLE slice ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
CREATE TABLE frame (
    row INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    at INTEGER NOT NULL,
    length INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX frame_of_stream ON frame (stream, at);
DROP TABLE IF EXISTS probe;
CREATE TABLE probe (id INTEGER PRIMARY KEY, filler BLOB NOT NULL);
DELETE FROM chore WHERE stream IN (SELECT row FROM stream WHERE gone IS NULL);
INSERT INTO chore SELECT row, 0 FROM stream WHERE sealed_at IS NOT NULL AND gone IS NULL;
"""


def _to_2(conn: sqlite3.Connection) -> None:
    """Attempts say how they ended, the ledger has them, payload has checksums; what is sealed will be compressed."""
    execute_all(conn, _V2)
    for owner, at, row, pos, length in conn.execute("SELECT stream, at, row, pos, length FROM slice").fetchall():
        with contextlib.suppress(sqlite3.OperationalError, ValueError):  # damaged: no sum of it is right, then
            with conn.blobopen("chunk", "data", row, readonly=True) as blob:
                blob.seek(pos)
                sum_ = zlib.crc32(blob.read(length))
            conn.execute("UPDATE slice SET sum = ? WHERE stream = ? AND at = ?", (sum_, owner, at))
    columns = "row, id, principal, tail, sealed_at, gone_at, record"
    for (row,) in conn.execute("SELECT row FROM stream").fetchall():
        sql = f"SELECT {columns} FROM stream WHERE row = ?"
        stream: dict[str, Any] = dict(zip(columns.split(", "), conn.execute(sql, (row,)).fetchone(), strict=True))
        try:
            _record_to_2(conn, stream)
        except (ValueError, KeyError, TypeError):
            logger.exception("the record of stream %s is damaged and is left as it is", stream["id"])


def _record_to_2(conn: sqlite3.Connection, stream: dict[str, Any]) -> None:
    record = json.loads(stream["record"])
    new, seal, sealed_at = record["new"], record["seal"], stream["sealed_at"]
    attempts = [attempt | {"ended_at": None, "bytes": 0, "outcome": None} for attempt in record["attempts"]]
    due_at = None
    if seal:
        due_at = sealed_at + new["retain_s"] if stream["gone_at"] is None else stream["gone_at"] + new["tombstone_s"]
        due_at = due_at if due_at < math.inf else None
        if attempts:
            attempts[-1] |= {"ended_at": sealed_at, "bytes": stream["tail"], "outcome": seal["outcome"]}
        for number, attempt in enumerate(attempts, 1):
            values = (stream["id"], number, stream["principal"], sealed_at, json.dumps(new["labels"]))
            conn.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)", (*values, json.dumps(attempt)))
    text = json.dumps(record | {"attempts": attempts}, separators=(",", ":"))
    conn.execute("UPDATE stream SET record = ?, due_at = ? WHERE row = ?", (text, due_at, stream["row"]))


def execute_all(conn: sqlite3.Connection, script: str) -> None:
    """Unlike `executescript` inside the caller's transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            conn.execute(statement)
            statement = ""


_V3 = """
DROP INDEX ledger_ended;
CREATE INDEX ledger_ended ON ledger (ended_at, stream, number);
CREATE INDEX ledger_of ON ledger (principal, ended_at, stream, number);
CREATE TABLE tally (
    stream TEXT PRIMARY KEY,
    attaches INTEGER NOT NULL,
    replays INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER tally_pruned AFTER DELETE ON ledger BEGIN
    DELETE FROM tally WHERE stream = OLD.stream
    AND NOT EXISTS (SELECT 1 FROM ledger WHERE stream = OLD.stream)
    AND NOT EXISTS (SELECT 1 FROM stream WHERE id = OLD.stream); END;
CREATE TRIGGER tally_forgotten AFTER DELETE ON stream BEGIN
    DELETE FROM tally WHERE stream = OLD.id AND NOT EXISTS (SELECT 1 FROM ledger WHERE stream = OLD.id); END;
"""


def _to_3(conn: sqlite3.Connection) -> None:
    """The ledger has tallies. Records have segments and usage; those that say nothing of them have none."""
    execute_all(conn, _V3)


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _to_2, 2: _to_3}
"""Version -> what makes the next one of it. Sums of records are made anew after the last."""
