"""Claims, drains, tails and ends, on a real Hub with a memory store and a provider that the test plays."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resumestream.claims import Attach, Start, Terms, decide
from resumestream.errors import (
    Draining,
    LeaseLost,
    StoreBusy,
    StoreError,
    StoreFull,
    StreamGone,
    StreamNotFound,
    TooManyOrphans,
    TooManyStreams,
    UpstreamLost,
    UpstreamUnreachable,
)
from resumestream.hub import Hub
from resumestream.live import Window
from resumestream.model import Attempt, Binding, Gone, Head, NewStream, Outcome, State, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.stores import MemoryStore

from .fakes import DONE, EVENTS, SSE, FakeSource, new_stream, outgoing

LONG = b"".join(EVENTS) * 2000
REFUSED = Head(429, (("retry-after", "7"),))
ERROR = b'data: {"error":{"message":"no"}}\n\n'

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(store: MemoryStore | None = None, **policy: object) -> AsyncIterator[Hub]:
    """A Hub under a deadline."""
    with anyio.fail_after(10):
        async with Hub(store or MemoryStore(), Policy(**{"drain_s": 0, "settle_s": 0.05, **policy})) as hub:  # type: ignore[arg-type]
            yield hub


async def started(hub: Hub, source: FakeSource, **changes: object) -> NewStream:
    new = new_stream(hub.store.now, **changes)
    claim = await hub.claim(new, outgoing(source), found=True)
    assert claim.started
    return new


async def sealed(hub: Hub, new: NewStream) -> StreamInfo:
    """The record once it is sealed."""
    tail = hub.tail(new.id, 0)
    while (page := await tail.receive()).info is None:
        pass
    return page.info


async def read(hub: Hub, new: NewStream, at: int = 0) -> bytes:
    tail, data = hub.tail(new.id, at), b""
    while True:
        try:
            data += (await tail.receive()).data
        except anyio.EndOfStream:
            return data


async def test_a_stream_from_provider_to_reader() -> None:
    """Readers at any time and from any offset get the same bytes, live and after."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        tail = hub.tail(new.id, 0)
        source.send(EVENTS[0])
        assert (await tail.receive()).data == EVENTS[0]
        assert (await hub.stat(new.id)).state is State.STREAMING
        source.send(EVENTS[1][:10])
        source.send(EVENTS[1][10:] + DONE)
        source.end()
        page = await tail.receive()
        while page.info is None:
            page = await tail.receive()
        assert (page.info.seal and page.info.seal.outcome) is Outcome.COMPLETED
        with pytest.raises(anyio.EndOfStream):
            await tail.receive()
        whole = EVENTS[0] + EVENTS[1] + DONE
        for at in range(len(whole) + 1):
            assert await read(hub, new, at) == whole[at:]
        assert source.calls == 1
        assert source.closed.is_set()


