"""Streams without an owner, and the end of the Hub: everything is sealed, as truthfully as the log allows."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from resumestream.errors import (
    Draining,
    LeaseLost,
    StoreFull,
)
from resumestream.framing.messages import message_of
from resumestream.model import Attempt, Gone, Head, Lease, NewStream, Outcome, Seal, StreamInfo
from resumestream.stores import MemoryStore

from .fakes import DONE, ERROR, EVENTS, SSE, FakeSource, broken, new_stream, read, running, sealed, started

LONG = b"".join(EVENTS) * 2000
FINISHED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'

pytestmark = pytest.mark.anyio


async def test_recovery_seals_what_a_dead_process_left() -> None:
    """`interrupted`, or `cancelled` where that was asked for; the old owner is fenced off."""
    store = MemoryStore()
    async with store:
        left, stopped = new_stream(store.now), new_stream(store.now)
        lease = await store.create(left)
        await store.append(lease, 0, EVENTS[0], 1)
        await store.create(stopped)
        await store.request_cancel(stopped.id)
        async with running(store) as hub:
            infos = [await hub.stat(new.id) for new in (left, stopped)]
            assert [(info.seal and info.seal.outcome) for info in infos] == [Outcome.INTERRUPTED, Outcome.CANCELLED]
            assert await read(hub, left) == EVENTS[0]
            with pytest.raises(LeaseLost):
                await store.append(lease, len(EVENTS[0]), EVENTS[1], 1)


@pytest.mark.parametrize(
    ("logged", "outcome", "detail"),
    [
        (EVENTS[0] + DONE, Outcome.COMPLETED, "end_seen"),
        (EVENTS[0] + ERROR, Outcome.PROVIDER_ERROR, "error_event"),
        (LONG + DONE, Outcome.COMPLETED, "end_seen"),
        (EVENTS[0] + ERROR[:-2], Outcome.PROVIDER_ERROR, "error_unended"),
        (LONG + ERROR[:-1], Outcome.PROVIDER_ERROR, "error_unended"),
        (EVENTS[0] + FINISHED[:-2], Outcome.COMPLETED, "framed_end"),
        (EVENTS[0] + FINISHED, Outcome.INTERRUPTED, "process_died"),
        (LONG + DONE[:-1], Outcome.COMPLETED, "end_seen"),
        (LONG + b"data: x" + DONE, Outcome.INTERRUPTED, "process_died"),
        (b"x" * 300_000 + DONE, Outcome.INTERRUPTED, "process_died"),
        (EVENTS[0], Outcome.INTERRUPTED, "process_died"),
        (b"", Outcome.INTERRUPTED, "process_died"),
    ],
)
async def test_recovery_believes_the_log(logged: bytes, outcome: Outcome, detail: str) -> None:
    """An answer whose end is there was complete, though its process died before it could say so."""
    store = MemoryStore()
    async with store:
        new = new_stream(store.now)
        lease = await store.create(new)
        await store.begin(lease, Attempt("fake", store.now(), 200), SSE)
        if logged:
            await store.append(lease, 0, logged, 1)
        async with running(store) as hub:
            info = await hub.stat(new.id)
            assert info.seal is not None
            assert (info.seal.outcome, info.seal.detail) == (outcome, detail)


MESSAGE = message_of({":event-type": "contentBlockDelta", ":message-type": "event"}, b"{}")
LAST = message_of({":event-type": "metadata", ":message-type": "event"}, b"{}")
LINE, LAST_LINE = b'{"done":false}\n', b'{"done":true}\n'


@pytest.mark.parametrize(
    ("dialect", "content_type", "logged", "outcome"),
    [
        ("ollama", "application/x-ndjson", LINE + LAST_LINE, Outcome.COMPLETED),
        ("ollama", "application/x-ndjson", LINE * 30_000 + LAST_LINE, Outcome.COMPLETED),
        ("ollama", "application/x-ndjson", LINE, Outcome.INTERRUPTED),
        ("ollama", "application/json", LINE + LAST_LINE, Outcome.INTERRUPTED),
        ("bedrock", "application/vnd.amazon.eventstream", MESSAGE + LAST, Outcome.COMPLETED),
        ("bedrock", "application/vnd.amazon.eventstream", MESSAGE * 10_000 + LAST, Outcome.INTERRUPTED),
        ("bedrock", "application/vnd.amazon.eventstream", MESSAGE, Outcome.INTERRUPTED),
    ],
)
async def test_recovery_reads_lines_and_messages(
    dialect: str, content_type: str, logged: bytes, outcome: Outcome
) -> None:
    """As it does events; messages can only be read from the first one on."""
    store = MemoryStore()
    async with store:
        new = new_stream(store.now, dialect=dialect)
        lease = await store.create(new)
        await store.begin(lease, Attempt("fake", store.now(), 200), Head(200, (("content-type", content_type),)))
        await store.append(lease, 0, logged)
        async with running(store) as hub:
            info = await hub.stat(new.id)
            assert info.seal is not None
            assert info.seal.outcome == outcome


async def test_one_commit_ends_many() -> None:
    """A start after a crash does not wait for each stream by itself."""
    store, began, both = MemoryStore(), 0, anyio.Event()
    seal = store.seal

    async def slow(lease: Lease, how: Seal) -> StreamInfo:
        nonlocal began
        began += 1
        if began == 2:
            both.set()
        await both.wait()
        return await seal(lease, how)

    async with store:
        left = [new_stream(store.now) for _ in range(40)]
        for new in left:
            await store.create(new)
        store.seal = slow  # type: ignore[method-assign]
        with anyio.fail_after(10):
            async with running(store) as hub:
                assert all([(await hub.stat(new.id)).sealed for new in left])


async def test_a_stream_that_was_given_up_is_recovered_without_a_restart() -> None:
    """Its late callers are asked to come again, then told how it ended; nobody waits for ever."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source, key="k")
        source.send(EVENTS[0])
        assert (await hub.reads.tail(new.id, 0).receive()).data == EVENTS[0]
        on = broken(store, "append", "seal", error=StoreFull("full"))
        source.send(EVENTS[1])
        await source.closed.wait()
        with pytest.raises(Draining) as refused:
            await hub.answered(new.id)
        assert refused.value.retry
        on["on"] = False
        info = await sealed(hub, new)
        assert (info.seal and info.seal.detail) == "given_up"
        assert await read(hub, new) == EVENTS[0]
        assert (await hub.answered(new.id)).sealed


