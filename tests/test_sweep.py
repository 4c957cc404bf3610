"""Retention that time drives, on a clock that the test turns."""

from __future__ import annotations

import logging

import anyio
import pytest

from resumestream.errors import StoreBusy, StoreError, StreamNotFound
from resumestream.eviction import Eviction
from resumestream.model import Attempt, Gone, Lease, Outcome, Query, Seal, State, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.stores import MemoryStore
from resumestream.sweep import AGAIN_S, BATCH, PRUNE_S, SWEEP_S, Sweep

from .fakes import new_stream

pytestmark = pytest.mark.anyio
SEAL = Seal(Outcome.COMPLETED, "end", "It ended.")


class Yard:
    """A memory store at `at` seconds, what is read here, and a sweep over it."""

    def __init__(self, store: type[MemoryStore] = MemoryStore, **policy: float) -> None:
        self.at = 1000.0
        self.store = store(clock=lambda: self.at)
        self.read_here: set[StreamId] = set()
        self.evicted: list[StreamInfo] = []
        eviction = Eviction(self.store, self.evicted.append)
        self.sweep = Sweep(self.store, Policy(**policy), eviction, reading=self.read_here.__contains__)  # type: ignore[arg-type]

    async def live(self, **changes: object) -> Lease:
        return await self.store.create(new_stream(self.store.now, retain_s=60.0, tombstone_s=600.0, **changes))

    async def ended(self, size: int = 1, **changes: object) -> StreamId:
        lease = await self.live(**changes)
        await self.store.append(lease, 0, bytes(size))
        await self.store.seal(lease, SEAL)
        return lease.stream

    async def state(self, stream: StreamId) -> State:
        return (await self.store.stat(stream)).state

    async def swept(self, seconds: float) -> float:
        self.at += seconds
        with anyio.fail_after(10):
            return await self.sweep.step()


async def test_payloads_go_when_they_expire_and_records_after_that() -> None:
    """A live stream stays; what expired is dropped then, and forgotten when its tombstone ran out."""
    yard = Yard()
    live, stream = await yard.live(), await yard.ended()
    await yard.swept(59)
    assert await yard.state(stream) is State.SEALED
    assert await yard.swept(1) == SWEEP_S
    tombstone = await yard.store.stat(stream)
    assert (tombstone.gone, tombstone.gone_at) == (Gone.EXPIRED, 1060)
    await yard.swept(599)
    assert await yard.store.stat(stream) == tombstone
    await yard.swept(1)
    with pytest.raises(StreamNotFound):
        await yard.store.stat(stream)
    assert await yard.state(live.stream) is State.PENDING


async def test_an_expiry_does_not_cut_a_read() -> None:
    """The payload goes when the read ends, at the latest `erase_s` later."""
    yard = Yard(erase_s=100)
    short, long = await yard.ended(), await yard.ended()
    yard.read_here |= {short, long}
    await yard.swept(60)
    assert [await yard.state(stream) for stream in (short, long)] == [State.SEALED] * 2
    yard.read_here.remove(short)
    await yard.swept(1)
    assert [await yard.state(stream) for stream in (short, long)] == [State.EXPIRED, State.SEALED]
    await yard.swept(98)
    assert await yard.state(long) is State.SEALED
    await yard.swept(1)
    assert await yard.state(long) is State.EXPIRED