async def test_half_an_event_is_never_shown() -> None:
    """Not while it is live, and not after the cut that it was left by."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0] + EVENTS[1][:-1], UpstreamLost("gone", detail="connection_reset"))
        info = await sealed(hub, new)
        assert await read(hub, new) == EVENTS[0]
        assert (info.seal and info.seal.detail) == "connection_reset"
        assert info.seal is not None
        assert info.seal.message == "the provider reset the connection after 57 bytes; 1 events kept"


@pytest.mark.parametrize(
    ("head", "said", "outcome", "detail", "released"),
    [
        (UpstreamUnreachable("no route"), [], Outcome.PROVIDER_ERROR, "unreachable", True),
        (UpstreamLost("cut", detail="no_answer"), [], Outcome.TRUNCATED, "no_answer", False),
        (REFUSED, [b"slow down", anyio.EndOfStream()], Outcome.PROVIDER_ERROR, "status", True),
        (Head(500), [UpstreamLost("cut", detail="connection_closed")], Outcome.PROVIDER_ERROR, "status", True),
        (SSE, [ERROR, anyio.EndOfStream()], Outcome.PROVIDER_ERROR, "error_event", True),
        (SSE, [anyio.EndOfStream()], Outcome.TRUNCATED, "no_first_byte", False),
        (SSE, [EVENTS[0], anyio.EndOfStream()], Outcome.TRUNCATED, "no_terminal_event", False),
        (SSE, [DONE, UpstreamLost("cut", detail="connection_reset")], Outcome.COMPLETED, "end_seen", False),
        (SSE, [RuntimeError("a bug")], Outcome.INTERRUPTED, "drain_failed", False),
        (Head(200), [b"{}", anyio.EndOfStream()], Outcome.COMPLETED, "framed_end", False),
    ],
)  # fmt: skip
async def test_every_end_is_one_outcome(
    head: Head | Exception, said: list[bytes | Exception], outcome: Outcome, detail: str, released: bool
) -> None:
    """And only a definite early failure releases the key."""
    async with running() as hub:
        source = FakeSource(head)
        source.send(*said)
        info = await sealed(hub, await started(hub, source))
        assert info.seal is not None
        assert (info.seal.outcome, info.seal.detail, info.seal.released) == (outcome, detail, released)
        assert (info.seal.retry_at is not None) is (isinstance(head, Head) and head.status == 429)


@pytest.mark.parametrize(
    ("policy", "said", "outcome", "detail"),
    [
        ({"first_byte_s": 0.05}, None, Outcome.STALLED, "silent"),
        ({"first_byte_s": 0.05}, [], Outcome.STALLED, "silent_body"),
        ({"stall_s": 0.05}, [EVENTS[0]], Outcome.STALLED, "no_bytes"),
        ({"stall_s": 0.05}, [EVENTS[0][:5]], Outcome.STALLED, "no_bytes"),
        ({"stall_s": 0.05, "settle_s": 0.05}, [DONE], Outcome.COMPLETED, "end_seen"),
        ({"max_duration_s": 0.05}, [EVENTS[0]], Outcome.OVERFLOW, "max_duration_s"),
        ({"max_duration_s": 0.05, "settle_s": 5}, [DONE], Outcome.COMPLETED, "end_seen"),
    ],
)
async def test_silence_ends_a_stream(
    policy: dict[str, float], said: list[bytes] | None, outcome: Outcome, detail: str
) -> None:
    """Before the head, before the first byte, between bytes; after the end was seen it stays completed."""
    async with running(**policy) as hub:
        source = FakeSource()
        if said is None:
            source.hold_head = anyio.Event()
        source.send(*said or ())
        info = await sealed(hub, await started(hub, source))
        assert info.seal is not None
        assert (info.seal.outcome, info.seal.detail) == (outcome, detail)
        assert source.closed.is_set() is (said is not None)


async def test_fifty_claims_of_one_key_make_one_call() -> None:
    """Whoever does not start attaches to the one that did."""
    async with running() as hub:
        source, claims = FakeSource(), []

        async def claim() -> None:
            new = new_stream(hub.store.now, key="k", fingerprint="f")
            choose = partial(decide, Terms("f"), now=hub.store.now())
            claims.append(await hub.claim(new, outgoing(source), choose))

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(claim)
        assert sum(claim.started for claim in claims) == 1
        assert len({claim.stream for claim in claims}) == 1
        await source.opened.wait()
        assert source.calls == 1


async def test_a_released_key_starts_anew_and_a_used_one_does_not() -> None:
    """Each new stream follows the one before."""
    async with running() as hub:

        async def claim(source: FakeSource) -> tuple[NewStream, bool]:
            new = new_stream(hub.store.now, key="k", fingerprint="f")
            claim = await hub.claim(new, outgoing(source), partial(decide, Terms("f"), now=hub.store.now()))
            return replace(new, id=claim.stream), claim.started

        refused = FakeSource(Head(500))
        refused.end()
        first, _ = await claim(refused)
        await sealed(hub, first)
        cut = FakeSource()
        cut.send(EVENTS[0], UpstreamLost("cut", detail="connection_reset"))
        second, started = await claim(cut)
        assert started
        assert (await sealed(hub, second)).new.previous == first.id
        third, started = await claim(FakeSource())
        assert (third.id, started) == (second.id, False)


async def test_a_caller_cancelled_while_it_claims_strands_nothing() -> None:
    """The claim goes on in the Hub: a key's stream is drained to its end."""
    store = MemoryStore()
    async with running(store) as hub:
        source, entered, go = FakeSource(), anyio.Event(), anyio.Event()
        create = store.create

        async def slow(new: NewStream, *, replaces: StreamId | None = None) -> object:
            entered.set()
            await go.wait()
            return await create(new, replaces=replaces)

        store.create = slow  # type: ignore[method-assign, assignment]
        new = new_stream(store.now, key="k")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.claim, new, outgoing(source))
            await entered.wait()
            tasks.cancel_scope.cancel()
        go.set()
        source.send(DONE)
        source.end()
        assert (await sealed(hub, new)).completed


