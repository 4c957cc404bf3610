"""Providers that go on without us: who takes their streams over, and who tells them to stop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from resumestream.claiming import Outgoing
from resumestream.endings import Ending
from resumestream.errors import UpstreamLost
from resumestream.hub import Hub
from resumestream.live import NEAR_BYTES
from resumestream.model import Attempt, Head, NewStream, Outcome, Remote, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.ports import LogStore
from resumestream.route import Leg, Route
from resumestream.stores import MemoryStore

from .fakes import DONE, ERROR, EVENTS, SSE, FakeSource, new_stream, read, running, sealed, started
from .test_two_hubs import KINDS, two

pytestmark = pytest.mark.anyio

REMOTE = Remote("responses", "/v1/responses")


class Going(FakeSource):
    """Goes on without its connection until it is told to stop."""

    remote = REMOTE  # type: ignore[assignment]

    def __init__(self, *said: bytes | Exception) -> None:
        super().__init__()
        self.send(*said)
        self.told = 0

    async def cancel(self) -> None:
        self.told = 1


# --- stops ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "said", "outcome", "told"),
    [
        ({"stall_s": 0.1}, [], Outcome.STALLED, 1),
        ({"max_duration_s": 0.1}, [], Outcome.OVERFLOW, 1),
        ({"max_stream_bytes": 60}, [EVENTS[1]], Outcome.OVERFLOW, 1),
        ({}, [UpstreamLost("it broke", detail="connection_reset")], Outcome.TRUNCATED, 1),
        ({}, [DONE, anyio.EndOfStream()], Outcome.COMPLETED, 0),
        ({}, [DONE, UpstreamLost("it broke", detail="connection_reset")], Outcome.COMPLETED, 0),
        ({}, [ERROR, anyio.EndOfStream()], Outcome.PROVIDER_ERROR, 0),
    ],
)
async def test_who_is_not_waited_for_is_told(
    policy: dict[str, Any], said: Sequence[bytes | Exception], outcome: Outcome, told: int
) -> None:
    """Whatever seals the stream before the answer's own end."""
    source = Going(EVENTS[0], *said)
    async with running(**policy) as hub:
        info = await sealed(hub, await started(hub, source))
        assert info.seal is not None
        assert info.seal.outcome == outcome
    assert source.told == told


async def test_who_may_be_gone_on_with_is_not_told() -> None:
    """At a shutdown nobody wanted it to stop."""
    source = Going(EVENTS[0])
    async with running() as hub:
        new = await started(hub, source)
        await hub.reads.tail(new.id, 0).receive()
    assert source.told == 0


async def test_a_call_that_is_gone_on_from_is_told_first() -> None:
    """Two at once would both be paid for."""
    first, told = Going(EVENTS[0], UpstreamLost("it broke", detail="connection_reset")), list[int]()

    async def ready(segment: int) -> FakeSource:
        told.append(first.told)
        return first if segment == 1 else second

    second = FakeSource()
    second.send(DONE)
    second.end()
    async with running() as hub:
        new = new_stream(hub.store.now, worker=hub.worker)
        await hub.claim(new, Outgoing(Route([Leg("a", ready), Leg("b", ready)], segments=True)), found=True)
        live = hub._live[new.id]
        while not live.info.sealed:
            await live.arm().wait()
    assert told == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_a_stop_from_elsewhere_is_told(kind: str, how: str, tmp_path: Path) -> None:
    source = Going(EVENTS[0])
    async with two(KINDS[kind].format(tmp_path)) as (here, there):
        new = await started(here, source)
        await here.reads.tail(new.id, 0).receive()
        await (there.cancel(new.id) if how == "cancel" else there.delete(new.id))
        await source.closed.wait()
        assert (await sealed(here, new)).seal if how == "cancel" else True
    assert source.told == 1


# --- takeovers ------------------------------------------------------------------------------------------------------


