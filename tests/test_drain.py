"""What a drain makes of a provider that the test plays: bytes, ends, silence, stops and failures of the store."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resumestream.errors import (
    StoreBusy,
    StoreError,
    UpstreamLost,
    UpstreamUnreachable,
)
from resumestream.model import Head, NewStream, Outcome
from resumestream.stores import MemoryStore

from .fakes import DONE, ERROR, EVENTS, SSE, FakeSource, broken, read, running, sealed, started

REFUSED = Head(429, (("retry-after", "7"),))

pytestmark = pytest.mark.anyio


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
        assert info.seal.message == "the provider reset the connection after 57 bytes; 1 event kept"


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


class Dripping(FakeSource):
    """Never stops: a little more as often as it is asked, a fifth of `settle_s` apart."""

    async def receive(self) -> bytes:
        if self._said:
            return await super().receive()
        await anyio.sleep(0.02)
        return b": still here\n\n"


@pytest.mark.parametrize(
    ("head", "said", "detail"), [(SSE, DONE, "end_seen"), (Head(429, (("retry-after", "1"),)), b"{", "status")]
)
async def test_what_drips_on_behind_the_end_is_not_waited_for(head: Head, said: bytes, detail: str) -> None:
    """The time for it is fixed once the answer is known, whether that was an answer or a refusal."""
    async with running(settle_s=0.1, max_duration_s=5) as hub:
        source = Dripping(head)
        source.send(said)
        begun = anyio.current_time()
        info = await sealed(hub, await started(hub, source))
        assert info.seal is not None
        assert (info.seal.detail, info.tail > len(said)) == (detail, True)
        assert anyio.current_time() - begun < 4  # of five
        await source.closed.wait()


async def test_a_flood_behind_the_end_leaves_the_answer_complete() -> None:
    """What no cap has room for is left out."""
    async with running(settle_s=30, max_stream_bytes=10_000, max_event_bytes=5_000) as hub:
        source, other = FakeSource(), FakeSource()
        source.send(EVENTS[0] + DONE, *[b": more\n\n"] * 2_000)
        other.send(EVENTS[0] + DONE, b": " + b"x" * 6_000)
        for each in (source, other):
            info = await sealed(hub, await started(hub, each))
            assert info.completed
            assert len(EVENTS[0] + DONE) <= info.tail <= 10_000
            await each.closed.wait()


async def test_a_slow_store_is_no_silent_provider() -> None:
    """Time spent writing counts against nobody."""
    store = MemoryStore()
    async with running(store, stall_s=0.1, max_duration_s=30) as hub:
        source, append = FakeSource(), store.append

        async def slow(*args: Any) -> int:
            await anyio.sleep(0.3)  # three times `stall_s`: the slowness is what is tested
            return await append(*args)

        store.append = slow  # type: ignore[method-assign]
        new = await started(hub, source)
        source.send(EVENTS[0], DONE)
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
        tail = hub.reads.tail(broken.id, 0)
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
        tail = hub.reads.tail(new.id, 0)
        source.send(EVENTS[0])
        await tail.receive()
        await store.acquire(new.id, "another", after=1)
        source.send(EVENTS[1])
        await source.closed.wait()
        assert not (await store.stat(new.id)).sealed
        page = await tail.receive()  # "another" is no peer of ours, so what it took is recovered
        assert (page.data, page.info and page.info.seal and page.info.seal.detail) == (b"", "process_died")


async def test_a_busy_store_makes_the_provider_wait_and_loses_nothing() -> None:
    """Another process holds the write lock for longer than `busy_s`: live streams go on once it lets go."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0])
        tail = hub.reads.tail(new.id, 0)
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


async def test_cancel_keeps_the_partial_and_closes_the_provider() -> None:
    """Asked here, or by an intent that another process stored."""
    for foreign in (False, True):
        async with running() as hub:
            source = FakeSource()
            new = await started(hub, source)
            tail = hub.reads.tail(new.id, 0)
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
        await hub.reads.tail(new.id, 0).receive()
        await hub.cancel(new.id)
        assert (await sealed(hub, new)).completed


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
        assert info.seal.detail in ("end_seen", "error_unended")


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
