"""The filesystem store between two steps of its own: reads beside idle-time work, appends beside a move."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from resumestream.errors import StreamSealed
from resumestream.model import Gone, Lease
from resumestream.policy import Policy
from resumestream.stores import FileStore
from resumestream.stores.files import log
from resumestream.stores.files.disk import Disk

from .filesystem_files import SEAL, files, server, stream, whole

LIMIT_S = 20


@pytest.mark.anyio
@pytest.mark.parametrize("ask", ["read", "verify", "audit"])
async def test_what_is_packed_while_it_is_looked_for_is_no_damage(tmp_path: Path, ask: str) -> None:
    """The catalog was asked before, the files are looked at after the segments went."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store, server(tmp_path) as other:
            lease = await stream(store, b"payload")
            await store.seal(lease, SEAL)
            name = "audit" if ask == "audit" else "read"
            look, packed = getattr(other._files, name), list[bool]()

            def packed_first(*args: Any) -> Any:
                if not packed:
                    packed.append(True)
                    anyio.from_thread.run(store.tidy)
                    assert files(tmp_path, "seg") == []
                return look(*args)

            setattr(other._files, name, packed_first)
            if ask == "read":
                assert await other.read(lease.stream, 0, 100) == b"payload"
            else:
                assert await other.verify(None if ask == "audit" else lease.stream) == []
            assert packed


class SlowSyncs(Disk):
    """A sync of a segment ends when it may."""

    def __init__(self) -> None:
        self.slow = False
        self.begun, self.may_end = threading.Event(), threading.Event()

    def flush(self, fd: int) -> None:
        if self.slow and self.begun.is_set() is False:
            self.begun.set()
            assert self.may_end.wait(LIMIT_S)
        super().flush(fd)


@pytest.mark.anyio
async def test_an_append_is_not_fenced_off_by_a_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream goes on in another segment while an append waits for the disk: that and those after it are there."""
    monkeypatch.setattr(log, "SEGMENT_BYTES", 100)
    now, disk = [1000.0], SlowSyncs()
    policy = Policy(relocate_s=10, durability="disk")
    results: list[int] = []
    with anyio.fail_after(LIMIT_S):
        async with FileStore(tmp_path, policy=policy, serving=True, clock=lambda: now[0], disk=disk) as store:
            lease = await stream(store, b"a" * 200)
            await stream(store, b"in the next segment")
            now[0] += 5
            disk.slow = True

            async def append(at: int) -> None:
                results.append(await store.append(lease, at, b"b" * 10))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(append, 200)
                assert await anyio.to_thread.run_sync(disk.begun.wait, LIMIT_S)
                tasks.start_soon(store.tidy)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(append, 210)
                await anyio.wait_all_tasks_blocked()
                disk.may_end.set()
            assert results == [210, 220]
            assert await whole(store, lease.stream) == b"a" * 200 + b"b" * 20


@pytest.mark.anyio
async def test_a_seal_comes_through_where_others_never_pause(tmp_path: Path) -> None:
    """It waits for what was asked before it, and not for a turn in which nobody appends."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path, durability="disk") as store:
            busy, ending = [await stream(store) for _ in range(3)], await stream(store, b"payload")

            async def drain(lease: Lease) -> None:
                at = 0
                while True:
                    try:
                        at = await store.append(lease, at, b"x")
                    except StreamSealed:
                        return
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as tasks:
                for lease in busy:
                    tasks.start_soon(drain, lease)
                await store.seal(ending, SEAL)
                tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_segment_is_not_left_in_the_middle_of_a_write(tmp_path: Path) -> None:
    """Records are where they were framed for, also where the segment is retired in that moment."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store:
            await stream(store, b"payload")
            written = store._log
            assert written
            begun = written.begin()
            written.retire(written.segment)
            assert written.write([b"abc"]) == 3
            assert written.end == begun + 3
            assert written.begin() > begun + 3


class DiesErasing(Disk):
    """The process ends in the middle of what it overwrites, and of what it packs."""

    def write_all(self, fd: int, data: bytes, position: int) -> None:
        os.pwrite(fd, data[: len(data) // 2], position)
        raise OSError("dead")


@pytest.mark.anyio
async def test_what_is_half_erased_hides_nothing(tmp_path: Path) -> None:
    """Who takes over what a dead owner wrote behind it finds all of that."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path, disk=DiesErasing()) as store:
            doomed, live = await stream(store, b"secret" * 100), await stream(store, b"first")
            await store.append(live, 5, b"second")
            await store.seal(doomed, SEAL)
            await store.purge(doomed.stream, Gone.DELETED)
            await store.tidy()
        assert any(bytes(100) in path.read_bytes() for path in files(tmp_path, "seg"))
        async with server(tmp_path) as store:
            lease = await store.acquire(live.stream, "taker", after=1)
            assert await store.append(lease, 11, b"third") == 16
            assert await whole(store, live.stream) == b"firstsecondthird"
