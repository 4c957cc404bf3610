"""A full disk: what ends streams and frees space still lands, out of the reserve; nothing else takes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from resumestream.errors import StoreFull
from resumestream.model import Gone, Lease, NewStream, StreamId
from resumestream.stores import SQLiteStore, _keeper
from resumestream.stores._keeper import Keeper
from resumestream.stores._reserve import RESERVE_BYTES

from .sqlite_files import SEAL, allow_pages, server, stream, whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test is."""
    return tmp_path / "streams.db"


def reserves(path: Path) -> list[Path]:
    return list(path.with_name(path.name + ".peers").glob("*.reserve"))


class FullDisk:
    """A connection whose commits find no space as long as the reserve is there."""

    def __init__(self, store: SQLiteStore, path: Path) -> None:
        assert store._writer
        self._conn, self._path, self.full = store._conn, path, True
        store._writer._conn = store._writer._keeper._conn = self  # type: ignore[assignment]

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT" and self.full and reserves(self._path):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self._conn.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


@pytest.mark.anyio
async def test_a_server_keeps_room_in_reserve(path: Path) -> None:
    """Real blocks, for as long as it serves; what a dead process kept is freed."""
    async with server(path) as one:
        left = path.with_name(path.name + ".peers") / "AAAAAAAAAAAA.reserve"
        left.write_bytes(b"of the dead")
        async with server(path) as other:
            files = reserves(path)
            assert {file.stem for file in files} == {one.peers.me, other.peers.me}
            assert all(file.stat().st_size >= RESERVE_BYTES for file in files)
            assert all(file.stat().st_blocks * 512 >= RESERVE_BYTES for file in files)
            assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
        assert [file.stem for file in reserves(path)] == [one.peers.me]
    assert reserves(path) == []


VITAL: list[Callable[[SQLiteStore], Awaitable[object]]] = [
    lambda store: store.seal(Lease(StreamId("live"), "w", 1), SEAL),
    lambda store: store.purge(StreamId("sealed"), Gone.DELETED),
    lambda store: store.request_cancel(StreamId("live")),
    lambda store: store.acquire(StreamId("live"), "taker", after=1),
    lambda store: store.forget(StreamId("gone")),
]


@pytest.mark.anyio
@pytest.mark.parametrize("vital", VITAL)
async def test_what_ends_streams_takes_the_reserve(
    path: Path, vital: Callable[[SQLiteStore], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A create and an append do not."""
    monkeypatch.setattr(Keeper, "wait_s", lambda _: None)
    async with server(path) as store:
        live, sealed, gone = [await stream(store, name, b"kept") for name in ("live", "sealed", "gone")]
        for lease in (sealed, gone):
            await store.seal(lease, SEAL)
        await store.purge(gone.stream, Gone.DELETED)
        FullDisk(store, path)
        keyed = NewStream(StreamId("new"), "p", "u", "w", 0, 60, 60, key="k")
        for refused in (partial(store.create, keyed), partial(store.append, live, 4, b"x"), store.probe):
            with pytest.raises(StoreFull):
                await refused()
        assert reserves(path)
        await vital(store)
        assert not reserves(path)
        assert await whole(store, "live") == b"kept"


@pytest.mark.anyio
async def test_the_reserve_is_taken_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there is space, without being asked."""
    monkeypatch.setattr(_keeper, "LOOK_EVERY_S", 0.05)
    async with server(path) as store:
        lease = await stream(store, "s", b"kept")
        disk = FullDisk(store, path)
        await store.seal(lease, SEAL)
        disk.full = False
        with anyio.fail_after(10):
            while not reserves(path):  # noqa: ASYNC110
                await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_readiness_says_what_a_create_would_meet(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every size that the file may have: where a probe succeeds, so does the next create, and neither fails long
    after the space is back."""
    monkeypatch.setattr(Keeper, "wait_s", lambda _: None)
    now = [1000.0]
    async with server(path) as store:
        monkeypatch.setattr(store, "_clock", lambda: now[0])
        await allow_pages(store, 1)
        refused = False
        for number in range(400):
            now[0] += 2
            try:
                await store.probe()
            except StoreFull:
                refused = True
                break
            await store.create(NewStream(StreamId(f"s{number}"), "p" * 20, "u", "w", 0, 60, 60, key=f"{number}"))
        assert refused
        await allow_pages(store, 1_000_000)
        await store.probe()
