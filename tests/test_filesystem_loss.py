"""What the filesystem store makes of a lost sync, of one failure among many, and of what a power cut leaves."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from resumestream.errors import StoreBusy, StoreError, StoreFull
from resumestream.model import NewStream, StreamId
from resumestream.stores.files import log
from resumestream.stores.files.disk import Disk

from .filesystem_files import SEAL, files, offline, server, stream, whole

LIMIT_S = 20


class Failing(Disk):
    """Fails on files whose name ends so, once it is told to, as often as it is told."""

    def __init__(self, call: str, ending: str, code: int = errno.EIO) -> None:
        self._call, self._ending, self._code = call, ending, code
        self.times = 0
        self._paths: dict[int, Path] = {}

    def _hit(self, call: str, name: str) -> None:
        if self.times and call == self._call and name.endswith(self._ending):
            self.times -= 1
            raise OSError(self._code, os.strerror(self._code))

    def create(self, path: Path) -> int:
        self._hit("create", path.name)
        return super().create(path)

    def write(self, fd: int, data: bytes, position: int) -> int:
        self._hit("write", os.readlink(f"/proc/self/fd/{fd}"))
        return super().write(fd, data, position)

    def flush(self, fd: int) -> None:
        self._hit("flush", os.readlink(f"/proc/self/fd/{fd}"))
        super().flush(fd)


linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it is told by /proc which file is synced")


@linux
@pytest.mark.anyio
@pytest.mark.parametrize("ending", [".seg", ".pack", "/segments", "/packs"])
async def test_a_lost_sync_ends_all_writing(tmp_path: Path, ending: str) -> None:
    """Of a segment, a pack or a directory: the next sync would say that what is lost is there. Reads go on, and who
    opens the store anew goes on."""
    disk = Failing("flush", ending)
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path, disk=disk) as store:
            live, ended = await stream(store, b"live"), await stream(store, b"ended")
            if "seg" in ending:
                disk.times = 1
                with pytest.raises(StoreError):
                    await store.seal(ended, SEAL)
            else:
                disk.times = 1
                await store.seal(ended, SEAL)
                await store.tidy()
            assert not disk.times
            for _ in range(2):
                with pytest.raises(StoreError, match="opened again"):
                    await store.append(live, 4, b"lost")
                with pytest.raises(StoreError, match="opened again"):
                    await store.create(NewStream(StreamId("new"), "p", "u", "w", store.now(), 60, 60))
                with pytest.raises(StoreError, match="opened again"):
                    await store.seal(live, SEAL)
            await store.tidy()
            assert await whole(store, ended.stream) == b"ended"
            assert files(tmp_path, "seg")
        async with server(tmp_path) as store:
            assert (await store.seal(await store.acquire(live.stream, "taker", after=1), SEAL)).tail == 4
            assert await whole(store, ended.stream) == b"ended"
            assert await store.verify() == []


@linux
@pytest.mark.anyio
async def test_a_taker_that_cannot_sync_takes_nothing(tmp_path: Path) -> None:
    """What it found might not be there after a power cut."""
    disk = Failing("flush", ".seg")
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store, server(tmp_path, disk=disk) as other:
            lease = await stream(store, b"payload")
            disk.times = 1
            with pytest.raises(StoreError):
                await other.acquire(lease.stream, "taker", after=1)
            with pytest.raises(StoreError, match="opened again"):
                await other.acquire(lease.stream, "taker", after=2)
            taken = await store.acquire(lease.stream, "third", after=2)
            assert await store.append(taken, 7, b"more") == 11


@linux
@pytest.mark.anyio
async def test_a_taker_that_died_hides_nothing(tmp_path: Path) -> None:
    """It had not found out how far the stream came. What was acknowledged is read, found right, and taken by another;
    while it lives, a read waits for it."""
    disk = Failing("flush", ".seg")
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store:
            lease = await stream(store, b"payload")
            async with server(tmp_path, disk=disk) as taker:
                disk.times = 1
                with pytest.raises(StoreError):
                    await taker.acquire(lease.stream, "taker", after=1)
                with pytest.raises(StoreBusy):
                    await store.stat(lease.stream)
            for reader in (store, offline(tmp_path)):
                async with contextlib.AsyncExitStack() as stack:
                    if reader is not store:
                        await stack.enter_async_context(reader)
                    assert (await reader.stat(lease.stream)).tail == 7
                    assert await whole(reader, lease.stream) == b"payload"
                    assert await reader.verify() == await reader.verify(lease.stream) == []
            taken = await store.acquire(lease.stream, "third", after=2)
            assert await store.append(taken, 7, b"more") == 11


@linux
@pytest.mark.anyio
async def test_an_end_in_order_leaves_nothing_to_a_power_cut(tmp_path: Path) -> None:
    """The catalog is told how far a live stream came, at disk level: its payload is at disk level before."""

    class Watching(Disk):
        synced = 0

        def flush(self, fd: int) -> None:
            path = os.readlink(f"/proc/self/fd/{fd}")
            super().flush(fd)
            if path.endswith(".seg"):
                self.synced = os.fstat(fd).st_size

    disk = Watching()
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path, disk=disk) as store:
            lease = await stream(store, b"payload")
            assert not disk.synced
        (segment,) = files(tmp_path, "seg")
        assert disk.synced == segment.stat().st_size
        async with offline(tmp_path) as store:
            assert (await store.stat(lease.stream)).tail == 7


@linux
@pytest.mark.anyio
async def test_one_stream_that_cannot_be_packed_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told, it stays readable where it is, and all others are packed."""
    disk = Failing("write", ".pack")
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path, disk=disk) as store:
            leases = [await stream(store, b"%d" % number * 500) for number in range(3)]
            disk.times = 1
            with caplog.at_level(logging.ERROR, "resumestream.store"):
                for lease in leases:
                    await store.seal(lease, SEAL)
                await store.tidy()
            assert sum("set aside" in record.message for record in caplog.records) == 1
            assert not disk.times
            for number, lease in enumerate(leases):
                assert await whole(store, lease.stream) == b"%d" % number * 500
            assert (await store.append(await stream(store), 0, b"x")) == 1
        async with server(tmp_path) as store:
            await store.tidy()
            for number, lease in enumerate(leases):
                assert await whole(store, lease.stream) == b"%d" % number * 500


