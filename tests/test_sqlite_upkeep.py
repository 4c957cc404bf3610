"""Idle-time work on SQLite: what has ended is packed, what was purged leaves no byte, and space comes back."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from resumestream.model import Attempt, Gone, Head, Lease, StreamId, Tally
from resumestream.stores import SQLiteStore, _keeper
from resumestream.stores._frame import FRAME_BYTES
from resumestream.stores._keeper import Keeper

from .sqlite_files import SEAL, allow_pages, content, rows, server, stream, together, whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test is."""
    return tmp_path / "streams.db"


async def shared_chunks(store: SQLiteStore, *names: str, step: int = 1000, steps: int = 300) -> dict[str, bytes]:
    """Streams that grow side by side, so that they share chunks; each one's bytes are its own, and do not shrink."""
    noise = random.Random(1)
    payloads = {
        name: b"".join(b"<%s %06d>" % (name.encode(), i) + noise.randbytes(step) for i in range(steps))
        for name in names
    }
    leases = [await stream(store, name) for name in names]
    size = len(payloads[names[0]]) // steps
    for at in range(0, size * steps, size):
        calls = [partial(store.append, lease, at, payloads[lease.stream][at : at + size]) for lease in leases]
        await together(store, *calls)
    return payloads


@pytest.mark.anyio
async def test_a_sealed_stream_is_packed(path: Path) -> None:
    """Its bytes stay the same while they move into long rows of its own; a live neighbour is left alone."""
    async with server(path) as store:
        payloads = await shared_chunks(store, "ended", "live")
        await store.seal(Lease(StreamId("ended"), "w", 1), SEAL)
        while await store._entered().keep():
            assert await whole(store, "ended") == payloads["ended"]
            assert await whole(store, "live") == payloads["live"]
        counts = "SELECT id, count(*) FROM {} JOIN stream ON stream.row = stream GROUP BY stream ORDER BY id"
        assert rows(path, counts.format("slice")) == [("live", 300)]
        assert rows(path, counts.format("frame")) == [("ended", 2)]
        assert len(payloads["ended"]) > FRAME_BYTES
        await store.seal(Lease(StreamId("live"), "w", 1), SEAL)
        await store.tidy()
        assert await whole(store, "live") == payloads["live"]
        assert rows(path, "SELECT count(*) FROM chunk") == [(0,)]


