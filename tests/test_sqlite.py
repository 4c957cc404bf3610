"""SQLite's file and its lock, and the thread that commits groups."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from resumestream.errors import LeaseLost, StoreError, StoreUnusable
from resumestream.model import Gone, Lease, NewStream, StreamId
from resumestream.policy import Policy
from resumestream.stores import SQLiteStore
from resumestream.stores._keeper import Keeper
from resumestream.stores.clock import StoreClock

from .sqlite_files import SEAL, content, offline, rows, server, stream, together, whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test is."""
    return tmp_path / "streams.db"


# --- the file and its lock --------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("umask", [0, 0o777])
async def test_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """All of them are 0600, a directory that had to be made is 0700."""
    path = tmp_path / "made" / "streams.db"
    before = os.umask(umask)
    try:
        async with server(path) as store:
            await stream(store, "s", b"payload")
            found = [path.parent, *path.parent.rglob("*")]
            modes = {(file.is_dir(), file.stat().st_mode & 0o777) for file in found}
    finally:
        os.umask(before)
    assert modes == {(True, 0o700), (False, 0o600)}
    assert {"streams.db", "streams.db-wal", "streams.db-shm", "streams.db.peers"} <= {file.name for file in found}


@pytest.mark.anyio
async def test_two_servers_share_a_store(path: Path) -> None:
    """Each sees at once what the other wrote, knows that it lives, and goes by the same secrets and clock."""
    async with server(path) as one, server(path) as other:
        lease = await stream(one, "s", b"one")
        assert await whole(other, "s") == b"one"
        assert one.secrets == other.secrets
        assert abs(one.now() - other.now()) < 0.1
        assert not one.peers.lost(other.peers.me)
        assert not one.peers.alone()
        taken = await other.acquire(lease.stream, other.peers.me, after=lease.epoch)
        with pytest.raises(LeaseLost):
            await one.append(lease, 3, b"late")
        assert await other.append(taken, 3, b" two") == 7
        assert await whole(one, "s") == b"one two"
    async with server(path) as one:
        assert one.peers.alone()


@pytest.mark.anyio
async def test_offline_works_beside_a_server(path: Path) -> None:
    """A handle that does not serve takes no lock, reads, and leaves an intent that the server sees."""
    async with server(path) as store:
        await stream(store, "s", b"payload")
        async with offline(path) as other:
            assert await whole(other, "s") == b"payload"
            await other.request_cancel(StreamId("s"))
        assert await store.held("w") == {"s": True}


@pytest.mark.anyio
async def test_offline_creates_nothing(path: Path) -> None:
    """Without a store there is a clear message and still no file."""
    with pytest.raises(StoreUnusable, match=r"there is no store at .*streams\.db"):
        await offline(path).__aenter__()
    assert list(path.parent.iterdir()) == []


def empty(path: Path) -> None:
    path.touch()


def without_tables(path: Path) -> None:
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.close()


@pytest.mark.anyio
@pytest.mark.parametrize("leave", [empty, without_tables])
async def test_a_creation_that_died_is_taken_up(path: Path, leave: Callable[[Path], None]) -> None:
    """What a kill in the middle of making the store leaves is no store yet, and becomes one."""
    leave(path)
    with pytest.raises(StoreUnusable, match="there is no store"):
        await offline(path).__aenter__()
    async with server(path) as store:
        await stream(store, "s", b"payload")
        assert await whole(store, "s") == b"payload"


def truncate(path: Path) -> None:
    os.truncate(path, 3 * 4096)