@pytest.mark.anyio
async def test_a_segment_that_cannot_be_made_breaks_no_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it is found from there, and what was before it, too."""
    monkeypatch.setattr(log, "SEGMENT_BYTES", 100)
    disk = Failing("create", ".seg", errno.ENOSPC)
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path, disk=disk) as store:
            lease = await stream(store, b"a" * 200)
            disk.times = 1
            with pytest.raises(StoreFull):
                await store.append(lease, 200, b"b" * 10)
            assert await store.append(lease, 200, b"b" * 10) == 210
            assert await whole(store, lease.stream) == b"a" * 200 + b"b" * 10
            assert await store.verify() == []


def short(page: Path) -> None:
    os.truncate(page, 0)


def zeros(page: Path) -> None:
    page.write_bytes(bytes(4096))


def of_another_boot(page: Path) -> None:
    """And of an earlier moment, as what is mapped may be."""
    data = bytearray(page.read_bytes())
    data[5 * 8 : 6 * 8] = b"another!"
    data[8 * 8 : 9 * 8] = bytes(8)
    page.write_bytes(data)


@pytest.mark.anyio
@pytest.mark.parametrize("damage", [short, zeros, of_another_boot, Path.unlink])
async def test_what_is_at_disk_level_is_read_without_its_owners_page(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """After a power cut nobody has to take a stream over before what was acknowledged is there again."""
    before, after = tmp_path / "before", tmp_path / "after"
    with anyio.fail_after(LIMIT_S):
        async with server(before, durability="disk") as store:
            lease = await stream(store, b"first", b"second")
            shutil.copytree(
                before, after, ignore=lambda _, names: [it for it in names if it.endswith((".sock", "-shm"))]
            )
        for page in after.rglob("*.page"):
            damage(page)
        async with offline(after) as store:
            assert (await store.stat(lease.stream)).tail == 11
            assert await whole(store, lease.stream) == b"firstsecond"
        async with server(after) as store:
            taken = await store.acquire(lease.stream, "taker", after=1)
            assert await store.append(taken, 11, b"third") == 16
