"""Calls after the first: durable before they are made, each in the record as it ended, and no key released that one of
them may have been billed for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resumestream import drain
from resumestream.claiming import Outgoing
from resumestream.endings import Ending
from resumestream.errors import StoreBusy, StoreError, StoreFull, UpstreamLost, UpstreamUnreachable
from resumestream.hub import Hub
from resumestream.model import Attempt, Head, NewStream, Outcome, Remote, StreamInfo
from resumestream.ports import Source
from resumestream.route import Leg, Route
from resumestream.stores import MemoryStore

from .fakes import DONE, ERROR, EVENTS, SSE, FakeSource, broken, new_stream, running, sealed, started

pytestmark = pytest.mark.anyio

NO_ANSWER = UpstreamLost("cut", detail="no_answer")
REFUSED = UpstreamUnreachable("no route")


def busy(wait_s: str = "0") -> FakeSource:
    source = FakeSource(Head(503, (("retry-after", wait_s),)))
    source.end()
    return source


def making(*sources: Source) -> Callable[[int], Awaitable[Source]]:
    left = list(sources)

    async def ready(segment: int) -> Source:
        return left.pop(0)

    return ready


def again(*sources: Source, resend: bool = False) -> Leg:
    """One upstream, called once for each of these."""
    return Leg("it", making(*sources), len(sources) - 1, resend=resend)


async def claimed(hub: Hub, *legs: Leg, segments: bool = False, **changes: object) -> NewStream:
    new = new_stream(hub.store.now, **{"worker": hub.worker, "key": "k", **changes})
    await hub.claim(new, Outgoing(Route(legs, segments=segments)), found=True)
    return new


async def over(hub: Hub, new: NewStream) -> StreamInfo:
    """The record once its drain is through with it."""
    if live := hub._live.get(new.id):
        while new.id in hub._live:
            await live.arm().wait()
    return await hub.store.stat(new.id)


def told(info: StreamInfo) -> list[tuple[int | None, str | None]]:
    return [(attempt.status, attempt.outcome) for attempt in info.attempts]


async def test_a_further_call_is_in_the_store_before_it_is_made() -> None:
    """With how the one before it ended; and where its process dies, it is the one that may have been billed."""
    store = MemoryStore()
    async with running(store) as hub:
        asked = FakeSource()
        asked.hold_head = anyio.Event()
        new = await claimed(hub, again(busy(), asked))
        await asked.opened.wait()
        info = await store.stat(new.id)
        assert told(info) == [(503, "provider_error"), (None, None)]
        await store.acquire(new.id, "who died", after=info.epoch)
        seal = (await sealed(hub, new)).seal
        assert seal is not None
        assert (seal.outcome, seal.released) == (Outcome.INTERRUPTED, False)
    assert told(await store.stat(new.id)) == [(503, "provider_error"), (None, "interrupted")]


async def test_a_stream_that_was_lost_while_it_waited_is_called_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker was frozen, and wakes up where its wait is over and nobody has told it yet."""
    store, real = MemoryStore(), anyio.sleep
    waits, wake = anyio.Event(), anyio.Event()

    async def frozen(seconds: float) -> None:
        if seconds < 50:
            await real(seconds)
        else:
            waits.set()
            await wake.wait()

    monkeypatch.setattr(anyio, "sleep", frozen)
    async with running(store) as hub:
        asked = FakeSource()
        new = await claimed(hub, again(busy("50"), asked))
        await waits.wait()
        lease = await store.acquire(new.id, "another", after=1)
        await store.seal(lease, Ending.of("process_died").seal)
        wake.set()
        await over(hub, new)
        assert asked.calls == 0


async def test_a_store_that_cannot_say_so_gets_no_further_call() -> None:
    """And nothing was billed: the key is free."""
    store = MemoryStore()
    async with running(store) as hub:
        asked = FakeSource()
        on = broken(store, "begin", error=StoreFull("full"))
        new = await claimed(hub, again(busy(), asked))
        info = await sealed(hub, new)
        on["on"] = False
        assert info.seal is not None
        assert (asked.calls, info.seal.detail, info.seal.released) == (0, "store_full", True)


async def test_a_stop_before_a_further_call_makes_none() -> None:
    """It comes while the call is being recorded: what was not made is not in the record."""
    store = MemoryStore()
    async with running(store) as hub:
        asked, begin = FakeSource(), store.begin

        async def stopped_meanwhile(*args: Any, **how: Any) -> None:
            await begin(*args, **how)
            if not args[1].ended_at:
                await hub.cancel(args[0].stream)
                await anyio.lowlevel.checkpoint()

        store.begin = stopped_meanwhile  # type: ignore[method-assign]
        info = await sealed(hub, await claimed(hub, again(busy(), asked)))
        assert info.seal is not None
        assert (asked.calls, info.seal.outcome, info.seal.released) == (0, Outcome.CANCELLED, True)
        assert told(info) == [(503, "provider_error")]


