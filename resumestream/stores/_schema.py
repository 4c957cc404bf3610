"""The SQLite file: its tables, how it is opened, what is wrong with it when it cannot be."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import StoreBusy, StoreError, StoreFull, StoreUnusable
from ..model import Durability
from ._migrations import MIGRATIONS, execute_all
from ._payload import Payload
from ._rows import sum_all
from .lock import FileLock, make_folder, make_private

APPLICATION_ID = 0x7273_7472  # "rstr"
VERSION = 3
PAGE_BYTES = 4096
"""Measured on packed rows of 256 KiB: 4096 to 32768 all read at 5 GB/s and more through incremental blob I/O, so the
size that makes a live commit's WAL frames smallest wins. No mmap: it would take a quarter off a replay's CPU, and turn
one bad sector, or a file cut short by somebody else, into a dead process with every live stream in it."""
BUSY_POLL_S = 0.0005
READ_CACHE_KIB = 256
"""Of each connection that reads; SQLite's own 2 MiB make no replay faster, since the system has the pages anyway."""

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

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
    due_at REAL,  -- when retention next does something to it
    gone TEXT,
    gone_at REAL,
    record TEXT NOT NULL,  -- JSON: whatever is not searched for
    sum INTEGER NOT NULL DEFAULT 0  -- CRC-32 of all the above once sealed
);
CREATE INDEX stream_of_principal ON stream (principal);
CREATE INDEX stream_of_key ON stream (key) WHERE key IS NOT NULL;
CREATE INDEX stream_of_scope ON stream (scope) WHERE scope <> '';
CREATE INDEX stream_unsealed ON stream (worker) WHERE sealed_at IS NULL;
CREATE INDEX stream_due ON stream (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX stream_oldest ON stream (sealed_at) WHERE sealed_at IS NOT NULL AND gone IS NULL;

-- What sealed payload is kept, per principal: every start asks. Unsealed streams are counted when asked.
CREATE TABLE kept (principal TEXT PRIMARY KEY, payload_bytes INTEGER NOT NULL) WITHOUT ROWID;
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
CREATE INDEX ledger_ended ON ledger (ended_at, stream, number);
CREATE INDEX ledger_of ON ledger (principal, ended_at, stream, number);

-- How often a stream was asked for again; goes with the last that is known of it.
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

-- Idle-time work that is still to do: pack a sealed stream from `packed` on, erase one that is gone.
CREATE TABLE chore (stream INTEGER PRIMARY KEY, packed INTEGER NOT NULL);

-- One row at most, written anew to see that writing works.
CREATE TABLE probe (id INTEGER PRIMARY KEY, filler BLOB NOT NULL);
"""


FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite's module raises: the second where the message itself quotes damaged text."""


def prepare(path: Path, *, create: bool) -> None:
    """The file is there and may be written to; with `create` it and its directory are made, for this user alone."""
    try:
        if path.is_dir():
            raise StoreUnusable(f"{path} is a directory; name a file in it")
        if create:
            _make_file(path)
        elif not path.exists() or path.stat().st_size == 0:
            raise _no_store(path)
    except OSError as error:
        raise StoreUnusable(f"the store at {path} cannot be made or looked at: {error.strerror}") from error
    effective = os.access in os.supports_effective_ids
    if not all(os.access(needed, os.R_OK | os.W_OK, effective_ids=effective) for needed in (path, path.parent)):
        raise StoreUnusable(f"{path} or its directory is read-only for this user; SQLite writes to both")


def open_writer(path: Path, *, busy_s: float, create: bool, payload: Payload) -> sqlite3.Connection:
    """The connection that writes; the tables are there, in this version's format. Several processes may do this at
    once. Raises StoreUnusable, StoreLocked, StoreBusy, StoreError."""
    try:
        conn = connect(path, "rw", busy_s=busy_s)
        try:
            conn.execute("PRAGMA wal_autocheckpoint = 0")  # the writer's, which sees where it fails
            if _is_blank(conn):
                if not create:
                    raise _no_store(path)
                _create_tables(conn, payload)
            _check(conn, path, payload, migrate=create)
            _log_ahead(conn, path, busy_s)
            conn.execute("PRAGMA secure_delete = ON")
            conn.execute("PRAGMA busy_timeout = 0")  # from here on `begin` waits
        except BaseException:
            conn.close()
            raise
    except FAILURES as error:
        raise translate(error, path) from error
    return conn


def connect(path: Path, mode: str, *, busy_s: float) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time, without Python's own transactions."""
    conn = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False
    )
    conn.execute("PRAGMA fullfsync = ON")  # macOS: its fsync leaves the data in the drive's cache
    # One damaged text must not end the listing that it is in; its record's sum tells
    conn.text_factory = lambda raw: raw.decode("utf-8", "replace")
    if mode == "ro":
        try:
            conn.execute(f"PRAGMA cache_size = -{READ_CACHE_KIB}")
        except BaseException:
            conn.close()
            raise
    return conn


def begin(conn: sqlite3.Connection, busy_s: float) -> None:
    """Begin a transaction that writes, once no other process is in one. SQLite's own way to wait sleeps up to 100 ms:
    beside a process that never stops writing, the slowest of 30 000 appends took 630 ms with it, and 20 with this."""
    deadline = time.monotonic() + busy_s
    while True:
        try:
            conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_POLL_S)
        else:
            return


