"""Who reads, and what happens when nobody does."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resumestream.errors import (
    TooManyOrphans,
    TooManyStreams,
)
from resumestream.model import NewStream
from resumestream.stores import MemoryStore

from .fakes import DONE, EVENTS, FakeSource, new_stream, outgoing, running, sealed, started

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("on_disconnect", "found", "stops"),
    [("continue", True, False), ("continue", False, True), ("cancel", True, True), ("grace:0.05", True, True),
     ("grace:900", True, False)],
)  # fmt: skip
async def test_when_nobody_listens(on_disconnect: str, found: bool, stops: bool) -> None:
    """A stream that nobody can find again stops with its last reader; the others as `on_disconnect` says."""
    async with running() as hub:
        source = FakeSource()
        new = new_stream(hub.store.now, on_disconnect=on_disconnect)
        await hub.claim(new, outgoing(source), found=found)
        with hub.reads.reading(new.id):
            with hub.reads.reading(new.id):
                pass
            source.send(EVENTS[0])
            assert (await hub.reads.tail(new.id, 0).receive()).data == EVENTS[0]
        if stops:
            info = await sealed(hub, new)
            assert (info.seal and info.seal.detail) == "nobody_listens"
        else:
            source.send(DONE)
            source.end()
            assert (await sealed(hub, new)).completed


async def test_a_reader_that_comes_back_in_time_keeps_the_stream() -> None:
    """Grace is counted from the last leave."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source, on_disconnect="grace:0.3")
        with hub.reads.reading(new.id):
            pass
        with hub.reads.reading(new.id):
            with pytest.raises(TimeoutError), anyio.fail_after(0.5):
                await sealed(hub, new)
            source.send(DONE)
            source.end()
            assert (await sealed(hub, new)).completed


async def test_grace_begins_anew_with_every_leave() -> None:
    """A reader that comes and goes within one tick counts."""
    async with running() as hub:
        new = await started(hub, FakeSource(), on_disconnect="grace:0.4")
        began = anyio.current_time()
        with hub.reads.reading(new.id):
            pass
        await anyio.sleep(0.25)  # well within the grace: that it passes is what is tested
        with hub.reads.reading(new.id):
            pass
        await sealed(hub, new)
        assert anyio.current_time() - began >= 0.6


async def test_caps_on_live_streams_and_orphans() -> None:
    """Refused before the provider is called."""
    async with running(max_live_streams=2, max_orphan_drains=1) as hub:
        first = await started(hub, FakeSource())
        with hub.reads.reading(first.id):
            pass
        source = FakeSource()
        with pytest.raises(TooManyOrphans):
            await started(hub, source)
        with hub.reads.reading(first.id):
            await started(hub, FakeSource())
            with pytest.raises(TooManyStreams):
                await started(hub, source)
        assert source.calls == 0


async def test_readers_that_come_and_go_wake_no_tail() -> None:
    """Only what the drain does is news."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0])
        tail = hub.reads.tail(new.id, 0)
        await tail.receive()
        with anyio.move_on_after(0.05) as nothing_new:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tail.wait)
                await anyio.lowlevel.checkpoint()
                with hub.reads.reading(new.id):
                    pass
        assert nothing_new.cancelled_caught


async def test_a_keyless_caller_cancelled_while_it_claims_pays_for_nothing() -> None:
    """Nobody will ever know the stream's id, so its call is given up."""
    store = MemoryStore()
    async with running(store) as hub:
        source, entered, go, create = FakeSource(), anyio.Event(), anyio.Event(), store.create

        async def slow(new: NewStream, **how: Any) -> object:
            entered.set()
            await go.wait()
            return await create(new, **how)

        store.create = slow  # type: ignore[method-assign, assignment]
        new = new_stream(store.now)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.claim, new, outgoing(source))
            await entered.wait()
            tasks.cancel_scope.cancel()
        go.set()
        info = await sealed(hub, new)
        assert (info.seal and info.seal.detail, source.calls) == ("nobody_listens", 0)