def text(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to look like one " * 200)


def garbled_schema(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(bytes(range(256)) * 15)


def garbled_table(path: Path) -> None:
    (root,) = rows(path, "SELECT rootpage FROM sqlite_master WHERE name = 'slice'")[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)


def newer(path: Path) -> None:
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA user_version = 99")
    conn.close()


def foreign(path: Path) -> None:
    path.unlink()
    conn = sqlite3.connect(path)
    conn.execute("CREATE TABLE users (id)")
    conn.close()


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.anyio
@pytest.mark.parametrize("handle", [server, offline], ids=["server", "offline"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (truncate, "damaged"),
        (text, "not a SQLite database"),
        (garbled_schema, "damaged"),
        (garbled_table, "damaged"),
        (newer, "newer resumestream"),
        (foreign, "another application"),
        (directory, "is a directory"),
    ],
)
async def test_an_unusable_store_says_why(
    path: Path, spoil: Callable[[Path], None], says: str, handle: Callable[[Path], SQLiteStore]
) -> None:
    """The message has what, where and what to do; the file is left as it was, nothing is kept locked, and nothing is
    made beside it."""
    async with server(path) as store:
        await stream(store, "s", b"payload")
    peers = path.with_name(f"{path.name}.peers")
    shutil.rmtree(peers)
    spoil(path)
    before = content(path)
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=says) as refused:
            await handle(path).__aenter__()
        assert str(path) in refused.value.message
    assert content(path) == before
    assert not peers.exists()


@pytest.mark.anyio
@pytest.mark.parametrize("handle", [server, offline], ids=["server", "offline"])
@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o755), (0o666, 0o555)])
async def test_a_read_only_store_says_so(
    file_mode: int, folder_mode: int, handle: Callable[[Path], SQLiteStore]
) -> None:
    """A file or a directory that may not be written to is refused at start, not at the first append."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        path = Path(folder, "streams.db")
        async with server(path):
            pass
        path.chmod(file_mode)  # noqa: ASYNC240
        path.parent.chmod(folder_mode)
        with unprivileged(), pytest.raises(StoreUnusable, match=r"read-only|Permission denied"):
            await handle(path).__aenter__()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write everywhere: be nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


# --- the writer -------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_what_waits_is_committed_together(path: Path) -> None:
    """Twenty appends of twenty streams that wait for one commit make one row of payload."""
    async with server(path) as store:
        leases = [await stream(store, f"s{number}") for number in range(20)]
        names = [lease.stream.encode() for lease in leases]
        calls = [partial(store.append, lease, 0, name) for lease, name in zip(leases, names, strict=True)]
        assert await together(store, *calls) == [len(name) for name in names]
        assert [await whole(store, lease.stream) for lease in leases] == names
    assert rows(path, "SELECT count(*) FROM chunk") == [(1,)]


@pytest.mark.anyio
async def test_a_large_batch_is_cut_into_chunks(path: Path) -> None:
    """A batch of many megabytes makes no value that SQLite would refuse."""
    async with server(path) as store:
        leases = [await stream(store, f"s{number}") for number in range(5)]
        payloads = [bytes([number]) * 700_000 for number in range(5)]
        calls = [partial(store.append, lease, 0, data) for lease, data in zip(leases, payloads, strict=True)]
        await together(store, *calls)
        assert rows(path, "SELECT count(*), max(length(data)) <= 1114112 FROM chunk") == [(4, 1)]
        assert [await whole(store, lease.stream) for lease in leases] == payloads


@pytest.mark.anyio
async def test_a_broken_call_fails_alone(path: Path) -> None:
    """An operation that fails in a way nobody foresaw takes none of its batch along."""
    async with server(path) as store:
        good, bad, sealed = [await stream(store, name) for name in ("good", "bad", "sealed")]
        duplicate = NewStream(StreamId("good"), "p", "u", "w", 0, 60, 60)
        results = await together(
            store,
            partial(store.append, good, 0, b"before"),
            partial(store.append, bad, 0, "text"),  # type: ignore[arg-type]
            partial(store.create, duplicate),
            partial(store.seal, sealed, SEAL),
        )
        assert results[0] == 6
        assert isinstance(results[1], TypeError)
        assert isinstance(results[2], StoreError)
        assert (results[3].tail, results[3].sealed) == (0, True)
        assert await whole(store, "good") == b"before"


@pytest.mark.anyio
async def test_what_must_be_is_at_disk_level(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims with a key, seals, purges and intents to cancel are synced, an append is not; with `disk` all are."""
    levels: list[str] = []

    def watch(store: SQLiteStore) -> None:
        def saw(statement: str) -> None:
            if statement.startswith("PRAGMA synchronous"):
                levels.append(statement.rpartition(" ")[2])

        store._conn.set_trace_callback(saw)

    monkeypatch.setattr(Keeper, "wait_s", lambda _: None)  # its own commits need no sync
    async with server(path) as store:
        watch(store)
        lease = await stream(store, "s", b"x")
        keyed = NewStream(StreamId("k"), "p", "u", "w", 0, 60, 60, key="k")
        for call in (
            partial(store.create, keyed),
            partial(store.request_cancel, lease.stream),
            partial(store.seal, lease, SEAL),
            partial(store.purge, lease.stream, Gone.DELETED),
        ):
            await store._entered().call(lambda _: None, disk=False)
            assert levels.pop() == "NORMAL"
            await call()
            assert levels.pop() == "FULL"
    async with server(path, durability="disk") as store:
        watch(store)
        await store.append(Lease(StreamId("k"), "w", 1), 0, b"x")
        assert levels == ["FULL"]


