"""What a Hub counts: every provider call once, in the process that sealed its stream."""

from __future__ import annotations

import anyio
import pytest

from resumestream.counters import Counters
from resumestream.errors import StoreBusy, StreamNotFound, UpstreamUnreachable
from resumestream.hub import Hub
from resumestream.model import Attempt, Outcome, State
from resumestream.stores import MemoryStore

from .fakes import DONE, EVENTS, SSE, FakeSource, broken, new_stream, running, sealed, started

pytestmark = pytest.mark.anyio

USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,'
    b'"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":4}}}\n\n'
)


def outcomes(hub: Hub) -> dict[str, int]:
    return dict(hub.counters.calls["fake"].outcomes)


async def test_a_call_is_counted_with_its_seal() -> None:
    """Nothing while it runs; its outcome, tokens and bytes are there before any reader sees the end."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        source.send(EVENTS[0])
        tail = hub.reads.tail(new.id, 0)
        await tail.receive()
        assert outcomes(hub) == {}
        source.send(USAGE + DONE)
        source.end()
        await sealed(hub, new)
        sums = hub.counters.calls["fake"]
        assert (outcomes(hub), sums.payload_bytes) == ({"completed": 1}, len(EVENTS[0] + USAGE + DONE))
        tokens = sums.made.tokens
        assert (tokens.input, tokens.output, tokens.cached_input, tokens.reasoning) == (3, 5, 2, 4)


async def test_a_seal_that_is_tried_again_counts_once() -> None:
    """Also where the first try was reported as failed."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        busy = broken(store, "seal", error=StoreBusy("busy"))
        source.send(EVENTS[0] + DONE)
        source.end()
        with anyio.move_on_after(0.2):
            await sealed(hub, new)
        assert outcomes(hub) == {}
        busy["on"] = False
        await sealed(hub, new)
        assert outcomes(hub) == {"completed": 1}


async def test_what_never_reached_a_provider_counts_as_it_ended() -> None:
    """A call that could not be connected is an attempt as in the ledger."""
    async with running() as hub:
        new = await started(hub, FakeSource(UpstreamUnreachable("no")))
        info = await sealed(hub, new)
        assert info.seal
        assert outcomes(hub) == {info.seal.outcome: 1}


async def test_whoever_ends_what_a_dead_process_left_counts_it() -> None:
    """So the sums over all processes are the ledger's."""
    store = MemoryStore()
    async with store:
        left, deleted = new_stream(store.now), new_stream(store.now)
        for new in (left, deleted):
            lease = await store.create(new)
            await store.begin(lease, Attempt("fake", store.now(), 200), SSE)
            await store.append(lease, 0, EVENTS[0], 1)
        async with running(store) as hub:
            sums = hub.counters.calls["fake"]
            assert (outcomes(hub), sums.payload_bytes) == ({"interrupted": 2}, 2 * len(EVENTS[0]))
            await hub.delete(deleted.id)
            assert outcomes(hub) == {"interrupted": 2}  # it was sealed already


async def test_a_live_stream_that_is_deleted_counts_once() -> None:
    """By its drain, which is stopped first."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        await source.opened.wait()
        await hub.delete(new.id, forget=True)
        with pytest.raises(StreamNotFound):
            await hub.stat(new.id)
        assert outcomes(hub) == {"cancelled": 1}


async def test_who_deletes_a_foreign_stream_counts_it() -> None:
    """A forced takeover seals, so the owner does not count it as well."""
    store = MemoryStore()
    async with running(store) as hub:
        new = new_stream(store.now, worker=hub.worker)
        await store.create(new)
        await hub.delete(new.id)
        assert outcomes(hub) == {Outcome.CANCELLED: 1}


async def test_gauges_are_of_now() -> None:
    """Claimed, streaming, read, without a reader, ended."""
    async with running() as hub:
        source = FakeSource()
        new = await started(hub, source)
        assert (hub.drains, hub.orphans, hub.reads.count, hub.states()) == (1, 0, 0, {State.PENDING: 1})
        with hub.reads.reading(new.id), hub.reads.reading(new.id):
            source.send(EVENTS[0])
            await hub.reads.tail(new.id, 0).receive()
            assert (hub.drains, hub.orphans, hub.reads.count, hub.states()) == (1, 0, 2, {State.STREAMING: 1})
        assert (hub.drains, hub.orphans, hub.reads.count) == (1, 1, 0)
        source.send(DONE)
        source.end()
        await source.closed.wait()
        await anyio.wait_all_tasks_blocked()
        assert (hub.drains, hub.orphans, hub.reads.count, hub.states()) == (0, 0, 0, {})


async def test_attaches_and_replays_add_up_whatever_the_store_says() -> None:
    """The total is of this process, told to the store or not."""
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source)
        broken(store, "tally", error=StoreBusy("busy"))
        for ended in (False, True, True):
            hub.tallies.asked_again(new.id, sealed=ended)
            await hub.tallies.flush()
        assert (hub.tallies.total.attaches, hub.tallies.total.replays) == (1, 2)


def test_refusals_count_by_code() -> None:
    """Two errors of one code are one count of two."""
    counters = Counters()
    for error in (StoreBusy("one"), StoreBusy("another"), StreamNotFound("no")):
        counters.refused(error)
    assert counters.refusals == {"store-busy": 2, "stream-not-found": 1}