async def test_a_failing_store_hurts_one_stream_only(caplog: pytest.LogCaptureFixture) -> None:
    """Its provider connection is closed, its readers keep what was acknowledged; the others go on."""
    store = MemoryStore()
    async with running(store) as hub:
        good, bad = FakeSource(), FakeSource()
        fine, broken = await started(hub, good), await started(hub, bad)
        append = store.append

        async def failing(lease: object, at: int, data: bytes, events: int = 0) -> int:
            if lease.stream == broken.id and at:  # type: ignore[attr-defined]
                raise StoreError("the disk is on fire")
            return await append(lease, at, data, events)  # type: ignore[arg-type]

        store.append = failing  # type: ignore[method-assign]
        tail = hub.tail(broken.id, 0)
        bad.send(EVENTS[0])
        assert (await tail.receive()).data == EVENTS[0]
        with caplog.at_level(logging.CRITICAL, "resumestream"):
            bad.send(EVENTS[1])
            page = await tail.receive()
        assert page.info is not None
        assert page.info.seal is not None
        assert (page.data, page.info.seal.detail) == (b"", "store_failed")
        await bad.closed.wait()
        good.send(EVENTS[0] + DONE)
        good.end()
        assert (await sealed(hub, fine)).completed


async def test_a_lost_lease_stops_the_drain_and_seals_nothing() -> None:
    """Readers are sent to the store, where the new owner's word counts."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        tail = hub.tail(new.id, 0)
        source.send(EVENTS[0])
        await tail.receive()
        await store.acquire(new.id, "another")
        source.send(EVENTS[1])
        await source.closed.wait()
        assert not (await store.stat(new.id)).sealed
        with pytest.raises(StoreError):
            await tail.receive()


async def test_cancel_keeps_the_partial_and_closes_the_provider() -> None:
    """Asked here, or by an intent that another process stored."""
    for foreign in (False, True):
        async with running() as hub:
            source = FakeSource()
            new = await started(hub, source)
            tail = hub.tail(new.id, 0)
            source.send(EVENTS[0] + EVENTS[1][:8])
            await tail.receive()
            await (hub.store.request_cancel(new.id) if foreign else hub.cancel(new.id))
            page = await tail.receive()
            assert page.info is not None
            assert page.info.seal is not None
            assert (page.info.seal.outcome, page.info.tail) == (Outcome.CANCELLED, len(EVENTS[0]))
            assert source.closed.is_set()
            await hub.cancel(new.id)
            assert (await hub.stat(new.id)).seal == page.info.seal


async def test_a_stop_after_the_end_was_seen_leaves_it_completed() -> None:
    """The provider finished: nothing was stopped."""
    async with running(settle_s=30) as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(DONE)
        await hub.tail(new.id, 0).receive()
        await hub.cancel(new.id)
        assert (await sealed(hub, new)).completed


async def test_delete_cuts_readers_and_leaves_a_tombstone() -> None:
    """Live or sealed, the payload is gone at once; `forget` takes the tombstone and the key as well."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source, key="k")
        tail = hub.tail(new.id, 0)
        source.send(EVENTS[0])
        await tail.receive()
        await hub.delete(new.id)
        with pytest.raises(StreamGone):
            await tail.receive()
        info = await hub.stat(new.id)
        assert (info.gone, info.tail) == (Gone.DELETED, len(EVENTS[0]))
        assert (await hub.bound("k")) is not None
        await hub.delete(new.id, forget=True)
        assert (await hub.bound("k")) is None
        with pytest.raises(StreamNotFound):
            await hub.stat(new.id)


