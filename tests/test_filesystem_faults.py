"""What a full, broken or lying disk does to the filesystem store, and what a process that dies leaves."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from resumestream.errors import OffsetConflict, StoreError, StoreFull
from resumestream.model import Lease, StreamId
from resumestream.stores import FileStore
from resumestream.stores.files.disk import Disk

from .filesystem_files import SEAL, files, offline, server, stream, whole


class FaultyDisk(Disk):
    """Fails at the `at`-th call of `what`, and at as many after it as `times` says."""

    def __init__(self, what: str, at: int, fault: Callable[[FaultyDisk, int, bytes, int], int], times: int = 1) -> None:
        self._what, self._left, self._fault, self.times = what, at, fault, times

    def _hit(self, what: str) -> bool:
        if what != self._what:
            return False
        self._left -= 1
        return -self.times <= self._left < 0

    def write(self, fd: int, data: bytes, position: int) -> int:
        return self._fault(self, fd, data, position) if self._hit("write") else super().write(fd, data, position)

    def flush(self, fd: int) -> None:
        if self._hit("sync"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().flush(fd)

    def create(self, path: Path) -> int:
        if self._hit("create"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().create(path)


def full(disk: FaultyDisk, fd: int, data: bytes, position: int) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken(disk: FaultyDisk, fd: int, data: bytes, position: int) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def short(disk: FaultyDisk, fd: int, data: bytes, position: int) -> int:
    """Some of it, and then nothing."""
    disk.times = 2
    disk._fault = nothing
    return os.pwrite(fd, data[: len(data) * 2 // 3], position)


def nothing(disk: FaultyDisk, fd: int, data: bytes, position: int) -> int:
    return 0


def torn(disk: FaultyDisk, fd: int, data: bytes, position: int) -> int:
    """Says that nothing was written where something was."""
    os.pwrite(fd, data[: len(data) * 2 // 3], position)
    raise OSError(errno.EIO, os.strerror(errno.EIO))


async def drained(store: FileStore, leases: list[Lease], chunks: int, acknowledged: dict[StreamId, bytes]) -> int:
    """Appends to all streams side by side, again where an append failed; returns how many did."""
    failures = 0

    async def drain(number: int, lease: Lease) -> None:
        nonlocal failures
        for chunk in range(chunks):
            data = b"%d:%d;" % (number, chunk) * 9
            for _ in range(3):
                at = len(acknowledged[lease.stream])
                try:
                    await store.append(lease, at, data, 1)
                except OffsetConflict as conflict:
                    if conflict.tail != at + len(data):
                        raise
                except StoreError:
                    failures += 1
                    continue
                acknowledged[lease.stream] += data
                break

    async with anyio.create_task_group() as tasks:
        for number, lease in enumerate(leases):
            tasks.start_soon(drain, number, lease)
    return failures


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [full, broken, short, torn])
@pytest.mark.parametrize("at", range(5))
async def test_a_failed_write_costs_nothing_acknowledged(
    tmp_path: Path, fault: Callable[[FaultyDisk, int, bytes, int], int], at: int
) -> None:
    """The appends of that turn are refused, others and later ones go on, and everybody reads what was acknowledged:
    here, elsewhere, and whoever takes over."""
    with anyio.fail_after(20):
        async with server(tmp_path, disk=FaultyDisk("write", at, fault)) as store, server(tmp_path) as other:
            leases = [await stream(store) for _ in range(3)]
            acknowledged = {lease.stream: b"" for lease in leases}
            assert await drained(store, leases, 5, acknowledged) > 0
            for lease in leases:
                expected = acknowledged[lease.stream]
                assert expected.count(b";") == 45
                for reader in (store, other):
                    assert await whole(reader, lease.stream) == expected
                assert await store.verify(lease.stream) == []
            taken = await other.acquire(leases[0].stream, "taker", after=1)
            assert await whole(other, taken.stream) == acknowledged[taken.stream]
            assert (await other.seal(taken, SEAL)).events == 5
            assert (await store.seal(leases[1], SEAL)).tail == len(acknowledged[leases[1].stream])
        async with server(tmp_path) as store:
            await store.tidy()
            for id_, expected in acknowledged.items():
                assert await whole(store, id_) == expected


@pytest.mark.anyio
async def test_a_full_disk_says_so(tmp_path: Path) -> None:
    """507 and not 503, also where not even a segment can be made; once there is space, the stream goes on."""
    with anyio.fail_after(20):
        async with server(tmp_path, disk=FaultyDisk("create", 0, full)) as store:
            lease = await stream(store)
            with pytest.raises(StoreFull):
                await store.append(lease, 0, b"payload")
            assert await store.append(lease, 0, b"payload") == 7


@pytest.mark.anyio
async def test_an_append_of_nonsense_takes_no_other_with_it(tmp_path: Path) -> None:
    """What cannot be written fails, and nothing beside it counts as written that is not."""
    with anyio.fail_after(20):
        async with server(tmp_path) as store:
            bad, good = await stream(store, b"good"), await stream(store, b"good")
            results: list[int | StoreError] = []

            async def append(lease: Lease, data: Any) -> None:
                try:
                    results.append(await store.append(lease, 4, data))
                except StoreError as error:
                    results.append(error)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(append, bad, "text")
                tasks.start_soon(append, good, b"more")
            assert all(isinstance(result, StoreError) for result in results)
            for lease in (bad, good):
                assert await store.append(lease, 4, b"again") == 9
                assert await whole(store, lease.stream) == b"goodagain"


@pytest.mark.anyio
async def test_a_failed_sync_stops_the_log(tmp_path: Path) -> None:
    """The kernel forgets what it failed to write: nothing is acknowledged any more, and what was stays readable."""
    with anyio.fail_after(20):
        async with server(tmp_path, disk=FaultyDisk("sync", 4, full), durability="disk") as store:
            lease = await stream(store, b"good")
            for _ in range(2):
                with pytest.raises(StoreError):
                    await store.append(lease, 4, b"lost")
            with pytest.raises(StoreError):
                await store.seal(lease, SEAL)
            assert await whole(store, lease.stream) == b"good"


@pytest.mark.anyio
async def test_a_seal_waits_for_the_disk(tmp_path: Path) -> None:
    """Where the payload cannot be brought to disk level, there is no seal."""
    with anyio.fail_after(20):
        async with server(tmp_path, disk=FaultyDisk("sync", 1, full)) as store:
            lease = await stream(store, b"payload")
            with pytest.raises(StoreError):
                await store.seal(lease, SEAL)
            assert not (await store.stat(lease.stream)).sealed


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def cut(path: Path, position: int) -> None:
    os.truncate(path, position)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["seg", "pack"])
@pytest.mark.parametrize("damage", [flip, cut])
async def test_damage_is_reported_and_never_served(
    tmp_path: Path, kind: str, damage: Callable[[Path, int], None]
) -> None:
    """Wherever a bit flips or a file ends early: reads give the right bytes or StoreError, and verify names it."""
    chance = random.Random(5)
    payload = chance.randbytes(3000)
    with anyio.fail_after(30):
        async with server(tmp_path) as store:
            lease = await stream(store, *(payload[at : at + 100] for at in range(0, 3000, 100)))
            if kind == "pack":
                await store.seal(lease, SEAL)
                await store.tidy()
        path = max(files(tmp_path, kind), key=lambda file: file.stat().st_size)
        good = path.read_bytes()
        for _ in range(25):
            damage(path, chance.randrange(len(good)))
            async with offline(tmp_path) as store:
                try:
                    assert await whole(store, lease.stream, 700) == payload
                except StoreError:
                    assert await store.verify(lease.stream)
                else:
                    assert await store.verify(lease.stream) == []
            path.write_bytes(good)


CHILD = """
import sys, anyio
from pathlib import Path
from typing import Any
from tests.filesystem_files import server, stream
async def drain(store):
    lease, at, n = await stream(store), 0, 0
    print(lease.stream, flush=True)
    while True:
        at = await store.append(lease, at, b"%08d;" % n * 20, 1)
        n += 1
        await anyio.sleep(0.0005)