async def test_of_peers_readers_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among several processes a payload stays until no read that was open before can go on."""
    yard = Yard(erase_s=100)
    monkeypatch.setattr(yard.store.peers, "alone", lambda: False)
    stream = await yard.ended()
    await yard.swept(159)
    assert await yard.state(stream) is State.SEALED
    await yard.swept(1)
    assert await yard.state(stream) is State.EXPIRED


async def test_batches_are_bounded() -> None:
    """A great many are done step by step, at once one after another."""
    yard = Yard()
    for _ in range(2 * BATCH + 1):
        await yard.ended()
    left: list[tuple[float, int]] = []
    for seconds in (60, 0, 0):
        wait = await yard.swept(seconds)
        left.append((wait, (await yard.store.kept()).payload_bytes))
    assert left == [(0, BATCH + 1), (0, 1), (SWEEP_S, 0)]


async def test_many_open_reads_hide_nothing_behind_them() -> None:
    """What is due after them is done all the same."""
    yard = Yard()
    for _ in range(2 * BATCH):
        yard.read_here.add(await yard.ended())
    yard.at += 1
    stream = await yard.ended()
    for seconds in (60, 1, 1):
        await yard.swept(seconds)
    assert await yard.state(stream) is State.EXPIRED
    assert (await yard.store.kept()).payload_bytes == 2 * BATCH


class Failing(MemoryStore):
    """Raises what is said of a stream, or of a method."""

    said: dict[str, Exception]

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        if error := self.said.get(stream):
            raise error
        return await super().purge(stream, why)

    async def due(self, limit: int) -> list[StreamInfo]:
        if error := self.said.get("due"):
            raise error
        return await super().due(limit)


@pytest.mark.parametrize("error", [StoreError("damaged"), RuntimeError("a bug")], ids=repr)
async def test_one_bad_stream_stops_nobody(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """It is told in the log, passed over, and tried again."""
    yard = Yard(Failing)
    assert isinstance(yard.store, Failing)
    bad, good = await yard.ended(), await yard.ended()
    yard.store.said = {bad: error}
    with caplog.at_level(logging.WARNING):
        await yard.swept(60)
        await yard.swept(1)
    assert [bad in record.getMessage() for record in caplog.records] == [True]
    assert [await yard.state(stream) for stream in (bad, good)] == [State.SEALED, State.EXPIRED]
    yard.store.said = {}
    await yard.swept(AGAIN_S)
    assert [await yard.state(stream) for stream in (bad, good)] == [State.EXPIRED] * 2


@pytest.mark.parametrize("error", [StoreBusy("another process writes"), RuntimeError("a bug")], ids=repr)
async def test_a_failing_part_stops_no_other(error: Exception) -> None:
    """Nothing is raised; eviction and the ledger go on."""
    yard = Yard(Failing, max_total_bytes=10, ledger_s=30)
    assert isinstance(yard.store, Failing)
    yard.store.said = {"due": error}
    await called(yard)
    await yard.ended(11)
    await yard.swept(31)
    assert len(yard.evicted) == 1
    assert await yard.store.ledger() == []


async def called(yard: Yard) -> None:
    lease = await yard.live()
    await yard.store.begin(lease, Attempt("u", yard.at), None)
    await yard.store.seal(lease, SEAL)


async def test_live_streams_that_grow_push_the_oldest_out() -> None:
    """Down to the cap; with nothing left to evict it goes on."""
    yard = Yard(max_total_bytes=100)
    live, old, young = await yard.live(), await yard.ended(30), await yard.ended(30)
    await yard.store.append(live, 0, bytes(40))
    await yard.swept(0)
    assert not yard.evicted
    await yard.store.append(live, 40, b"x")
    await yard.swept(0)
    assert [info.id for info in yard.evicted] == [old]
    await yard.store.append(live, 41, bytes(100))
    assert await yard.swept(0) == SWEEP_S
    assert [info.id for info in yard.evicted] == [old, young]
    assert await yard.state(live.stream) is State.STREAMING


async def test_the_ledger_outlives_payload_and_record() -> None:
    """A call stays `ledger_s`, whatever became of its stream."""
    yard = Yard(ledger_s=10_000)
    await called(yard)
    await yard.swept(60)
    await yard.swept(600)
    assert await yard.store.find(Query()) == []
    await yard.swept(9_340)
    assert len(await yard.store.ledger()) == 1
    await yard.swept(PRUNE_S)
    assert await yard.store.ledger() == []


async def test_what_was_erased_leaves_the_disk_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is told to tidy up twice in `erase_s`, also one that is never idle; a failure is tried again."""
    yard, waited, tidied = Yard(erase_s=100), list[float](), list[int]()

    async def tidy() -> None:
        tidied.append(len(waited))
        if len(tidied) == 2:
            raise StoreBusy("another process writes")

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 4:
            raise Enough

    monkeypatch.setattr(yard.store, "tidy", tidy)
    monkeypatch.setattr("resumestream.sweep.anyio.sleep", sleep)
    with pytest.raises(Enough):
        await yard.sweep.tidy()
    assert waited == [50, 50, 50, 50]
    assert tidied == [1, 2, 3]


class Enough(Exception):
    """Ends what goes on for ever."""


@pytest.mark.parametrize("racing", ["purge", "forget"])
async def test_somebody_else_was_faster(racing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several sweep one store: what another did in between is no failure."""
    yard = Yard()
    stream = await yard.ended()
    due = yard.store.due

    async def late(limit: int) -> list[StreamInfo]:
        found = await due(limit)
        for info in found:
            await yard.store.purge(info.id, Gone.DELETED)
            if racing == "forget":
                await yard.store.forget(info.id)
        return found

    monkeypatch.setattr(yard.store, "due", late)
    assert await yard.swept(60) == SWEEP_S
    assert not yard.sweep._aside
    if racing == "purge":
        assert (await yard.store.stat(stream)).gone is Gone.DELETED


async def test_it_runs_until_it_is_cancelled() -> None:
    """In a task group of the Hub's, whatever fails."""
    yard = Yard(Failing)
    assert isinstance(yard.store, Failing)
    yard.store.said = {"due": RuntimeError("a bug")}
    stream = await yard.ended()
    purged = watch(yard.store, "purge")
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(yard.sweep.run)
            await anyio.wait_all_tasks_blocked()
            yard.store.said = {}
            yard.at += 60
            await purged.wait()
            tasks.cancel_scope.cancel()
    assert await yard.state(stream) is State.EXPIRED


def watch(store: MemoryStore, method: str) -> anyio.Event:
    """Set once the method has returned."""
    done, real = anyio.Event(), getattr(store, method)

    async def call(*args: object) -> object:
        result = await real(*args)
        done.set()
        return result

    setattr(store, method, call)
    return done