class Left:
    """What a dead worker left, and the calls that go on."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.sources = dict[StreamId, Going]()

    async def stream(self, *logged: bytes, **changes: object) -> NewStream:
        new = new_stream(self.store.now, **changes)
        lease = await self.store.create(new)
        await self.store.begin(lease, Attempt("fake", self.store.now(), 200, remote=REMOTE), SSE)
        tail = 0
        for data in logged:
            await self.store.append(lease, tail, data, 1)
            tail += len(data)
        self.sources[new.id] = Going()
        return new

    def read_on(self, store: LogStore, info: StreamInfo) -> Going:
        return self.sources[info.id]


@asynccontextmanager
async def left() -> AsyncIterator[Left]:
    async with MemoryStore() as store:
        yield Left(store)


@asynccontextmanager
async def taking_over(left: Left, **policy: Any) -> AsyncIterator[Hub]:
    with anyio.fail_after(10):
        async with Hub(left.store, Policy(**{"drain_s": 0, **policy}), read_on=left.read_on) as hub:
            yield hub


async def test_a_start_waits_for_no_provider() -> None:
    """However many say nothing: each is read on in a task of its own, and stopped there."""
    async with left() as dead:
        new = [await dead.stream(EVENTS[0]) for _ in range(100)]
        began = time.monotonic()
        async with taking_over(dead) as hub:
            assert time.monotonic() - began < 5
            assert [(await hub.stat(one.id)).sealed for one in new] == [False] * 100
            await hub.cancel(new[0].id)
            info = await sealed(hub, new[0])
            assert info.seal is not None
            assert (info.seal.outcome, info.seal.released) == (Outcome.CANCELLED, False)
        stopped = dead.sources[new[0].id]
        assert stopped.closed.is_set()
        assert stopped.told == 1


async def test_what_cannot_be_attached_to_is_interrupted() -> None:
    async with left() as dead:
        new = await dead.stream(EVENTS[0])
        dead.sources[new.id].send(UpstreamLost("it is not there", detail="process_died"))
        async with taking_over(dead) as hub:
            info = await sealed(hub, new)
            assert info.seal is not None
            assert (info.seal.outcome, info.seal.detail) == (Outcome.INTERRUPTED, "process_died")
            assert (info.seal.released, len(info.attempts)) == (False, 1)
            assert await read(hub, new) == EVENTS[0]


async def test_one_that_cannot_be_taken_over_stops_no_other() -> None:
    async with left() as dead:
        odd, new = [await dead.stream(EVENTS[0]) for _ in range(2)]
        del dead.sources[odd.id]
        dead.sources[new.id].send(DONE)
        dead.sources[new.id].end()
        async with taking_over(dead) as hub:
            assert (await sealed(hub, new)).completed


async def test_a_stop_that_a_dead_owner_did_not_heed_is_told() -> None:
    async with left() as dead:
        new = await dead.stream(EVENTS[0])
        await dead.store.request_cancel(new.id)
        async with taking_over(dead) as hub:
            info = await sealed(hub, new)
            assert (info.seal and info.seal.outcome) == Outcome.CANCELLED
            while not dead.sources[new.id].told:
                await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("on_disconnect", ["cancel", "grace:0.1", "continue"])
async def test_readers_that_died_with_their_worker_have_a_lease_to_come_back(on_disconnect: str) -> None:
    async with left() as dead:
        new, kept = [await dead.stream(EVENTS[0], on_disconnect=on_disconnect, key=key) for key in "ab"]
        async with taking_over(dead, lease_s=0.5) as hub:
            assert sum(live.audience.orphaned for live in hub._live.values()) == 2
            with hub.reads.reading(kept.id):
                if on_disconnect == "continue":
                    await anyio.sleep(0.8)
                    assert not (await hub.stat(new.id)).sealed
                else:
                    info = await sealed(hub, new)
                    assert (info.seal and info.seal.detail) == "nobody_listens"
                    assert dead.sources[new.id].told == 1
                assert not (await hub.stat(kept.id)).sealed


async def test_a_long_log_is_read_again_block_by_block() -> None:
    async with left() as dead:
        block = b"data: %s\n\n" % (b"x" * 4000)
        new = await dead.stream(*[block * 100] * 10)
        dead.sources[new.id].send(DONE)
        dead.sources[new.id].end()
        most, real = [0], dead.store.read

        async def watched(stream: StreamId, at: int, max_bytes: int) -> bytes:
            most.append(max_bytes)
            return await real(stream, at, max_bytes)

        dead.store.read = watched  # type: ignore[method-assign]
        async with taking_over(dead, settle_s=0.05) as hub:
            assert (await sealed(hub, new)).completed
        assert max(most) <= NEAR_BYTES


# --- what the log tells ---------------------------------------------------------------------------------------------

USAGE = b'data: {"model":"m-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n'
BEGIN = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"c-1","usage":{"input_tokens":5,'
    b'"output_tokens":1}}}\n\n'
)
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n'
END = (
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":9}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


@pytest.mark.parametrize(
    ("dialect", "logged", "outcome", "told"),
    [
        ("openai-chat", EVENTS[0] + USAGE + DONE, Outcome.COMPLETED, ("m-1", 3, 4)),
        ("openai-chat", EVENTS[0] + USAGE, Outcome.INTERRUPTED, ("m-1", 3, 4)),
        ("anthropic", BEGIN + DELTA, Outcome.INTERRUPTED, ("c-1", 5, 1)),
        ("anthropic", BEGIN + DELTA * 20_000 + END, Outcome.COMPLETED, ("c-1", 5, 9)),
        ("anthropic", BEGIN + DELTA * 20_000, Outcome.INTERRUPTED, ("c-1", 5, 1)),
    ],
)
async def test_recovery_meters_what_it_reads(
    dialect: str, logged: bytes, outcome: Outcome, told: tuple[str, int, int]
) -> None:
    """In the seal, with the call, and in the ledger."""
    store = MemoryStore()
    async with store:
        new = new_stream(store.now, dialect=dialect)
        lease = await store.create(new)
        await store.begin(lease, Attempt("fake", store.now(), 200), SSE)
        await store.append(lease, 0, logged, 1)
        async with running(store) as hub:
            info = await hub.stat(new.id)
            (call,) = info.attempts
            (entry,) = await store.ledger()
    assert info.seal is not None
    assert info.seal.outcome == outcome
    for attempt in (call, entry.attempt):
        assert attempt.usage is not None
        assert (attempt.model, attempt.usage.input_tokens, attempt.usage.output_tokens) == told


async def test_a_refusal_that_was_cut_short_is_no_answer() -> None:
    """Whatever its body looks like."""
    store = MemoryStore()
    async with store:
        new = new_stream(store.now)
        lease = await store.create(new)
        await store.begin(lease, Attempt("fake", store.now(), 500), Head(500, SSE.headers))
        await store.append(lease, 0, DONE, 1)
        async with running(store) as hub:
            seal = (await hub.stat(new.id)).seal
            assert seal is not None
            assert seal.detail == Ending.of("process_died").detail
