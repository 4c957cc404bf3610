"""Counts on their way to the store: each arrives once, whatever the store and the clock do."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from resumestream import tallies
from resumestream.errors import StoreBusy
from resumestream.model import NewStream, StreamId, Tally
from resumestream.policy import Policy
from resumestream.stores import MemoryStore, open_store
from resumestream.tallies import Tallies

pytestmark = pytest.mark.anyio

A, B = StreamId("a"), StreamId("b")


class Told(MemoryStore):
    """Remembers what it was told; refuses while `fails`, and waits while `hold` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Mapping[StreamId, Tally]] = []
        self.changed = anyio.Event()
        self.fails: Exception | None = None
        self.hold: anyio.Event | None = None

    async def tally(self, counts: Mapping[StreamId, Tally]) -> None:
        if self.hold:
            await self.hold.wait()
        if self.fails:
            raise self.fails
        self.told.append(counts)
        self.changed.set()


async def test_counts_are_told_in_one_write() -> None:
    """Added up by stream, once, and nothing is written where nobody asked."""
    store = Told()
    counted = Tallies(store)
    await counted.flush()
    for stream, sealed in ((A, False), (A, True), (B, True), (A, True)):
        counted.asked_again(stream, sealed=sealed)
    await counted.flush()
    await counted.flush()
    assert store.told == [{A: Tally(1, 2), B: Tally(0, 1)}]


@pytest.mark.parametrize("error", [StoreBusy("busy"), RuntimeError("a store of somebody else's")])
async def test_what_the_store_refused_is_told_later(error: Exception) -> None:
    """With what came meanwhile, and said in the log only."""
    store = Told()
    counted = Tallies(store)
    counted.asked_again(A, sealed=False)
    store.fails = error
    await counted.flush()
    counted.asked_again(A, sealed=True)
    store.fails = None
    await counted.flush()
    assert store.told == [{A: Tally(1, 1)}]


async def test_the_store_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after it failed."""
    monkeypatch.setattr(tallies, "FLUSH_S", 0.01)
    store = Told()
    counted = Tallies(store)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(counted.run)
            for _ in range(2):
                counted.asked_again(A, sealed=False)
                await store.changed.wait()
                store.changed = anyio.Event()
            tasks.cancel_scope.cancel()
    assert store.told == [{A: Tally(1, 0)}] * 2


async def test_a_cancelled_flush_still_tells() -> None:
    """Half of one could be counted twice or not at all."""
    store = Told()
    store.hold = held = anyio.Event()
    counted = Tallies(store)
    counted.asked_again(A, sealed=False)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(counted.flush)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            held.set()
    await counted.flush()
    assert store.told == [{A: Tally(1, 0)}]


async def test_two_flushes_take_turns() -> None:
    """Whoever flushes before a look sees what somebody else was about to tell."""
    store = Told()
    store.hold = held = anyio.Event()
    counted = Tallies(store)
    counted.asked_again(A, sealed=False)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(counted.flush)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(_release, held)
            await counted.flush()
            assert store.told == [{A: Tally(1, 0)}]


async def test_a_store_that_hangs_holds_no_end_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of a process waits for a while, no longer; what was about to be told is given up, and the log says so."""
    monkeypatch.setattr(tallies, "PATIENCE_S", 0.01)
    store = Told()
    store.hold = anyio.Event()
    counted = Tallies(store)
    counted.asked_again(A, sealed=False)
    with anyio.fail_after(5):
        await counted.close()
    store.hold = None
    await counted.close()
    assert store.told == []
    assert "not counted" in caplog.text


async def test_a_lock_that_somebody_else_holds_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real store says that it is busy after `busy_s`, however long that is; then it is told again."""
    monkeypatch.setattr(tallies, "PATIENCE_S", 0.01)
    path = tmp_path / "streams.db"
    with anyio.fail_after(20):
        async with open_store(str(path), policy=Policy(busy_s=0.1), serving=True) as store:
            lease = await store.create(NewStream(A, "p", "u", "w", store.now(), 60, 60))
            counted = Tallies(store)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                counted.asked_again(lease.stream, sealed=False)
                await counted.flush()
                other.execute("ROLLBACK")
            counted.asked_again(lease.stream, sealed=True)
            await counted.flush()
            with closing(sqlite3.connect(path)) as other:
                assert other.execute("SELECT attaches, replays FROM tally").fetchall() == [(1, 1)]


async def _release(held: anyio.Event) -> None:
    await anyio.wait_all_tasks_blocked()
    held.set()