async def test_delete_cuts_a_replay() -> None:
    """A reader of a sealed stream that is in the middle of it gets no further byte."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0], EVENTS[1] + DONE)
        source.end()
        await sealed(hub, new)
        tail = hub.tail(new.id, 0, until=None)
        with hub.reading(new.id):
            await hub.delete(new.id)
            with pytest.raises(StreamGone):
                await tail.receive()


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
        with hub.reading(new.id):
            with hub.reading(new.id):
                pass
            source.send(EVENTS[0])
            assert (await hub.tail(new.id, 0).receive()).data == EVENTS[0]
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
        with hub.reading(new.id):
            pass
        with hub.reading(new.id):
            with pytest.raises(TimeoutError), anyio.fail_after(0.5):
                await sealed(hub, new)
            source.send(DONE)
            source.end()
            assert (await sealed(hub, new)).completed


async def test_caps_on_live_streams_and_orphans() -> None:
    """Refused before the provider is called."""
    async with running(max_live_streams=2, max_orphan_drains=1) as hub:
        first = await started(hub, FakeSource())
        with hub.reading(first.id):
            pass
        source = FakeSource()
        with pytest.raises(TooManyOrphans):
            await started(hub, source)
        with hub.reading(first.id):
            await started(hub, FakeSource())
            with pytest.raises(TooManyStreams):
                await started(hub, source)
        assert source.calls == 0


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


async def test_drain_lets_streams_finish_cuts_readers_and_admits_nothing() -> None:
    """What ends in time is completed, the rest is sealed `interrupted`."""
    async with running(drain_s=0.3) as hub:
        quick, slow = FakeSource(), FakeSource()
        fast, late = await started(hub, quick), await started(hub, slow)
        tail = hub.tail(fast.id, 0)
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


async def test_expiry_is_enforced_on_access_and_spares_open_reads() -> None:
    """410 for whoever comes after; whoever reads reads on; then the tombstone, then nothing."""
    now = 1000.0
    store = MemoryStore(clock=lambda: now)
    async with running(store) as hub:
        source = FakeSource()
        source.send(EVENTS[0], DONE)
        source.end()
        new = await started(hub, source, key="k")
        await sealed(hub, new)
        with hub.reading(new.id):
            tail = hub.tail(new.id, 0, until=5)
            now += 61
            assert (await hub.stat(new.id)).gone is Gone.EXPIRED
            assert (await tail.receive()).data == EVENTS[0][:5]
        info = await hub.stat(new.id)
        assert info.state is State.EXPIRED
        with pytest.raises(StreamGone):
            await store.read(new.id, 0, 10)
        now += 61
        with pytest.raises(StreamNotFound):
            await hub.stat(new.id)
        assert await hub.bound("k") is None


async def test_decide_sees_the_binding_and_the_record() -> None:
    """What a claim is decided on is what is stored, and its refusals reach the caller with nothing started."""
    async with running() as hub:
        source, seen = FakeSource(), []

        def choose(binding: Binding | None, info: StreamInfo | None) -> Start | Attach:
            seen.append((binding, info))
            if binding:
                raise StreamNotFound("no")
            return Start()

        new = new_stream(hub.store.now, key="k")
        await hub.claim(new, outgoing(source), choose)
        with pytest.raises(StreamNotFound):
            await hub.claim(new_stream(hub.store.now, key="k"), outgoing(source), choose)
        assert seen[0] == (None, None)
        assert [(binding.stream, info.id) for binding, info in seen[1:]] == [(new.id, new.id)]
        await source.opened.wait()
        assert source.calls == 1


# --- what a review broke ----------------------------------------------------------------------------------------


def broken(store: MemoryStore, *methods: str, error: Exception) -> dict[str, bool]:
    """Make these methods fail while `on["on"]` is true."""
    on = {"on": True}

    def breaking(method: str) -> None:
        real = getattr(store, method)

        async def call(*args: object, **kwargs: object) -> object:
            if on["on"]:
                await anyio.lowlevel.checkpoint()
                raise error
            return await real(*args, **kwargs)

        setattr(store, method, call)

    for method in methods:
        breaking(method)
    return on


async def test_a_busy_store_makes_the_provider_wait_and_loses_nothing() -> None:
    """Another process holds the write lock for longer than `busy_s`: live streams go on once it lets go."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0])
        tail = hub.tail(new.id, 0)
        assert (await tail.receive()).data == EVENTS[0]
        on = broken(store, "append", "seal", error=StoreBusy("busy"))
        source.send(EVENTS[1], DONE)
        source.end()
        with pytest.raises(TimeoutError), anyio.fail_after(0.05):
            await tail.receive()
        on["on"] = False
        assert (await sealed(hub, new)).completed
        assert await read(hub, new) == EVENTS[0] + EVENTS[1] + DONE


