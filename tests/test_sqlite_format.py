"""Stores of older formats are brought forward, whole or not at all."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from resumestream.errors import StoreError, StoreLocked, StoreUnusable
from resumestream.model import Attempt, Gone, Outcome, Query, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.stores import SQLiteStore, _schema
from resumestream.stores._catalog import CatalogStore
from resumestream.stores._migrations import MIGRATIONS
from resumestream.stores._slices import Slices
from resumestream.stores.lock import FileLock

from .sqlite_files import SEAL, offline, rows, server, whole

V1 = """
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

PAYLOADS = {"live": b"data: 1\n\n" * 3, "sealed": b"data: 2\n\n" * 40_000, "half": b"data: 3\n\n" * 60_000}


def record(**fields: object) -> str:
    new = {
        "created_at": 100.0,
        "retain_s": 1e9,
        "tombstone_s": 2e9,
        "fingerprint": "f",
        "labels": ["l"],
        "on_disconnect": "continue",
        "dialect": "unknown",
        "previous": None,
    }
    head = {"status": 200, "headers": [["content-type", "text/event-stream"]]}
    attempts = [{"upstream": "u", "started_at": 101.0, "status": 200, "request_id": "r"}]
    seal = {"outcome": "completed", "detail": "end", "message": "The provider finished.", "released": False}
    whole = {"new": new, "head": head, "attempts": attempts, "seal": {**seal, "retry_at": None, "sealed_at": 200.0}}
    return json.dumps(whole | fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of format 1, with a stream in every state."""
    path = tmp_path / "streams.db"
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
    conn.execute("PRAGMA journal_mode = WAL")
    conn.executescript(V1)
    conn.execute("INSERT INTO secret (value) VALUES (?)", (b"s" * 32,))
    unsealed = record(seal=None)
    streams = [
        (1, "pending", "p", "k", 0, None, None, None, record(seal=None, head=None, attempts=[])),
        (2, "live", "p", None, len(PAYLOADS["live"]), None, None, None, unsealed),
        (3, "sealed", "p", "k2", len(PAYLOADS["sealed"]), 200.0, None, None, record()),
        (4, "half", "q", None, len(PAYLOADS["half"]), 200.0, None, None, record()),
        (5, "expired", "q", None, 9, 200.0, "expired", 300.0, record()),
    ]
    for row, id_, principal, key, tail, sealed_at, gone, gone_at, text in streams:
        values = (row, id_, principal, "u", key, "", "w", 1, tail, tail // 9, 0, sealed_at, gone, gone_at, text)
        conn.execute(f"INSERT INTO stream VALUES ({', '.join('?' * 15)})", values)
        conn.execute("INSERT INTO label VALUES ('l', ?)", (row,))
    conn.execute("INSERT INTO binding VALUES ('k', 'pending', 'f', '[]'), ('k2', 'sealed', 'f', '[\"old\"]')")
    chunk = 0
    for stream, name in ((2, "live"), (3, "sealed"), (4, "half")):
        payload = PAYLOADS[name]
        for at in range(0, len(payload), 100_000):
            data, chunk = payload[at : at + 100_000], chunk + 1
            conn.execute("INSERT INTO chunk VALUES (?, ?)", (chunk, data))
            conn.execute("INSERT INTO slice VALUES (?, ?, ?, 0, ?)", (stream, at, chunk, len(data)))
    conn.execute("INSERT INTO chore VALUES (4, 100000)")
    conn.execute(f"PRAGMA application_id = {_schema.APPLICATION_ID}")
    conn.execute("PRAGMA user_version = 1")
    conn.commit()
    conn.close()
    return path


@pytest.mark.anyio
async def test_format_1_comes_forward(path: Path) -> None:
    """Streams in every state, with payload, seals, keys, labels and secrets; and all that is new works on them."""
    async with server(path) as store:
        assert store.secrets == (b"s" * 32,)
        infos = {info.id: info for info in await store.find(Query(labels=("l",)))}
        assert [info.state for info in infos.values()] == ["expired", "sealed", "sealed", "streaming", "pending"]
        sealed: StreamInfo = infos[StreamId("sealed")]
        size = len(PAYLOADS["sealed"])
        assert sealed.attempts == (Attempt("u", 101.0, 200, "r", 200.0, size, Outcome.COMPLETED),)
        assert sealed.seal
        assert (sealed.seal.message, sealed.seal.sealed_at, sealed.new.retain_s) == (SEAL.message, 200.0, 1e9)
        for packed in (False, True):
            for name, payload in PAYLOADS.items():
                assert await whole(store, name) == payload
                assert await store.verify(StreamId(name)) == []
            assert await store.verify() == []
            if not packed:
                await store.tidy()
        assert rows(path, "SELECT stream, count(*) FROM frame GROUP BY stream") == [(3, 2), (4, 3)]
        binding = await store.binding("k2")
        assert binding
        assert (binding.stream, binding.earlier) == ("sealed", ("old",))
        assert [entry.stream for entry in await store.ledger()] == ["expired", "half", "sealed"]
        assert (await store.kept("q")).payload_bytes == len(PAYLOADS["half"])
        assert set(await store.held("w")) == {"pending", "live"}
        assert [info.id for info in await store.oldest(9)] == ["sealed", "half"]
        lease = await store.acquire(StreamId("live"), "w2", after=1)
        at = await store.append(lease, len(PAYLOADS["live"]), b"more")
        await store.seal(lease, SEAL)
        assert (await store.purge(StreamId("sealed"), Gone.DELETED)).gone
        assert (await store.kept("p")).payload_bytes == at
        assert await store.verify() == []
    async with offline(path) as store:
        assert await whole(store, "half") == PAYLOADS["half"]


@pytest.mark.anyio
async def test_what_came_forward_is_made_like_new(path: Path, tmp_path: Path) -> None:
    """The same tables, columns, indexes and triggers, whichever way they came about."""
    async with server(path), server(tmp_path / "new.db"):
        pass

    def made(path: Path) -> object:
        objects = rows(path, "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2")
        columns = {
            name: sorted(column[1:4] for column in rows(path, f"PRAGMA table_info({name})")) for _, name in objects
        }
        triggers = rows(path, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY 1")
        return objects, columns, triggers

    assert made(path) == made(tmp_path / "new.db")


@pytest.mark.anyio
async def test_a_failed_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old store is as it was, and the next try brings it forward."""
    before = rows(path, "SELECT * FROM stream"), rows(path, "SELECT sql FROM sqlite_master")
    forward = MIGRATIONS[1]

    def fails(conn: sqlite3.Connection) -> None:
        forward(conn)
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setitem(MIGRATIONS, 1, fails)
        with pytest.raises(StoreError, match="disk I/O error"):
            await server(path).__aenter__()
    assert rows(path, "PRAGMA user_version") == [(1,)]
    assert (rows(path, "SELECT * FROM stream"), rows(path, "SELECT sql FROM sqlite_master")) == before
    async with server(path) as store:
        assert await whole(store, "sealed") == PAYLOADS["sealed"]


@pytest.mark.anyio
async def test_damage_in_an_old_store_stops_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is damaged stays so, is told, and the rest comes forward."""
    conn = sqlite3.connect(path)
    conn.execute("UPDATE stream SET record = 'x' WHERE id = 'sealed'")
    conn.execute("DELETE FROM chunk WHERE row = (SELECT max(row) FROM slice WHERE stream = 4)")
    conn.commit()
    conn.close()
    async with server(path) as store:
        assert await whole(store, "live") == PAYLOADS["live"]
        with pytest.raises(StoreError, match="damaged"):
            await store.stat(StreamId("sealed"))
        assert await store.verify(StreamId("half"))
    assert "sealed" in caplog.text


@pytest.mark.anyio
async def test_only_a_server_brings_a_store_forward(path: Path) -> None:
    """Who only looks says what to do; and not under a server of the old version."""
    with pytest.raises(StoreUnusable, match="older resumestream"):
        await offline(path).__aenter__()
    lock = FileLock(path.with_name(path.name + ".lock"))
    lock.acquire()
    with pytest.raises(StoreLocked):
        await server(path).__aenter__()
    assert rows(path, "PRAGMA user_version") == [(1,)]
    lock.release()
    lock.path.unlink()
    async with server(path):
        pass


class Elsewhere(Slices):
    """Payload of another kind of store."""

    kind = "elsewhere"


@pytest.mark.anyio
@pytest.mark.parametrize("serving", [True, False])
async def test_each_kind_of_store_opens_its_own(tmp_path: Path, serving: bool) -> None:
    """The catalog of one kind is refused by another, by name."""
    path = tmp_path / "catalog"

    def other(serving: bool) -> CatalogStore:
        return CatalogStore(path, Elsewhere(), location=path, policy=Policy(), serving=serving)

    async with other(True):
        pass
    with pytest.raises(StoreUnusable, match=r"catalog of a elsewhere store.*as a sqlite store"):
        await SQLiteStore(path, policy=Policy(), serving=serving).__aenter__()
    async with other(serving):
        pass