async def main():
    async with server(Path(sys.argv[1])) as store, anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(drain, store)
anyio.run(main)
"""


@pytest.mark.anyio
async def test_a_killed_owner_loses_nothing_that_was_seen(tmp_path: Path) -> None:
    """A reader in another process tails while the owner is killed: all it saw is in the log of whoever takes over."""
    chance = random.Random()
    with anyio.fail_after(60):
        async with server(tmp_path) as store:
            for _ in range(6):
                child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE)  # noqa: ASYNC220
                try:
                    assert child.stdout
                    read = child.stdout.readline
                    ids = [StreamId((await anyio.to_thread.run_sync(read)).decode().strip()) for _ in range(4)]
                    seen = dict.fromkeys(ids, b"")
                    until = anyio.current_time() + chance.uniform(0.02, 0.25)
                    while anyio.current_time() < until:
                        for id_ in ids:
                            seen[id_] += await store.read(id_, len(seen[id_]), 1 << 20)
                finally:
                    child.send_signal(signal.SIGKILL)
                    await anyio.to_thread.run_sync(child.communicate)
                for id_ in ids:
                    seen[id_] += await store.read(id_, len(seen[id_]), 1 << 20)
                    sealed = await store.seal(await store.acquire(id_, "taker", after=1), SEAL)
                    payload = await whole(store, id_)
                    assert payload.startswith(seen[id_])
                    assert len(payload) == sealed.tail == 180 * sealed.events
                    assert payload == b"".join(b"%08d;" % n * 20 for n in range(sealed.events))


@pytest.mark.anyio
async def test_the_start_opens_no_segment(tmp_path: Path) -> None:
    """Nothing is looked through at the start."""
    with anyio.fail_after(50):
        async with server(tmp_path) as store:
            leases = [await stream(store, b"payload") for _ in range(40)]
            for lease in leases:
                await store.seal(lease, SEAL)
            await store.tidy()
        looked: list[str] = []

        class Watching(Disk):
            def open(self, path: Path, *, write: bool = False) -> int:
                looked.append(path.name)
                return super().open(path, write=write)

        async with server(tmp_path, disk=Watching()) as store:
            assert await store.unsealed() == []
            assert not [name for name in looked if name.endswith(".seg")]