async def test_a_busy_store_does_not_hold_up_the_end() -> None:
    """Stopped while it waits for the store, the stream is given up, and the Hub ends."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        await hub.answered(new.id)
        on = broken(store, "append", error=StoreBusy("busy"))
        source.send(EVENTS[0])
        await source.opened.wait()
    on["on"] = False
    info = await store.stat(new.id)
    assert (info.seal and info.seal.outcome) is Outcome.INTERRUPTED


async def test_a_stream_that_was_given_up_is_recovered_without_a_restart() -> None:
    """Its late callers are asked to come again, then told how it ended; nobody waits for ever."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source, key="k")
        source.send(EVENTS[0])
        assert (await hub.tail(new.id, 0).receive()).data == EVENTS[0]
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


async def test_delete_needs_no_owner() -> None:
    """A stream that was given up can be deleted at once."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        on = broken(store, "seal", error=StoreFull("full"))
        source.send(DONE)
        source.end()
        await source.closed.wait()
        on["on"] = False
        await hub.delete(new.id)
        assert (await hub.stat(new.id)).gone is Gone.DELETED


async def test_a_stop_before_the_call_makes_no_call() -> None:
    """Nothing left for the provider, so nothing was billed and the key is free."""
    store = MemoryStore()
    async with running(store) as hub:
        create = store.create

        async def stopped_meanwhile(new: NewStream, **how: Any) -> object:
            lease = await create(new, **how)
            await hub.cancel(new.id)
            return lease

        store.create = stopped_meanwhile  # type: ignore[method-assign, assignment]
        source = FakeSource()
        info = await sealed(hub, await started(hub, source, key="k"))
        assert info.seal is not None
        assert (source.calls, info.seal.outcome, info.seal.released) == (0, Outcome.CANCELLED, True)


@pytest.mark.parametrize("seen", [DONE, b'data: {"error":{"message":"no"}}\n'])
async def test_a_stop_during_the_last_append_changes_nothing(seen: bytes) -> None:
    """The end that was read stays the end, and its bytes are there once."""
    store = MemoryStore()
    async with running(store) as hub:
        append = store.append
        source = FakeSource()
        new = await started(hub, source)

        async def append_and_stop(*args: Any) -> int:
            tail = await append(*args)
            await hub.cancel(new.id)
            return tail

        store.append = append_and_stop  # type: ignore[method-assign]
        source.send(seen)
        source.end()
        info = await sealed(hub, new)
        assert await read(hub, new) == seen
        assert info.seal is not None
        assert info.seal.detail in ("end_seen", "error_event")


async def test_a_cancelled_hub_leaves_a_complete_answer_complete() -> None:
    """Also while it still waits for the connection's end."""
    store = MemoryStore()
    async with store:
        with anyio.CancelScope() as scope:
            async with running(store, settle_s=30) as hub:
                source = FakeSource()
                new = await started(hub, source)
                source.send(DONE)
                await hub.tail(new.id, 0).receive()
                scope.cancel()
                await anyio.sleep_forever()
        assert (await store.stat(new.id)).completed


