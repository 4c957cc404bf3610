"""The SQLite file: its tables, how it is opened, what is wrong with it when it cannot be."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path

from ..errors import StoreBusy, StoreError, StoreFull, StoreUnusable
from .lock import make_private

APPLICATION_ID = 0x7273_7472  # "rstr"
VERSION = 1
PAGE_BYTES = 4096
"""Measured on packed rows of 256 KiB: 4096 to 32768 all read at 5 GB/s and more through incremental blob I/O, so the
size that makes a live commit's WAL frames smallest wins. No mmap: it would take a quarter off a replay's CPU, and turn
one bad sector, or a file cut short by somebody else, into a dead process with every live stream in it."""

TABLES = """
CREATE TABLE secret (id INTEGER PRIMARY KEY, value BLOB NOT NULL);

CREATE TABLE stream (
    row INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: erasing goes on after the stream is forgotten
    id TEXT NOT NULL UNIQUE,
    principal TEXT NOT NULL,
    upstream TEXT NOT NULL,
    key TEXT,
    scope TEXT NOT NULL,
    worker TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    tail INTEGER NOT NULL,
    events INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    sealed_at REAL,
    gone TEXT,
    gone_at REAL,
    record TEXT NOT NULL  -- JSON: whatever is not searched for
);
CREATE INDEX stream_of_principal ON stream (principal);
CREATE INDEX stream_of_key ON stream (key) WHERE key IS NOT NULL;
CREATE INDEX stream_of_scope ON stream (scope) WHERE scope <> '';
CREATE INDEX stream_unsealed ON stream (row) WHERE sealed_at IS NULL;
CREATE INDEX stream_to_cancel ON stream (row) WHERE cancel_requested AND sealed_at IS NULL;

CREATE TABLE label (
    label TEXT NOT NULL,
    stream INTEGER NOT NULL,
    PRIMARY KEY (label, stream)
) WITHOUT ROWID;

CREATE TABLE binding (
    key TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    earlier TEXT NOT NULL
) WITHOUT ROWID;

-- Payload. One chunk holds what one commit appended to all streams; a slice is one stream's part of it.
CREATE TABLE chunk (row INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE slice (
    stream INTEGER NOT NULL,
    at INTEGER NOT NULL,
    row INTEGER NOT NULL,
    pos INTEGER NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (stream, at)
) WITHOUT ROWID;
CREATE INDEX slice_of_chunk ON slice (row);

-- Idle-time work that is still to do: pack a sealed stream from `packed` on, erase one that is gone.
CREATE TABLE chore (stream INTEGER PRIMARY KEY, packed INTEGER NOT NULL);

-- One row at most, written to see that writing works.
CREATE TABLE probe (id INTEGER PRIMARY KEY);
"""

_KEYS = {
    "secret": "id",
    "stream": "row",
    "label": "label, stream",
    "binding": "key",
    "chunk": "row",
    "slice": "stream, at",
    "chore": "stream",
    "probe": "id",
}


def prepare(path: Path, *, create: bool) -> None:
    """The file is there and may be written to; with `create` it and its directory are made, for this user alone."""
    if path.is_dir():
        raise StoreUnusable(f"{path} is a directory; name a file in it")
    try:
        if create:
            _make_file(path)
        elif not path.exists() or path.stat().st_size == 0:
            raise _no_store(path)
    except OSError as error:
        raise StoreUnusable(f"the store at {path} cannot be made or looked at: {error.strerror}") from error
    effective = os.access in os.supports_effective_ids
    if not all(os.access(needed, os.R_OK | os.W_OK, effective_ids=effective) for needed in (path, path.parent)):
        raise StoreUnusable(f"{path} or its directory is read-only for this user; SQLite writes to both")


def open_writer(path: Path, *, busy_s: float, create: bool) -> sqlite3.Connection:
    """The connection that writes; the tables are there. Raises StoreUnusable, StoreBusy, StoreError."""
    try:
        conn = connect(path, "rw", busy_s=busy_s)
        try:
            if _is_blank(conn):
                if not create:
                    raise _no_store(path)
                _create_tables(conn)
            _check(conn, path)
            conn.execute("PRAGMA secure_delete = ON")
        except BaseException:
            conn.close()
            raise
    except sqlite3.Error as error:
        raise translate(error, path) from error
    return conn


def connect(path: Path, mode: str, *, busy_s: float) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time, without Python's own transactions."""
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False
    )


def primary_code(error: Exception) -> int:
    """SQLite's own code of a failure, without its extension; 0 where it is none of SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def translate(error: sqlite3.Error, path: str | Path) -> StoreError:
    """The error that says what to do, for one that says what happened."""
    match primary_code(error):
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"no space is left for the store at {path}; free some. What was acknowledged is kept")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusy(f"another process holds the write lock of the store at {path}", retry_after_s=1)
        case sqlite3.SQLITE_NOTADB:
            return StoreUnusable(f"{path} is not a resumestream store: not a SQLite database; name another file")
        case sqlite3.SQLITE_CORRUPT:
            return StoreUnusable(
                f"the store at {path} is damaged ({error}); move it away, and take what can be had from it with "
                "`sqlite3 FILE .recover`"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreUnusable(f"the store at {path} cannot be opened for writing ({error}); check its permissions")
    return StoreError(f"the store at {path} failed ({error})")


def _no_store(path: Path) -> StoreUnusable:
    return StoreUnusable(f"there is no store at {path}; a server makes one when it starts")


def _make_file(path: Path) -> None:
    """Private whatever the umask: SQLite gives -wal and -shm the mode of the database."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True)
        path.parent.chmod(0o700)
    with contextlib.suppress(FileExistsError):
        make_private(path)


def _is_blank(conn: sqlite3.Connection) -> bool:
    """No tables: new, or made by a process that died before it had any."""
    return (_pragma(conn, "application_id"), _count(conn, "sqlite_master")) == (0, 0)


def _create_tables(conn: sqlite3.Connection) -> None:
    conn.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("BEGIN IMMEDIATE")
    for statement in TABLES.split(";\n"):
        conn.execute(statement)
    conn.execute("INSERT INTO secret (value) VALUES (?)", (secrets.token_bytes(32),))
    conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    conn.execute(f"PRAGMA user_version = {VERSION}")
    conn.execute("COMMIT")


def _check(conn: sqlite3.Connection, path: Path) -> None:
    """Quick: the header, the schema, and the root page of every table. Pages below are checked as they are read."""
    if _pragma(conn, "application_id") != APPLICATION_ID:
        raise StoreUnusable(f"{path} is the SQLite database of another application; name another file")
    if (version := _pragma(conn, "user_version")) > VERSION:
        raise StoreUnusable(
            f"the store at {path} was written by a newer resumestream (format {version}; this one reads {VERSION}); "
            "upgrade, or use another store"
        )
    for table, key in _KEYS.items():  # by key, or SQLite would look at an index instead
        conn.execute(f"SELECT 1 FROM {table} ORDER BY {key} LIMIT 1").fetchone()


def _pragma(conn: sqlite3.Connection, name: str) -> int:
    return int(conn.execute(f"PRAGMA {name}").fetchone()[0])


def _count(conn: sqlite3.Connection, table: str) -> int:
    return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