def primary_code(error: Exception) -> int:
    """SQLite's own code of a failure, without its extension; 0 where it is none of SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def stamp(conn: sqlite3.Connection, durability: Durability, busy_s: float) -> None:
    """What the newest server promises of an append."""
    if stamped(conn) != durability:
        begin(conn, busy_s)
        conn.execute("INSERT OR REPLACE INTO meta VALUES ('durability', ?)", (durability,))
        conn.execute("COMMIT")


def stamped(conn: sqlite3.Connection) -> Durability | None:
    found = conn.execute("SELECT value FROM meta WHERE name = 'durability'").fetchone()
    durability: Durability | None = found and found[0]
    return durability


class LostSync(OSError):
    """A sync of a file of ours failed; see lost_a_sync."""


def lost_a_sync(error: Exception) -> bool:
    """Whether the kernel could not write back what SQLite counted as written. It says so once: the next sync would
    succeed over the hole."""
    lost = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)
    return isinstance(error, LostSync) or getattr(error, "sqlite_errorcode", 0) in lost


def translate(error: Exception, path: str | Path) -> StoreError:
    """The error that says what to do, for one of FAILURES, which says what happened."""
    code = sqlite3.SQLITE_CORRUPT if isinstance(error, UnicodeDecodeError) else primary_code(error)
    match code:
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
        make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        make_private(path)


def _is_blank(conn: sqlite3.Connection) -> bool:
    """No tables: new, or made by a process that died before it had any."""
    return (_pragma(conn, "application_id"), _count(conn, "sqlite_master")) == (0, 0)


def _create_tables(conn: sqlite3.Connection, payload: Payload) -> None:
    """Unless another process was first."""
    conn.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
    conn.execute("PRAGMA synchronous = FULL")
    with _exclusive(conn):
        if _is_blank(conn):
            execute_all(conn, TABLES + payload.tables)
            conn.execute("INSERT INTO meta VALUES ('kind', ?)", (payload.kind,))
            conn.execute("INSERT INTO secret (value) VALUES (?)", (secrets.token_bytes(32),))
            conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            conn.execute(f"PRAGMA user_version = {VERSION}")


def _check(conn: sqlite3.Connection, path: Path, payload: Payload, *, migrate: bool) -> None:
    """Quick: the header, the schema, and the root page of every table. Pages below are checked as they are read."""
    if _pragma(conn, "application_id") != APPLICATION_ID:
        raise StoreUnusable(f"{path} is the SQLite database of another application; name another file")
    if (version := _pragma(conn, "user_version")) > VERSION:
        raise StoreUnusable(
            f"the store at {path} was written by a newer resumestream (format {version}; this one reads {VERSION}); "
            "upgrade, or use another store"
        )
    if (kind := _kind(conn, version)) != payload.kind:
        raise StoreUnusable(f"{path} is the catalog of a {kind} store, and was opened as a {payload.kind} store")
    if version < VERSION:
        if not migrate:
            raise StoreUnusable(
                f"the store at {path} was written by an older resumestream (format {version}); serve from it once with "
                "this one, which brings it forward"
            )
        _migrate(conn, path)
    for table in re.findall(r"CREATE TABLE (\w+)", TABLES + payload.tables):
        conn.execute(f"SELECT * FROM {table} LIMIT 1").close()  # all columns, or SQLite would look at an index instead


def _kind(conn: sqlite3.Connection, version: int) -> str:
    if version < 2:  # before there was another
        return "sqlite"
    (kind,) = conn.execute("SELECT value FROM meta WHERE name = 'kind'").fetchone() or ("unknown",)
    return str(kind)


def _migrate(conn: sqlite3.Connection, path: Path) -> None:
    """All the way or not at all."""
    serving = FileLock(path.with_name(path.name + ".lock"))  # what servers of format 1 hold, and only they
    if serving.path.exists():
        serving.acquire()
    try:
        conn.execute("PRAGMA synchronous = FULL")
        with _exclusive(conn):
            if (version := _pragma(conn, "user_version")) < VERSION:
                for step in range(version, VERSION):
                    MIGRATIONS[step](conn)
                sum_all(conn)
                conn.execute(f"PRAGMA user_version = {VERSION}")
    finally:
        serving.release()


def _log_ahead(conn: sqlite3.Connection, path: Path, busy_s: float) -> None:
    """Switch to a write-ahead log, for which nobody else may be at the file: SQLite does not wait for that itself."""
    deadline = time.monotonic() + busy_s
    while True:
        busy: sqlite3.OperationalError | None = None
        try:
            if conn.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
            busy = error
        if time.monotonic() > deadline:
            raise busy or StoreUnusable(f"{path} is on a file system without shared memory; put it on a local disk")
        time.sleep(0.01)


@contextlib.contextmanager
def _exclusive(conn: sqlite3.Connection) -> Iterator[None]:
    """A transaction beside which no other process reads or writes."""
    conn.execute("BEGIN EXCLUSIVE")
    try:
        yield
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


def _pragma(conn: sqlite3.Connection, name: str) -> int:
    return int(conn.execute(f"PRAGMA {name}").fetchone()[0])


def _count(conn: sqlite3.Connection, table: str) -> int:
    return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
