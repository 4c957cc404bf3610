"""What is SQLite's own: the file, its lock, group commit, packing, erasing, and what happens when the disk does not."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resumestream.errors import StoreBusy, StoreError, StoreFull, StoreLocked, StoreUnusable
from resumestream.model import Gone, Lease, NewStream, Outcome, Seal, StreamId
from resumestream.policy import Policy
from resumestream.stores import SQLiteStore, _keeper
from resumestream.stores._keeper import Keeper
from resumestream.stores._payload import PACK_BYTES
from resumestream.stores.clock import StoreClock

SEAL = Seal(Outcome.COMPLETED, "end", "The provider finished.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test is."""
    return tmp_path / "streams.db"


def server(path: Path, **policy: Any) -> SQLiteStore:
    return SQLiteStore(path, policy=Policy(**policy), serving=True)


def offline(path: Path, **policy: Any) -> SQLiteStore:
    return SQLiteStore(path, policy=Policy(**policy), serving=False)


async def stream(store: SQLiteStore, name: str, *parts: bytes) -> Lease:
    lease = await store.create(NewStream(StreamId(name), "p", "u", "w", store.now(), 60, 60))
    at = 0
    for part in parts:
        at = await store.append(lease, at, part)
    return lease


async def whole(store: SQLiteStore, name: str) -> bytes:
    payload = b""
    while data := await store.read(StreamId(name), len(payload), PACK_BYTES):
        payload += data
    return payload