async def test_a_herd_of_one_key_counts_as_one_stream() -> None:
    """Whoever attaches takes no place among the live streams."""
    async with running(max_live_streams=1) as hub:
        source = FakeSource()

        async def claim() -> None:
            new = new_stream(hub.store.now, key="k", fingerprint="f")
            await hub.claim(new, outgoing(source), partial(decide, Terms("f"), now=hub.store.now()))

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(claim)
        await source.opened.wait()
        assert source.calls == 1


async def test_grace_begins_anew_with_every_leave() -> None:
    """A reader that comes and goes within one tick counts."""
    async with running() as hub:
        new = await started(hub, FakeSource(), on_disconnect="grace:0.4")
        began = anyio.current_time()
        with hub.reading(new.id):
            pass
        await anyio.sleep(0.25)
        with hub.reading(new.id):
            pass
        await sealed(hub, new)
        assert anyio.current_time() - began >= 0.6


async def test_readers_that_come_and_go_wake_no_tail() -> None:
    """Only what the drain does is news."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0])
        tail = hub.tail(new.id, 0)
        await tail.receive()
        with anyio.move_on_after(0.05) as nothing_new:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tail.wait)
                await anyio.lowlevel.checkpoint()
                with hub.reading(new.id):
                    pass
        assert nothing_new.cancelled_caught


async def test_delete_cuts_a_reader_that_reads_from_memory() -> None:
    """What is sealed is read from the store alone: no window outlives the payload."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0])
        tail = hub.tail(new.id, 0, until=len(EVENTS[0] + EVENTS[1] + DONE))
        await tail.receive()
        source.send(EVENTS[1] + DONE)
        source.end()
        await sealed(hub, new)
        await anyio.lowlevel.checkpoint()
        await hub.delete(new.id)
        with pytest.raises(StreamGone):
            await tail.receive()


async def test_the_seal_does_not_wait_for_a_source_to_clean_up() -> None:
    """Stop, DELETE and shutdown depend on nobody's `finally`."""
    async with running() as hub:
        source, cleaned = FakeSource(), anyio.Event()
        close = source.aclose

        async def slow() -> None:
            with anyio.CancelScope(shield=True):
                await cleaned.wait()
            await close()

        source.aclose = slow  # type: ignore[method-assign]
        new = await started(hub, source)
        await hub.answered(new.id)
        await hub.cancel(new.id)
        assert (await sealed(hub, new)).sealed
        cleaned.set()


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


async def test_a_slow_store_is_no_silent_provider() -> None:
    """Time spent writing counts against nobody."""
    store = MemoryStore()
    async with running(store, stall_s=0.1, max_duration_s=30) as hub:
        source, append = FakeSource(), store.append

        async def slow(*args: Any) -> int:
            await anyio.sleep(0.3)
            return await append(*args)

        store.append = slow  # type: ignore[method-assign]
        new = await started(hub, source)
        source.send(EVENTS[0], DONE)
        source.end()
        assert (await sealed(hub, new)).completed


def test_the_window() -> None:
    """The newest bytes up to its limit, and never less than the last append; nothing it does not hold."""
    window, log = Window(10), b""
    for size in (3, 4, 5, 30, 1, 2):
        data = bytes(range(len(log), len(log) + size))
        window.push(len(log), data)
        log += data
        assert window.read(len(log) - size, 100) == data
        for at in range(len(log) + 1):
            assert window.read(at, 100) in (b"", log[at:])
            assert window.read(at, 2) in (b"", log[at : at + 2])
    assert window.read(len(log) - 10, 100) == b""


@pytest.mark.parametrize(
    ("logged", "outcome", "detail"),
    [
        (EVENTS[0] + DONE, Outcome.COMPLETED, "end_seen"),
        (EVENTS[0] + ERROR, Outcome.PROVIDER_ERROR, "error_event"),
        (LONG + DONE, Outcome.COMPLETED, "end_seen"),
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
