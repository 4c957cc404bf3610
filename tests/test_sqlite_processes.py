"""Several servers on one SQLite store. Handles of one process are as good as processes here: each has its own
connections, its own writer and its own place among the peers."""

from __future__ import annotations

import sqlite3
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from resumestream.model import Gone, NewStream, Query, StreamId, StreamInfo
from resumestream.stores import SQLiteStore, _keeper, _rows
from resumestream.stores._writer import Batch

from .sqlite_files import SEAL, offline, rows, server, stream, whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test is."""
    return tmp_path / "streams.db"


@pytest.mark.anyio
async def test_a_store_is_made_once(tmp_path: Path) -> None:
    """However many start at once: one set of tables, one secret, one clock."""
    for round_ in range(5):
        path = tmp_path / f"{round_}.db"
        stores = [server(path) for _ in range(6)]
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for store in stores:
                    tasks.start_soon(store.__aenter__)
        assert len({store.secrets for store in stores}) == 1
        for number, store in enumerate(stores):
            await stream(store, f"s{number}", b"payload")
        assert [await whole(stores[0], f"s{number}") for number in range(6)] == [b"payload"] * 6
        assert rows(path, "SELECT count(*) FROM secret") == [(1,)]
        assert rows(path, "PRAGMA journal_mode") == [("wal",)]
        for store in stores:
            await store.__aexit__()


@pytest.mark.anyio
async def test_who_comes_goes_by_the_clock_of_those_who_live(path: Path) -> None:
    """To the last digit: whatever the wall clock says by now, nothing expires early for the newcomer."""
    async with server(path) as one:
        started = one._clock.start  # type: ignore[attr-defined]
        async with server(path) as other, offline(path) as looker:
            assert other._clock.start == looker._clock.start == started  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_nobody_starves(path: Path) -> None:
    """One server writes without a pause; another's appends come through meanwhile, each long before `busy_s`."""
    async with server(path) as busy, server(path, busy_s=2) as other:

        async def write_on(name: str) -> None:
            lease, at = await stream(busy, name), 0
            while True:
                at = await busy.append(lease, at, b"x" * 200)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(write_on, f"busy{number}")
                lease, at = await stream(other, "other"), 0
                while at < 100:
                    at = await other.append(lease, at, b"x")
                tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_two_keepers_work_side_by_side(path: Path) -> None:
    """Both take from one list of chores; every stream is packed once, whole, and every purged one is erased."""
    async with server(path) as one, server(path) as other:
        for number in range(40):
            store = (one, other)[number % 2]
            lease = await stream(store, f"s{number}", b"<%02d>" % number * 30_000)
            await store.seal(lease, SEAL)
            if number % 4 == 0:
                await (one, other)[number % 3 % 2].purge(lease.stream, Gone.DELETED)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.tidy)
                tasks.start_soon(other.tidy)
        assert rows(path, "SELECT * FROM chore") == []
        assert rows(path, "SELECT count(DISTINCT stream), count(*) FROM frame") == [(30, 30)]
        for number in range(40):
            if number % 4:
                assert await whole(one, f"s{number}") == b"<%02d>" % number * 30_000
        assert await other.verify() == []


@pytest.mark.anyio
async def test_chores_of_the_dead_are_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a server that was there before, and has none of its own."""
    monkeypatch.setattr(_keeper, "LOOK_EVERY_S", 0.05)
    async with server(path) as store:
        lease = await stream(store, "s", b"payload " * 1000)
        await store.seal(lease, SEAL)
        await store.tidy()
        conn = sqlite3.connect(path)
        with conn:
            conn.execute("UPDATE stream SET gone = 'deleted'")
            conn.execute("INSERT INTO chore SELECT row, 0 FROM stream")
        conn.close()
        with anyio.fail_after(10):
            while rows(path, "SELECT * FROM chore"):  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert rows(path, "SELECT count(*) FROM frame") == [(0,)]


@pytest.mark.anyio
async def test_thousands_of_sealed_streams_cost_an_opening_nothing(path: Path) -> None:
    """What opening, recovery and each start ask for goes by an index: SQLite never walks all streams for it."""
    async with server(path) as store:
        await stream(store, "s")
        plans = list[str]()

        def watch(conn: sqlite3.Connection) -> None:
            def explain(statement: str) -> None:
                if statement.startswith("SELECT") and " stream" in statement:
                    asked.append(statement)

            asked = list[str]()
            conn.set_trace_callback(explain)
            traced.append((conn, asked))

        traced = list[tuple[sqlite3.Connection, list[str]]]()
        await store._read(watch)
        calls = (store.unsealed, partial(store.held, "w"), partial(store.due, 9), partial(store.oldest, 9))
        for call in (*calls, store.kept, partial(store.kept, "p"), partial(store.stat, StreamId("s"))):
            await call()
        for conn, asked in traced:
            conn.set_trace_callback(None)
            for statement in asked:
                plans += [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert len(plans) >= 7
        walked = [plan for plan in plans if "stream" in plan and " USING " not in plan]
        walked += [plan for plan in plans if "stream_of_principal" in plan]
        assert walked == []


@pytest.mark.anyio
async def test_memory_does_not_grow_with_the_streams_that_ended(path: Path) -> None:
    """What is asked at start, by retention and by a page of a list costs the same with 10 000 as with 500."""

    async def cost(store: SQLiteStore) -> int:
        tracemalloc.start()
        try:
            assert await store.unsealed() == []
            assert len(await store.due(50)) == len(await store.oldest(50)) == len(await store.oldest(50, "p")) == 50
            page = await store.find(Query(principal="p"))
            assert len(page) == len(await store.find(Query(after=page[-1].id))) == 100
            assert (await store.kept("p")).payload_bytes
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def fill(batch: Batch, numbers: range) -> None:
        for number in numbers:
            new = NewStream(StreamId(f"s{number}"), "p", "u", "w", 0, 60, 60)
            _rows.insert(batch.conn, StreamInfo(new, tail=1))
            row, info = _rows.get(batch.conn, new.id)
            _rows.update(batch.conn, row, replace(info, seal=SEAL))

    async with server(path) as store:
        await store._write(partial(fill, numbers=range(500)))
        await cost(store)  # what Python makes once
        few = await cost(store)
        await store._write(partial(fill, numbers=range(500, 10_000)))
        assert await cost(store) < 1.5 * few + 100_000