async def test_drain_lets_streams_finish_cuts_readers_and_admits_nothing() -> None:
    """What ends in time is completed, the rest is sealed `interrupted`."""
    async with running(drain_s=0.3) as hub:
        quick, slow = FakeSource(), FakeSource()
        fast, late = await started(hub, quick), await started(hub, slow)
        tail = hub.reads.tail(fast.id, 0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.drain)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(Draining):
                await tail.receive()
            with pytest.raises(Draining):
                await started(hub, FakeSource())
            quick.send(EVENTS[0] + DONE)
            quick.end()
        infos = [await hub.stat(new.id) for new in (fast, late)]
        assert [(info.seal and info.seal.detail) for info in infos] == ["end_seen", "shutdown"]
        assert slow.closed.is_set()


async def test_a_hub_that_is_cancelled_seals_what_runs() -> None:
    """Nothing is left for recovery when there was time to write."""
    store = MemoryStore()
    async with store:
        new: NewStream | None = None
        with anyio.CancelScope() as scope:
            async with running(store) as hub:
                new = await started(hub, FakeSource())
                await hub.answered(new.id)
                scope.cancel()
                await anyio.sleep_forever()
        assert new is not None
        info = await store.stat(new.id)
        assert (info.seal and info.seal.detail) == "shutdown"


async def test_a_cancelled_hub_leaves_a_complete_answer_complete() -> None:
    """Also while it still waits for the connection's end."""
    store = MemoryStore()
    async with store:
        with anyio.CancelScope() as scope:
            async with running(store, settle_s=30) as hub:
                source = FakeSource()
                new = await started(hub, source)
                source.send(DONE)
                await hub.reads.tail(new.id, 0).receive()
                scope.cancel()
                await anyio.sleep_forever()
        assert (await store.stat(new.id)).completed


async def test_retention_does_not_wait_for_a_source_to_close() -> None:
    """Once sealed, the store's word counts, though the drain is not over."""
    now = 1000.0
    async with running(MemoryStore(clock=lambda: now)) as hub:
        source, may_close = FakeSource(), anyio.Event()

        async def slow() -> None:
            with anyio.CancelScope(shield=True):
                await may_close.wait()

        source.aclose = slow  # type: ignore[method-assign]
        new = await started(hub, source)
        source.send(DONE)
        source.end()
        await sealed(hub, new)
        now += 61
        info = await hub.stat(new.id)
        may_close.set()
        assert info.gone is Gone.EXPIRED