async def test_a_stop_while_an_answer_is_recorded_counts_it_once() -> None:
    store = MemoryStore()
    async with running(store) as hub:
        source, begin = FakeSource(), store.begin

        async def stopped_meanwhile(*args: Any, **how: Any) -> None:
            await begin(*args, **how)
            await hub.cancel(args[0].stream)
            await anyio.lowlevel.checkpoint()

        store.begin = stopped_meanwhile  # type: ignore[method-assign]
        info = await sealed(hub, await started(hub, source))
        assert (source.calls, told(info)) == (1, [(200, "cancelled")])
        assert [entry.attempt.ended_at for entry in await store.ledger()] == [info.seal and info.seal.sealed_at]


async def test_what_a_failing_store_missed_is_recorded() -> None:
    """The drain fails in its second call: that one is in the record, and the first as it ended."""
    async with running() as hub:
        second = FakeSource(RuntimeError("a bug"))
        info = await sealed(hub, await claimed(hub, again(busy(), second)))
        assert info.seal is not None
        assert (info.seal.detail, info.seal.released) == ("drain_failed", False)
        assert told(info) == [(503, "provider_error"), (None, "interrupted")]


async def test_last_bytes_that_cannot_be_logged_release_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer was there, whole, and was billed."""
    monkeypatch.setattr(drain, "SEAL_S", 0.1)
    store = MemoryStore()
    async with running(store) as hub:
        source = FakeSource()
        new = await started(hub, source, key="k")
        source.send(EVENTS[0])
        await hub.reads.tail(new.id, 0).receive()
        broken(store, "append", error=StoreBusy("busy"))
        source.send(b"data: [DONE]")
        source.end()
        seal = (await sealed(hub, new)).seal
        assert seal is not None
        assert (seal.outcome, seal.detail, seal.released) == (Outcome.INTERRUPTED, "store_failed", False)


async def test_a_seal_that_fails_once_is_the_same_seal() -> None:
    store = MemoryStore()
    async with running(store) as hub:
        source, seal = FakeSource(), store.seal
        new = await started(hub, source)

        async def failing(*args: Any) -> StreamInfo:
            store.seal = seal  # type: ignore[method-assign]
            raise StoreError("the disk is on fire")

        store.seal = failing  # type: ignore[method-assign]
        source.send(EVENTS[0], DONE)
        source.end()
        assert (await over(hub, new)).completed


@pytest.mark.parametrize(("second", "released"), [(NO_ANSWER, False), (REFUSED, True), (Head(500), True)])
async def test_a_further_call_may_have_been_billed(second: Head | Exception, released: bool) -> None:
    """The first said no before anything else, which is free; what counts for the key is all of them."""
    async with running() as hub:
        first, other = FakeSource(), FakeSource(second)
        first.send(ERROR)
        first.end()
        other.end()
        new = await claimed(hub, Leg("a", making(first)), Leg("b", making(other)), segments=True)
        seal = (await sealed(hub, new)).seal
        assert seal is not None
        assert (seal.detail, seal.released) == ("error_event", released)


@pytest.mark.parametrize(
    ("earlier", "released"),
    [
        ({"ended_at": 2.0, "outcome": Outcome.TRUNCATED}, False),
        ({"status": 503, "ended_at": 2.0, "outcome": Outcome.PROVIDER_ERROR, "released": True}, True),
    ],
)
async def test_recovery_counts_every_call(earlier: dict[str, Any], released: bool) -> None:
    store = MemoryStore()
    async with store:
        new = new_stream(store.now, key="k")
        lease = await store.create(new)
        await store.begin(lease, Attempt("a", 3.0, 200), SSE, after=(Attempt("a", 1.0, **earlier),))
        await store.append(lease, 0, ERROR, 1)
        async with running(store) as hub:
            seal = (await hub.stat(new.id)).seal
            assert seal is not None
            assert (seal.detail, seal.released) == ("error_event", released)


async def test_recovery_takes_no_earlier_answer_for_the_last() -> None:
    """A further call was in flight when its process died: that is how the stream ended."""
    store = MemoryStore()
    async with store:
        new = new_stream(store.now, key="k")
        lease = await store.create(new)
        said_no = Attempt("a", 1.0, 200, ended_at=2.0, bytes=len(ERROR), outcome=Outcome.PROVIDER_ERROR, released=True)
        await store.begin(lease, Attempt("a", 1.0, 200), SSE)
        await store.append(lease, 0, ERROR, 1)
        await store.begin(lease, Attempt("b", 3.0), None, after=(said_no,))
        async with running(store) as hub:
            info = await hub.stat(new.id)
            assert info.seal is not None
            assert (info.seal.detail, info.seal.released) == ("process_died", False)
            assert [(call.outcome, call.bytes) for call in info.attempts] == [
                (Outcome.PROVIDER_ERROR, len(ERROR)),
                (Outcome.INTERRUPTED, 0),
            ]


@pytest.mark.parametrize("second", [REFUSED, Head(503)])
async def test_after_an_ambiguous_call_nobody_else_is_called(second: Head | Exception) -> None:
    """Only who takes it for the same call may be, whatever it says then."""
    async with running() as hub:
        last, other = FakeSource(second), FakeSource()
        last.end()
        new = await claimed(hub, again(FakeSource(NO_ANSWER), last, resend=True), Leg("b", making(other)))
        seal = (await sealed(hub, new)).seal
        assert seal is not None
        assert (last.calls, other.calls, seal.released) == (1, 0, False)


@pytest.mark.parametrize(
    ("policy", "detail"), [({"max_duration_s": 0.1}, "max_duration_s"), ({"first_byte_s": 0.1}, "unreachable")]
)
async def test_headers_that_take_for_ever_end(policy: dict[str, float], detail: str) -> None:
    """Nothing was sent, so the key is free."""

    async def ready(segment: int) -> Source:
        await anyio.sleep_forever()
        raise AssertionError

    async with running(**policy) as hub:
        info = await sealed(hub, await claimed(hub, Leg("it", ready)))
        assert info.seal is not None
        assert (info.seal.detail, info.seal.released, info.attempts) == (detail, True, ())


async def test_a_wait_is_not_the_answers() -> None:
    """The next call has all of `first_byte_s`, however long the wait before it was."""
    async with running(first_byte_s=0.4) as hub:
        answer = FakeSource()
        new = await claimed(hub, again(busy("1"), answer))
        await answer.opened.wait()
        await anyio.sleep(0.1)  # silent for less than it may be
        answer.send(EVENTS[0], DONE)
        answer.end()
        assert (await sealed(hub, new)).completed


async def test_the_cap_is_the_streams() -> None:
    """Its segments together have no more bytes than one may have."""
    async with running(max_stream_bytes=len(EVENTS[0]) + 10) as hub:
        first, other = FakeSource(), FakeSource()
        first.send(EVENTS[0], UpstreamLost("cut", detail="connection_reset"))
        other.send(EVENTS[1], DONE)
        other.end()
        new = await claimed(hub, Leg("a", making(first)), Leg("b", making(other)), segments=True)
        info = await over(hub, new)
        assert (info.tail, info.seal and info.seal.detail) == (len(EVENTS[0]), "max_stream_bytes")


class GoesOn(FakeSource):
    """Goes on without us, until it is told not to."""

    remote = Remote("responses", "/v1/responses")  # type: ignore[assignment]
    stopped = False

    async def cancel(self) -> None:
        self.stopped = True


@pytest.mark.parametrize(
    ("policy", "said", "stopped"),
    [
        ({"stall_s": 0.05}, [EVENTS[0]], True),
        ({"max_duration_s": 0.05}, [EVENTS[0]], True),
        ({"max_stream_bytes": 60}, [EVENTS[0], EVENTS[1]], True),
        ({}, [EVENTS[0], UpstreamLost("cut", detail="connection_reset")], True),
        ({}, [EVENTS[0], RuntimeError("a bug")], True),
        ({}, [EVENTS[0], DONE, anyio.EndOfStream()], False),
        ({}, [EVENTS[0], ERROR, anyio.EndOfStream()], False),
    ],
)
async def test_who_goes_on_without_us_is_told_that_nobody_waits(
    policy: dict[str, float], said: list[bytes | Exception], stopped: bool
) -> None:
    """Unless its end was seen."""
    async with running(**policy) as hub:
        source = GoesOn()
        source.send(*said)
        await over(hub, await started(hub, source))
        assert source.stopped is stopped


async def test_a_shutdown_tells_nobody() -> None:
    """It has no time to."""
    source = GoesOn()
    async with running() as hub:
        await hub.answered((await started(hub, source)).id)
    assert not source.stopped