@pytest.mark.anyio
async def test_packing_goes_on_after_a_crash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a store that was left in the middle of packing has still to do is done by the next server."""
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "wait_s", lambda _: None)  # the first server never finds itself idle
        async with server(path) as store:
            payloads = await shared_chunks(store, "s")
            await store.seal(Lease(StreamId("s"), "w", 1), SEAL)
            assert await store._entered().keep()
    assert rows(path, "SELECT packed FROM chore") == [(FRAME_BYTES,)]
    async with server(path) as store:
        with anyio.fail_after(10):
            while rows(path, "SELECT * FROM chore"):  # noqa: ASYNC110
                await anyio.sleep(0.001)
        assert await whole(store, "s") == payloads["s"]
    assert rows(path, "SELECT count(*) FROM frame") == [(2,)]


@pytest.mark.anyio
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("forget", [False, True])
async def test_a_purge_leaves_no_byte(path: Path, packed: bool, forget: bool) -> None:
    """Not in shared rows, not in rows of its own, not in free pages, not in the WAL; a neighbour loses nothing."""
    async with server(path) as store:
        payloads = await shared_chunks(store, "erased", "kept")
        await store.seal(Lease(StreamId("erased"), "w", 1), replace(SEAL, message="The provider said: <erased too>"))
        if packed:
            await store.tidy()
        await store.purge(StreamId("erased"), Gone.DELETED)
        if forget:
            await store.forget(StreamId("erased"))
        await store.tidy()
        assert b"<erased " not in content(path)
        assert b"<kept " in content(path)
        assert await whole(store, "kept") == payloads["kept"]
        assert rows(path, "SELECT * FROM chore") == []
        assert rows(path, "SELECT count(*) FROM label") == [(1 if forget else 2,)]
        await store.seal(Lease(StreamId("kept"), "w", 1), SEAL)
        await store.tidy()
        assert await whole(store, "kept") == payloads["kept"]


@pytest.mark.anyio
async def test_a_purge_gives_the_space_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files shrink, and nobody has to ask for it."""
    monkeypatch.setattr(_keeper, "SCRUB_EVERY_S", 0.05)
    async with server(path) as store:
        await shared_chunks(store, "s", step=20_000, steps=100)
        await store.seal(Lease(StreamId("s"), "w", 1), SEAL)
        await store.purge(StreamId("s"), Gone.EXPIRED)
        with anyio.fail_after(20):
            while len(content(path)) > 200_000:  # noqa: ASYNC110
                await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_a_full_disk_stops_packing_and_not_erasing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing needs room and is put off; erasing comes first and makes it."""
    monkeypatch.setattr(Keeper, "wait_s", lambda _: None)
    async with server(path) as store:
        payload = (await shared_chunks(store, "new", "live"))["new"]
        await shared_chunks(store, "old")
        for name in ("new", "old"):
            await store.seal(Lease(StreamId(name), "w", 1), SEAL)
        await allow_pages(store, 1)
        assert not await store._entered().keep()
        assert rows(path, "SELECT count(*) FROM chore") == [(2,)]
        await store.purge(StreamId("old"), Gone.DELETED)
        await store.tidy()
        assert rows(path, "SELECT * FROM chore") == []
        assert await whole(store, "new") == payload


@pytest.mark.anyio
async def test_a_stream_that_cannot_be_packed_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The damage of one stream is logged once, with its row, and the others are packed; erasing it is still tried."""
    async with server(path) as store:
        for name in ("damaged", "first", "second"):
            await stream(store, name, b"<%s one>" % name.encode(), b"two", b"three")
        damage = "DELETE FROM slice WHERE at > 0 AND stream = (SELECT row FROM stream WHERE id = 'damaged')"
        await store._entered().call(lambda batch: batch.conn.execute(damage).rowcount, disk=False)
        for name in ("damaged", "first", "second"):
            await store.seal(Lease(StreamId(name), "w", 1), SEAL)
            await store.tidy()
        ((row,),) = rows(path, "SELECT row FROM stream WHERE id = 'damaged'")
        assert rows(path, "SELECT stream FROM chore") == [(row,)]
        assert rows(path, "SELECT count(*) FROM frame") == [(2,)]
        (logged,) = caplog.records
        assert f"stream row {row} " in logged.getMessage()
        await store.purge(StreamId("damaged"), Gone.DELETED)
        await store.tidy()
        assert rows(path, "SELECT * FROM chore") == []
        assert b"<damaged " not in content(path)


@pytest.mark.anyio
async def test_a_reader_elsewhere_puts_erasing_off(path: Path) -> None:
    """Who looks at an old state in another process stalls nobody; when they are gone, so are the bytes."""
    async with server(path) as store:
        await shared_chunks(store, "erased")
        await store.tidy()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM slice").fetchone()
        await store.seal(Lease(StreamId("erased"), "w", 1), SEAL)
        await store.purge(StreamId("erased"), Gone.DELETED)
        with anyio.fail_after(3):  # less than the writer would wait for a lock
            await store.tidy()
        assert b"<erased " in content(path)
        other.close()
        await store.tidy()
        assert b"<erased " not in content(path)


@pytest.mark.anyio
@pytest.mark.parametrize("pruned_first", [True, False])
async def test_no_tally_stays_behind(path: Path, pruned_first: bool) -> None:
    """It goes with the last that is known of its stream, record or ledger, and none comes after that."""
    async with server(path) as store:

        async def forget() -> None:
            for name in ("called", "never called"):
                await store.purge(StreamId(name), Gone.EXPIRED)
                await store.forget(StreamId(name))

        called = await stream(store, "called")
        failed = Attempt("u", 1.0, 500, ended_at=1.0)
        await store.begin(called, Attempt("u", 1.0, 200), Head(200), after=(failed,))
        for lease in (called, await stream(store, "never called")):
            await store.tally({lease.stream: Tally(1, 1)})
            await store.seal(lease, SEAL)
        assert rows(path, "SELECT count(*) FROM tally") == [(2,)]
        if pruned_first:
            await store.prune(store.now() + 1)
            assert rows(path, "SELECT count(*) FROM tally") == [(2,)]
            await forget()
        else:
            await forget()
            await store.prune(2.0)
            assert rows(path, "SELECT stream, attaches, replays FROM tally") == [("called", 1, 1)]
            await store.prune(store.now() + 1)
        await store.tally({called.stream: Tally(1, 1)})
    assert rows(path, "SELECT * FROM tally") == []
