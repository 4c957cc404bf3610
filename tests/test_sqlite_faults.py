"""A disk that is full, locked, failing or damaged, and a process that is killed: nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from resumestream.errors import StoreBusy, StoreError, StoreFull
from resumestream.model import Lease, StreamId
from resumestream.stores import SQLiteStore
from resumestream.stores._keeper import Keeper

from .sqlite_files import SEAL, allow_pages, offline, server, stream, together, whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test is."""
    return tmp_path / "streams.db"


@pytest.mark.anyio
async def test_a_full_disk_loses_nothing_acknowledged(path: Path) -> None:
    """The append that finds no space is refused as such; a seal beside it lands; with space the same append does."""
    async with server(path) as store:
        big, small = await stream(store, "big", b"kept"), await stream(store, "small", b"kept")
        await allow_pages(store, 1)
        refused, sealed = await together(
            store, partial(store.append, big, 4, bytes(100_000)), partial(store.seal, small, SEAL)
        )
        assert isinstance(refused, StoreFull)
        assert "no space" in refused.message
        assert (sealed.tail, sealed.sealed) == (4, True)
        assert await whole(store, "big") == b"kept"
        await allow_pages(store, 1_000_000)
        assert await store.append(big, 4, bytes(100_000)) == 100_004


@pytest.mark.anyio
async def test_a_foreign_write_lock_is_busy_and_reads_go_on(path: Path) -> None:
    """Another process that holds the write lock longer than `busy_s` makes writes fail as busy, and only them."""
    async with server(path, busy_s=0.05) as store:
        lease = await stream(store, "s", b"payload")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy) as refused:
            await store.append(lease, 7, b"more")
        assert refused.value.retry
        assert await whole(store, "s") == b"payload"
        other.execute("ROLLBACK")
        other.close()
        assert await store.append(lease, 7, b"more") == 11


class Failing:
    """A connection on which the next statements that begin with what `fail` names, in that order, fail: once each."""

    def __init__(self, store: SQLiteStore) -> None:
        """The store's writer has it from now on, for its idle-time work as well."""
        assert store._writer
        self._conn, self._sqls = store._conn, deque[str]()
        store._writer._conn = store._writer._keeper._conn = self  # type: ignore[assignment]

    def fail(self, *sqls: str) -> None:
        self._sqls.extend(sqls)

    def execute(self, sql: str, *values: Any) -> Any:
        if self._sqls and sql.startswith(self._sqls[0]):
            self._sqls.popleft()
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC if sql == "COMMIT" else sqlite3.SQLITE_IOERR
            raise error
        return self._conn.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sqls",
    [
        pytest.param(("COMMIT",), id="the next sync would succeed over the hole that this one reported"),
        pytest.param(("UPDATE", "ROLLBACK"), id="what was refused is still in the open transaction"),
        pytest.param(("COMMIT", "ROLLBACK"), id="both"),
    ],
)
async def test_after_a_lost_transaction_nothing_is_written(
    path: Path, sqls: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits and whoever comes is told, until the store is opened again; the log tells it once."""
    async with server(path) as store:
        lease, other = await stream(store, "s", b"kept"), await stream(store, "other")
        Failing(store).fail(*sqls)

        async def refused(lease: Lease, at: int) -> None:
            with pytest.raises(StoreError, match="disk I/O error"):
                await store.append(lease, at, b"lost")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refused, lease, 4)
                tasks.start_soon(refused, other, 0)
            await refused(lease, 4)
            assert await whole(store, "s") == b"kept"
            assert not await store._entered().keep()
            assert store._entered()._keeper.wait_s() is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    async with server(path) as store:
        assert await store.append(lease, 4, b"more") == 8


@pytest.mark.anyio
@pytest.mark.parametrize("sqls", [("PRAGMA synchronous",), ("BEGIN",), ("SELECT chore", "ROLLBACK")])
async def test_a_failure_in_idle_time_work_leaves_nobody_waiting(
    path: Path, sqls: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packing stops, the writer's thread does not: a later call gets its answer."""
    monkeypatch.setattr(Keeper, "wait_s", lambda _: None)
    async with server(path) as store:
        lease, other = await stream(store, "s", b"kept"), await stream(store, "other", b"")
        await store.seal(lease, SEAL)
        Failing(store).fail(*sqls)
        with anyio.fail_after(5):
            assert not await store._entered().keep()
            with contextlib.suppress(StoreError):
                await store.append(other, 0, b"more")
            assert await whole(store, "s") == b"kept"


@pytest.mark.anyio
async def test_missing_payload_is_an_error_and_never_other_bytes(path: Path) -> None:
    """A hole in the index is reported, wherever a read begins."""
    async with server(path) as store:
        await stream(store, "s", b"one", b"two", b"three")
    conn = sqlite3.connect(path)
    with conn:
        conn.execute("DELETE FROM slice WHERE at = 3")
    conn.close()
    async with offline(path) as store:
        assert await store.read(StreamId("s"), 0, 3) == b"one"
        for at in (0, 3, 4):
            with pytest.raises(StoreError, match="damaged"):
                await store.read(StreamId("s"), at, 11)
        assert await store.read(StreamId("s"), 6, 5) == b"three"


CHILD = """
import sys, anyio
from pathlib import Path
from resumestream.model import NewStream, StreamId
from resumestream.policy import Policy
from resumestream.stores import SQLiteStore

async def main():
    async with SQLiteStore(Path(sys.argv[1]), policy=Policy(), serving=True) as store:
        print(b"".join(store.secrets).hex(), flush=True)
        lease, at = await store.create(NewStream(StreamId("s"), "p", "u", "w", store.now(), 60, 60)), 0
        while True:
            at = await store.append(lease, at, b"%08d" % at)
            print(at, flush=True)

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.anyio
async def test_kill_9_loses_nothing_acknowledged(path: Path, anyio_backend: str) -> None:
    """Every append that was acknowledged is there, and the secrets are the same."""
    command = [sys.executable, "-c", CHILD, str(path), anyio_backend]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert child.stdout
    try:
        secrets = child.stdout.readline().strip()
        last = [child.stdout.readline() for _ in range(200)][-1]
    finally:
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
    told = last + rest
    acknowledged = int(told[: told.rindex("\n")].split()[-1])  # the kill may have cut the last line
    async with server(path) as store:
        assert b"".join(store.secrets).hex() == secrets
        (info,) = await store.unsealed()
        assert info.tail >= acknowledged >= 200 * 8
        assert await whole(store, "s") == b"".join(b"%08d" % at for at in range(0, info.tail, 8))
