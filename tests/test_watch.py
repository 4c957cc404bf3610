"""What a process heeds and what it leaves alone, with a store that answers when the test says so."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from resumestream.endings import Ending
from resumestream.errors import StoreBusy, TooManyStreams
from resumestream.model import Gone, Lease, NewStream, Outcome, Seal, StreamId, StreamInfo
from resumestream.stores import MemoryStore

from .fakes import DONE, EVENTS, FakeSource, broken, new_stream, outgoing, running, sealed, started

pytestmark = pytest.mark.anyio


class SlowCreate(MemoryStore):
    """Its creates are in flight until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = anyio.Event(), anyio.Event()

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        self.asked.set()
        await self.go.wait()
        return await super().create(new, replaces=replaces)


class SlowSeal(MemoryStore):
    """Its seals are there for a while before whoever asked for them knows."""

    def __init__(self) -> None:
        super().__init__()
        self.done, self.go = anyio.Event(), anyio.Event()

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        info = await super().seal(lease, seal)
        self.done.set()
        await self.go.wait()
        return info


class SlowStat(MemoryStore):
    """While `slow`, what it answers is old by then."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.asked, self.go = anyio.Event(), anyio.Event()

    async def stat(self, stream: StreamId) -> StreamInfo:
        info = await super().stat(stream)
        if self.slow:
            self.asked.set()
            await self.go.wait()
        return info


class Counted(MemoryStore):
    """Tells when it was asked what a worker holds."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = anyio.Event()

    async def held(self, worker: str) -> dict[StreamId, bool]:
        held = await super().held(worker)
        self.looked.set()
        return held


async def test_a_stream_that_is_being_created_was_not_taken() -> None:
    """The store does not hold it yet; that is no takeover."""
    store = SlowCreate()
    async with running(store) as hub:
        source = FakeSource()
        new = new_stream(hub.store.now, worker=hub.worker)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(hub.claim, new, outgoing(source), found=True))
            await store.asked.wait()
            await hub._watch._heed()
            store.go.set()
        source.send(EVENTS[0] + DONE)
        source.end()
        assert (await sealed(hub, new)).completed


async def test_a_drain_that_was_taken_lets_go_though_its_provider_is_silent() -> None:
    """It need not try to append to learn it."""
    store = Counted()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        await source.opened.wait()
        await store.acquire(new.id, "another", after=1)
        hub.look()
        await source.closed.wait()


async def test_a_word_makes_it_look_at_once() -> None:
    """Not at the next half second."""
    store = Counted()
    async with running(store) as hub:
        await started(hub, FakeSource())
        for _ in range(3):
            await store.looked.wait()
            store.looked = anyio.Event()
            began = anyio.current_time()
            hub.look()
            await store.looked.wait()
            assert anyio.current_time() - began < 0.4
            store.looked = anyio.Event()


async def test_a_reader_of_a_deleted_stream_is_refused_where_it_is_drained() -> None:
    """Before the drain has noticed that somebody else dropped it."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0])
        await hub.reads.tail(new.id, 0).receive()
        info = await store.stat(new.id)
        lease = await store.acquire(new.id, "another", after=info.epoch)
        await store.seal(lease, Ending.of("deleted").seal)
        await store.purge(new.id, Gone.DELETED)
        assert (await hub.stat(new.id)).gone is Gone.DELETED


async def test_a_rescue_that_failed_in_the_middle_is_tried_again() -> None:
    """The stream is ours by then, and no lost worker's."""
    store = MemoryStore()
    async with running(store) as hub:
        new = new_stream(hub.store.now, worker="dead")
        on = broken(store, "seal", error=StoreBusy("busy"))
        await store.create(new)
        while (await store.stat(new.id)).epoch == 1:  # noqa: ASYNC110 the rescue tells nobody
            await anyio.sleep(0.01)
        on["on"] = False
        info = await sealed(hub, new)
        assert info.seal
        assert info.seal.outcome is Outcome.INTERRUPTED


async def test_callers_that_leave_before_the_create_count() -> None:
    """Their streams are coming, so the cap holds for whoever is next."""
    store = SlowCreate()
    async with running(store, max_live_streams=2) as hub:
        async with anyio.create_task_group() as tasks:
            for number in range(2):
                tasks.start_soon(partial(hub.claim, new_stream(hub.store.now, key=str(number)), outgoing(FakeSource())))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        refused = list[TooManyStreams]()

        async def late() -> None:
            try:
                await hub.claim(new_stream(hub.store.now, key="late"), outgoing(FakeSource()))
            except TooManyStreams as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(late)
            await anyio.wait_all_tasks_blocked()
            store.go.set()
        assert refused
        assert len(await store.unsealed()) == 2


async def test_a_seal_that_another_look_saw_first_is_no_takeover(caplog: pytest.LogCaptureFixture) -> None:
    """The store has it before the drain hears that it does."""
    store = SlowSeal()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0] + DONE)
        source.end()
        await store.done.wait()
        await hub._watch._heed()
        store.go.set()
        assert (await sealed(hub, new)).completed
    assert "another owner" not in caplog.text


async def test_a_seal_during_a_look_is_no_lost_owner() -> None:
    """The store's answer is from before it, and the drain has gone by the time it comes."""
    store = SlowStat()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        async with anyio.create_task_group() as tasks:
            answers = list[StreamInfo]()

            async def ask() -> None:
                answers.append(await hub.answered(new.id))

            store.slow = True
            tasks.start_soon(ask)
            await store.asked.wait()
            store.slow = False
            source.send(EVENTS[0] + DONE)
            source.end()
            while hub._live:  # noqa: ASYNC110 its end tells nobody
                await anyio.sleep(0.01)
            store.go.set()
        assert answers[0].completed