async def together(store: SQLiteStore, *calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What each call returned or raised, when the writer finds all of them waiting: they are one batch."""
    assert store._writer
    release, results = threading.Event(), [None] * len(calls)

    async def run(number: int, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            results[number] = await call()
        except Exception as error:
            results[number] = error

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(store._writer.call, lambda _: release.wait(10), disk=False))
            await anyio.wait_all_tasks_blocked()
            for number, call in enumerate(calls):
                tasks.start_soon(run, number, call)
            await anyio.wait_all_tasks_blocked()
            release.set()
    return results


def rows(path: Path, sql: str) -> list[Any]:
    conn = sqlite3.connect(path)
    try:
        return conn.execute(sql).fetchall()
    finally:
        conn.close()


# --- the file and its lock --------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("umask", [0, 0o777])
async def test_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Database, WAL and lock are 0600, a directory that had to be made is 0700."""
    path = tmp_path / "made" / "streams.db"
    before = os.umask(umask)
    try:
        async with server(path) as store:
            await stream(store, "s", b"payload")
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert modes == dict.fromkeys(["streams.db", "streams.db-wal", "streams.db-shm", "streams.db.lock"], 0o600)


@pytest.mark.anyio
async def test_a_second_server_is_refused(path: Path) -> None:
    """The refusal names the lock and the process that holds it; the lock is free after the first server's exit."""
    async with server(path):
        with pytest.raises(StoreLocked) as refused:
            await server(path).__aenter__()
        assert str(path) in refused.value.message
        assert f"process {os.getpid()}" in refused.value.message
    async with server(path):
        pass


@pytest.mark.anyio
async def test_offline_works_beside_a_server(path: Path) -> None:
    """A handle that does not serve takes no lock, reads, and leaves an intent that the server sees."""
    async with server(path) as store:
        await stream(store, "s", b"payload")
        async with offline(path) as other:
            assert await whole(other, "s") == b"payload"
            await other.request_cancel(StreamId("s"))
        assert await store.cancel_requests() == ["s"]


@pytest.mark.anyio
async def test_offline_creates_nothing(path: Path) -> None:
    """Without a store there is a clear message and still no file."""
    with pytest.raises(StoreUnusable, match=r"there is no store at .*streams\.db"):
        await offline(path).__aenter__()
    assert list(path.parent.iterdir()) == []


@pytest.mark.anyio
async def test_a_creation_that_died_is_taken_up(path: Path) -> None:
    """An empty file, as a kill in the middle of making the store leaves it, becomes a store."""
    await anyio.Path(path).touch()
    async with server(path) as store:
        await stream(store, "s", b"payload")
        assert await whole(store, "s") == b"payload"


def content(path: Path) -> bytes:
    """What is in every file of the store."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()) if file.is_file())


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
    """The message has what, where and what to do; the file is left as it was, and nothing is kept locked."""
    async with server(path) as store:
        await stream(store, "s", b"payload")
    spoil(path)
    before = content(path)
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=says) as refused:
            await handle(path).__aenter__()
        assert str(path) in refused.value.message
    assert content(path) == before


@pytest.mark.anyio
@pytest.mark.parametrize("handle", [server, offline], ids=["server", "offline"])
@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o755), (0o666, 0o555)])
async def test_a_read_only_store_says_so(
    path: Path, file_mode: int, folder_mode: int, handle: Callable[[Path], SQLiteStore]
) -> None:
    """A file or a directory that may not be written to is refused at start, not at the first append."""
    async with server(path):
        pass
    with unprivileged(path, file_mode, folder_mode), pytest.raises(StoreUnusable, match=r"read-only|Permission denied"):
        await handle(path).__aenter__()


@contextmanager
def unprivileged(path: Path, file_mode: int, folder_mode: int) -> Iterator[None]:
    """With these modes; root writes everywhere, so be nobody, who may at least get to the file."""
    modes = {folder: folder.stat().st_mode for folder in path.parents if folder.owner() == Path.home().owner()}
    for folder, mode in modes.items():
        folder.chmod(mode | 0o011)
    path.chmod(file_mode)
    path.parent.chmod(folder_mode)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for folder, mode in modes.items():
            folder.chmod(mode)


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
        assert rows(path, "SELECT count(*), max(length(data)) FROM chunk") == [(3, 1_400_000)]
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
async def test_what_must_be_is_at_disk_level(path: Path) -> None:
    """Claims with a key, seals, purges and intents to cancel are synced, an append is not; with `disk` all are."""
    levels: list[str] = []

    def watch(store: SQLiteStore) -> None:
        def saw(statement: str) -> None:
            if statement.startswith("PRAGMA synchronous"):
                levels.append(statement.rpartition(" ")[2])

        store._conn.set_trace_callback(saw)

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
            await store.probe()
            assert levels.pop() == "NORMAL"
            await call()
            assert levels.pop() == "FULL"
    async with server(path, durability="disk") as store:
        watch(store)
        await store.append(Lease(StreamId("k"), "w", 1), 0, b"x")
        assert levels == ["FULL"]


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
async def test_calls_under_way_finish_before_a_close(path: Path) -> None:
    """A close in the middle of reads and writes waits for them; what is asked afterwards is refused."""
    store, release, results = server(path), threading.Event(), list[object]()

    async def run(call: Callable[[], Awaitable[object]]) -> None:
        results.append(await call())

    async def release_when_all_wait() -> None:
        await anyio.wait_all_tasks_blocked()
        assert not results
        release.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with store:
                lease = await stream(store, "s")
                tasks.start_soon(run, partial(store._write, lambda _: release.wait(10)))
                tasks.start_soon(run, partial(store._read, lambda _: release.wait(10)))
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(run, partial(store.append, lease, 0, b"x"))
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(release_when_all_wait)
            assert results.count(1) == 3  # True twice, and the tail
            for call in (partial(store.stat, lease.stream), partial(store.append, lease, 1, b"x")):
                with pytest.raises(StoreError, match="is not open"):
                    await call()


# --- a disk that does not ---------------------------------------------------------------------------------------


async def pages(store: SQLiteStore, most: int) -> None:
    """Let the database have that many pages: a full disk, as SQLite tells it."""
    assert store._writer
    await store._writer.call(lambda batch: batch.conn.execute(f"PRAGMA max_page_count = {most}").fetchall(), disk=False)


@pytest.mark.anyio
async def test_a_full_disk_loses_nothing_acknowledged(path: Path) -> None:
    """The append that finds no space is refused as such; a seal beside it lands; with space the same append does."""
    async with server(path) as store:
        big, small = await stream(store, "big", b"kept"), await stream(store, "small", b"kept")
        await pages(store, 1)  # SQLite takes the present size: no growth at all
        refused, sealed = await together(
            store, partial(store.append, big, 4, bytes(100_000)), partial(store.seal, small, SEAL)
        )
        assert isinstance(refused, StoreFull)
        assert "no space" in refused.message
        assert (sealed.tail, sealed.sealed) == (4, True)
        assert await whole(store, "big") == b"kept"
        await pages(store, 1_000_000)
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


class FailingSync:
    """A connection whose next COMMIT fails in fsync, as a disk that lost pages does: once."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self.armed = False

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT" and self.armed:
            self.armed = False
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return self._conn.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


@pytest.mark.anyio
async def test_after_a_failed_sync_nothing_is_written(path: Path) -> None:
    """The next sync would succeed over the hole that the first one reported, so there is none before a reopen."""
    async with server(path) as store:
        assert store._writer
        lease = await stream(store, "s", b"kept")
        store._writer._conn = failing = FailingSync(store._conn)  # type: ignore[assignment]
        failing.armed = True
        for _ in range(2):
            with pytest.raises(StoreError, match="disk I/O error"):
                await store.append(lease, 4, b"lost")
        assert await whole(store, "s") == b"kept"
    async with server(path) as store:
        assert await store.append(lease, 4, b"more") == 8


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


# --- idle-time work ---------------------------------------------------------------------------------------------


async def shared_chunks(store: SQLiteStore, *names: str, step: int = 1000, steps: int = 300) -> dict[str, bytes]:
    """Streams that grow side by side, so that they share chunks; each one's bytes are its own."""
    payloads = {name: b"".join(b"<%s %06d>" % (name.encode(), i) + bytes(step) for i in range(steps)) for name in names}
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
        while await store._open_writer().keep():
            assert await whole(store, "ended") == payloads["ended"]
            assert await whole(store, "live") == payloads["live"]
        counts = "SELECT id, count(*) FROM slice JOIN stream ON stream.row = stream GROUP BY stream ORDER BY id"
        assert rows(path, counts) == [("ended", 2), ("live", 300)]
        assert len(payloads["ended"]) > PACK_BYTES
        await store.seal(Lease(StreamId("live"), "w", 1), SEAL)
        await store.tidy()
        assert await whole(store, "live") == payloads["live"]
        assert rows(path, "SELECT count(*) FROM chunk") == [(4,)]


@pytest.mark.anyio
async def test_packing_goes_on_after_a_crash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a store that was left in the middle of packing has still to do is done by the next server."""
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "wait_s", lambda _: None)  # the first server never finds itself idle
        async with server(path) as store:
            payloads = await shared_chunks(store, "s")
            await store.seal(Lease(StreamId("s"), "w", 1), SEAL)
            assert await store._open_writer().keep()
    assert rows(path, "SELECT packed FROM chore") == [(PACK_BYTES,)]
    async with server(path) as store:
        with anyio.fail_after(10):
            while rows(path, "SELECT * FROM chore"):  # noqa: ASYNC110
                await anyio.sleep(0.001)
        assert await whole(store, "s") == payloads["s"]
    assert rows(path, "SELECT count(*) FROM slice") == [(2,)]


@pytest.mark.anyio
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("forget", [False, True])
async def test_a_purge_leaves_no_byte(path: Path, packed: bool, forget: bool) -> None:
    """Not in shared rows, not in rows of its own, not in free pages, not in the WAL; a neighbour loses nothing."""
    async with server(path) as store:
        payloads = await shared_chunks(store, "erased", "kept")
        await store.seal(Lease(StreamId("erased"), "w", 1), SEAL)
        if packed:
            await store.tidy()
        await store.purge(StreamId("erased"), Gone.DELETED)
        if forget:
            await store.forget(StreamId("erased"))
        await store.tidy()
        assert b"<erased " not in content(path)
        assert b"<kept " in content(path)
        assert await whole(store, "kept") == payloads["kept"]
        assert rows(path, "SELECT count(*) FROM chore") == [(0,)]
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


# --- a killed process -------------------------------------------------------------------------------------------

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
    """Every append that was acknowledged is there, the secrets are the same, and the lock is free at once."""
    command = [sys.executable, "-c", CHILD, str(path), anyio_backend]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert child.stdout
    try:
        secrets = child.stdout.readline().strip()
        for _ in range(200):
            child.stdout.readline()
        with pytest.raises(StoreLocked, match=f"process {child.pid}"):
            await server(path).__aenter__()
    finally:
        child.send_signal(signal.SIGKILL)
        told, _ = child.communicate()
    acknowledged = int(told.split()[-1]) if told.endswith("\n") else int(told.split()[-2])
    async with server(path) as store:
        assert b"".join(store.secrets).hex() == secrets
        (info,) = await store.unsealed()
        assert info.tail >= acknowledged >= 200 * 8
        assert await whole(store, "s") == b"".join(b"%08d" % at for at in range(0, info.tail, 8))


def test_the_store_clock_ignores_the_wall_clock() -> None:
    """After the start only elapsed time counts."""
    wall, elapsed = [1000.0], [5.0]
    clock = StoreClock(wall=lambda: wall[0], elapsed=lambda: elapsed[0])
    assert clock() == 1000.0
    wall[0], elapsed[0] = 0.0, 7.5
    assert clock() == 1002.5