@pytest.mark.anyio
async def test_a_probe_writes_once_a_second_and_never_the_secret(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may ask for readiness makes neither load nor a risk to what the store's keys are made with."""
    monkeypatch.setattr(Keeper, "wait_s", lambda _: None)
    now, written = [1000.0], list[str]()
    async with SQLiteStore(path, policy=Policy(), serving=True, clock=lambda: now[0]) as store:
        store._conn.set_trace_callback(written.append)
        for elapsed, writes in ((0.0, 1), (0.9, 0), (0.2, 1), (0.0, 0)):
            now[0] += elapsed
            written.clear()
            await store.probe()
            assert written.count("COMMIT") == writes
            assert not any("secret" in statement for statement in written)
        now[0] += 2
        await store._entered().call(lambda batch: batch.conn.execute("PRAGMA query_only = ON"), disk=False)
        for _ in range(2):
            with pytest.raises(StoreError):
                await store.probe()


@pytest.mark.anyio
async def test_a_cancelled_call_happens_all_the_same(path: Path) -> None:
    """Who is cancelled stops waiting at once; the append lands, and a close waits for it."""
    async with server(path) as store:
        lease = await stream(store, "s")
        assert store._writer
        release = threading.Event()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(store._writer.call, lambda _: release.wait(10), disk=False))
                tasks.start_soon(store.append, lease, 0, b"landed")
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
        release.set()
    async with offline(path) as store:
        assert await whole(store, "s") == b"landed"


@pytest.mark.anyio
@pytest.mark.parametrize("slow", [SQLiteStore._write, SQLiteStore._read])
async def test_calls_under_way_finish_before_a_close(path: Path, slow: Callable[..., Awaitable[bool]]) -> None:
    """A close in the middle of a read or a write waits for it; what is asked afterwards is refused."""
    store, release, results = server(path), threading.Event(), list[bool]()

    async def call() -> None:
        results.append(await slow(store, lambda _: release.wait(10)))

    async def release_when_all_wait() -> None:
        await anyio.wait_all_tasks_blocked()
        release.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with store:
                lease = await stream(store, "s")
                tasks.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(release_when_all_wait)
            assert release.is_set()
            for late in (partial(store.stat, lease.stream), partial(store.append, lease, 1, b"x")):
                with pytest.raises(StoreError, match="is not open"):
                    await late()
    assert results == [True]


def test_the_store_clock_ignores_the_wall_clock() -> None:
    """After the start only elapsed time counts."""
    wall, elapsed = [1000.0], [5.0]
    clock = StoreClock(wall=lambda: wall[0], elapsed=lambda: elapsed[0])
    assert clock() == 1000.0
    wall[0], elapsed[0] = 0.0, 7.5
    assert clock() == 1002.5


READ_ONLY = """
import os, sys, anyio, anyio._backends._asyncio
from resumestream import Policy
from resumestream.errors import StoreUnusable
from resumestream.stores import open_store

if os.geteuid() == 0:  # root may write what is read-only; everything is imported, so another user can go on
    os.setgid(65534)
    os.setuid(65534)

async def main():
    try:
        async with open_store(sys.argv[1], policy=Policy(), serving=True):
            print("opened")
    except StoreUnusable as error:
        print(error.message)

anyio.run(main)
"""


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o755), (0o666, 0o555)])
def test_a_read_only_store_is_refused_in_a_sentence(file_mode: int, folder_mode: int) -> None:
    """The file or its folder: SQLite writes to both."""
    folder = Path(tempfile.mkdtemp())  # the test's own folders are closed to other users
    path = folder / "streams.db"
    try:
        anyio.run(opened_once, path)
        path.chmod(file_mode)
        folder.chmod(folder_mode)
        command = [sys.executable, "-c", READ_ONLY, str(path)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment, check=True)
        assert done.stdout == f"{path} or its directory is read-only for this user; SQLite writes to both\n"
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


async def opened_once(path: Path) -> None:
    async with SQLiteStore(path, policy=Policy(), serving=True):
        pass
