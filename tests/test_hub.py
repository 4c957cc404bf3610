"""Claims, tails, retention and deletion, on a real Hub with a memory store and a provider that the test plays."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from resumestream.claims import Attach, Start, Terms, decide
from resumestream.errors import (
    StoreFull,
    StreamGone,
    StreamNotFound,
    UpstreamLost,
)
from resumestream.live import CHUNK_BYTES, NEAR_BYTES, Window, Windows
from resumestream.model import Binding, Gone, Head, NewStream, Outcome, State, StreamId, StreamInfo
from resumestream.stores import MemoryStore

from .fakes import DONE, EVENTS, FakeSource, broken, new_stream, outgoing, read, running, sealed, started

pytestmark = pytest.mark.anyio


async def test_a_stream_from_provider_to_reader() -> None:
    """Readers at any time and from any offset get the same bytes, live and after."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        tail = hub.reads.tail(new.id, 0)
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


async def test_delete_cuts_readers_and_leaves_a_tombstone() -> None:
    """Live or sealed, the payload is gone at once; `forget` takes the tombstone and the key as well."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source, key="k")
        tail = hub.reads.tail(new.id, 0)
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
        tail = hub.reads.tail(new.id, 0, until=None)
        with hub.reads.reading(new.id):
            await hub.delete(new.id)
            with pytest.raises(StreamGone):
                await tail.receive()


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
        with hub.reads.reading(new.id):
            tail = hub.reads.tail(new.id, 0, until=5)
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


async def test_who_came_before_the_expiry_is_answered_after_it() -> None:
    """A caller that wants nothing kept still gets the answer that it waits for, however fast that is over."""
    now = 1000.0
    async with running(MemoryStore(clock=lambda: now)) as hub:
        source = FakeSource()
        new = await started(hub, source)
        with hub.reads.reading(new.id):
            source.send(EVENTS[0], DONE)
            source.end()
            await sealed(hub, new)
            now += 61
            info = await hub.answered(new.id)
            assert info.gone is None
            assert (await hub.reads.tail(new.id, 0, known=info).receive()).data == EVENTS[0] + DONE
        assert (await hub.stat(new.id)).gone is Gone.EXPIRED


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


async def test_delete_cuts_a_reader_that_reads_from_memory() -> None:
    """What is sealed is read from the store alone: no window outlives the payload."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0])
        tail = hub.reads.tail(new.id, 0, until=len(EVENTS[0] + EVENTS[1] + DONE))
        await tail.receive()
        source.send(EVENTS[1] + DONE)
        source.end()
        await sealed(hub, new)
        await anyio.lowlevel.checkpoint()
        await hub.delete(new.id)
        with pytest.raises(StreamGone):
            await tail.receive()


def test_the_windows_share_their_memory() -> None:
    """Each gives its newest bytes, or none; what came first goes first, whosever it is."""
    windows = Windows(10 * (CHUNK_BYTES + 10))
    one, other = Window(windows), Window(windows)
    logs = {one: b"", other: b""}
    for number in range(40):
        window = one if number % 3 else other
        data = bytes([number]) * 10
        window.push(len(logs[window]), data)
        logs[window] += data
        assert window.read(len(logs[window]) - 10, 100) == data
        for at in range(len(logs[window]) + 1):
            assert window.read(at, 100) in (b"", logs[window][at : at + 100])
            assert window.read(at, 2) in (b"", logs[window][at : at + 2])
    assert [len(window.read(len(log) - 30, 100)) for window, log in logs.items()] == [30, 30]
    assert [window.read(len(log) - 70, 100) for window, log in logs.items()] == [b"", b""]


def test_who_is_far_behind_reads_the_store() -> None:
    """Or every page of a long replay would look through all that is in memory."""
    window, data = Window(Windows(2**30)), bytes(NEAR_BYTES)
    window.push(0, data)
    window.push(len(data), b"more")
    assert window.read(0, 10) == b""
    assert window.read(4, 10) == data[:6] + b"\0" * 4
