"""What a source may be and say, and that nothing it does reaches beyond its own stream."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from resumestream import Event, Outcome, Principal

from .own import ME, Talk, answering, data, outcome, resume_stream, sealed

pytestmark = pytest.mark.anyio

# --- what a source may be, and say ------------------------------------------------------------------------------


class Point(BaseModel):
    x: int
    name: str = "é"


@dataclasses.dataclass
class Pair:
    left: int
    right: Point


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        (b"\x00raw\r\n", b"\x00raw\r\n"),
        (bytearray(b"data: 1\n\n"), b"data: 1\n\n"),
        (memoryview(b"data: 1\n\n"), b"data: 1\n\n"),
        ("data: é\n\n", "data: é\n\n".encode()),
        ({"a": [1, None]}, b'data: {"a":[1,null]}\n\n'),
        ([1, "é"], 'data: [1,"é"]\n\n'.encode()),
        (Point(x=1), 'data: {"x":1,"name":"é"}\n\n'.encode()),
        (Pair(1, Point(x=2)), 'data: {"left":1,"right":{"x":2,"name":"é"}}\n\n'.encode()),
        ({"point": Point(x=1)}, 'data: {"point":{"x":1,"name":"é"}}\n\n'.encode()),
        (Event("a\nb\r\nc\rd"), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (Event({"a": 1}, event="delta"), b'event: delta\ndata: {"a":1}\n\n'),
        (Event(Point(x=3), event="point"), 'event: point\ndata: {"x":3,"name":"é"}\n\n'.encode()),
        (Event(None), b"data: null\n\n"),
    ],
)
async def test_values_become_payload(value: Any, payload: bytes) -> None:
    """bytes and str as written; all else is one event."""
    media_type = "application/octet-stream" if value == b"\x00raw\r\n" else "text/event-stream"
    info, kept = await outcome(resume_stream(), Talk(value, None), media_type=media_type)
    assert (kept, info.completed) == (payload, True)


async def test_empty_values_are_nothing() -> None:
    """Neither payload nor an end."""
    info, kept = await outcome(resume_stream(), Talk(b"", "data: 1\n\n", "", None))
    assert (kept, info.completed, info.events) == (b"data: 1\n\n", True, 1)


@pytest.mark.parametrize(
    "value", [1, object(), {1, 2}, Point, Event("x", event="a\nb"), {"a": object()}, Event(b"x"), {"a": float("nan")}]
)
async def test_a_value_that_is_no_payload_fails_the_stream(value: Any) -> None:
    """What came before is kept."""
    info, kept = await outcome(resume_stream(), Talk("data: 1\n\n", value, "data: 2\n\n"))
    assert info.seal is not None
    assert info.seal.outcome is Outcome.PROVIDER_ERROR
    assert info.seal.detail in ("source_failed:TypeError", "source_failed:ValueError")
    assert kept == b"data: 1\n\n"


async def test_a_context_manager_is_left_when_its_values_end() -> None:
    """Entered once, left once, on the same task."""
    tasks: list[int] = []

    @asynccontextmanager
    async def source() -> AsyncIterator[AsyncIterator[str]]:
        tasks.append(anyio.get_current_task().id)
        yield Talk("data: 1\n\n", None)()
        tasks.append(anyio.get_current_task().id)

    info, kept = await outcome(resume_stream(), source)
    assert (kept, info.completed) == (b"data: 1\n\n", True)
    assert len(tasks) == 2
    assert tasks[0] == tasks[1]


async def test_an_iterator_without_aclose_is_a_source() -> None:
    """As the streams of the SDKs are."""

    class Values:
        left = 2

        def __aiter__(self) -> Values:
            return self

        async def __anext__(self) -> str:
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return "data: 1\n\n"

    info, kept = await outcome(resume_stream(), Values)
    assert (kept, info.completed) == (b"data: 1\n\n" * 2, True)


async def coroutine_function() -> AsyncIterator[str]:
    return Talk()()


@asynccontextmanager
async def of_a_list() -> AsyncIterator[list[str]]:
    yield ["data: 1\n\n"]


async def failing_at_once() -> AsyncIterator[str]:
    raise LookupError("a secret")
    yield ""


@asynccontextmanager
async def failing_to_enter() -> AsyncIterator[AsyncIterator[str]]:
    raise LookupError("a secret")
    yield Talk()()


def failing_to_be_called() -> AsyncIterator[str]:
    raise LookupError("a secret")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (lambda: iter(["data: 1\n\n"]), "TypeError"),
        (lambda: None, "TypeError"),
        (lambda: ["data: 1\n\n"], "TypeError"),
        (coroutine_function, "TypeError"),
        (of_a_list, "TypeError"),
        (failing_to_enter, "LookupError"),
        (failing_to_be_called, "LookupError"),
    ],
)
async def test_a_source_that_is_none_is_a_502(source: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """For the first caller and all later ones, with the type but not the text, which is in our log."""
    async with answering(source) as callers:
        for reply in (await callers.get("/chat"), await callers.get("/chat")):
            assert reply.status == 502
            assert reply.headers["stream-outcome"] == reply.json["outcome"] == "provider_error"
            assert reply.json["outcome_detail"] == f"source_failed:{name}"
            assert reply.headers["location"] == f"/llm/streams/{reply.headers['stream-id']}"
            assert b"secret" not in reply.body
    assert name in caplog.text


@pytest.mark.parametrize("dialect", [None, "openai-chat"])
async def test_a_source_that_raises_midway(dialect: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """The partial, then the failure: in-band where the readers' dialect has words for it, else a cut."""
    talk = Talk(*data(1))
    async with answering(talk, dialect=dialect) as callers:
        first = callers.open("/chat")
        await first.until(b"1\n\n")
        talk.say(LookupError("a secret"))
        await first.ended()
        late = await callers.get("/chat")
        head = await callers.get(f"/llm/streams/{first.headers['stream-id']}/info", authorization="Bearer x")
    for reader in (first, late):
        assert reader.status == 200
        assert reader.body.startswith(b"data: 1\n\n")
        assert b"secret" not in reader.body
        assert b"Stream-Retry" not in reader.body, "an endpoint of your own does not know that header"
        if dialect:
            assert not reader.cut
            assert b'"error"' in reader.body
            assert b"provider_error" in reader.body
        else:
            assert (reader.cut, reader.body) == (True, b"data: 1\n\n")
    assert late.headers["stream-outcome"] == "provider_error"
    assert head.status == 404, "it is ann's"
    assert "a secret" in caplog.text


async def test_a_generator_that_fails_at_once_is_cut() -> None:
    """Its head was sent, so the status cannot tell any more; a later caller gets one that does."""
    async with answering(failing_at_once) as callers:
        first, late = await callers.get("/chat"), await callers.get("/chat")
    assert (first.status, first.cut, first.body) in ((200, True, b""), (502, False, first.body))
    assert late.status == 502


async def as_ann(conn: HTTPConnection, action: str) -> Principal:
    return Principal(ME)


async def test_a_whole_payload_of_another_type_that_failed_is_a_502_for_late_callers() -> None:
    """NDJSON has no way to say that it is a part; its partial is at /streams."""
    talk = Talk('{"a":1}\n')
    streams = resume_stream(authorize=as_ann)
    async with answering(
        talk, streams=streams, media_type="application/x-ndjson", dialect="openai-chat", principal=None
    ) as callers:
        first = callers.open("/chat")
        await first.until(b"\n")
        talk.say(LookupError())
        await first.ended()
        late = await callers.get("/chat")
        kept = await callers.get(late.headers["location"])
    assert (first.cut, first.body) == (True, b'{"a":1}\n')
    assert first.headers["location"].endswith("?live=tail")
    assert (late.status, late.json["outcome_detail"]) == (502, "source_failed:LookupError")
    assert (kept.status, kept.body, kept.headers["stream-closed"]) == (200, b'{"a":1}\n', "true")


# --- scopes, task groups and cancellation within the source -----------------------------------------------------


async def test_a_generator_may_hold_scopes_over_its_yields() -> None:
    """A task group and a timeout that are open across values do no harm, at the end and on a stop."""
    left: list[str] = []

    def make(last: Callable[[], Awaitable[None]]) -> Callable[[], AsyncIterator[str]]:
        async def source() -> AsyncIterator[str]:
            give, take = anyio.create_memory_object_stream[str]()

            async def produce() -> None:
                async with give:
                    for text in data(1, 2, 3):
                        await give.send(text)

            try:
                with anyio.move_on_after(60):
                    async with anyio.create_task_group() as tasks, take:
                        tasks.start_soon(produce)
                        async for text in take:
                            yield text
                        await last()
            finally:
                left.append("left")

        return source

    streams = resume_stream()
    with anyio.fail_after(10):
        async with streams:
            whole = await streams.start(source=make(anyio.lowlevel.checkpoint), principal=ME)
            assert (await sealed(streams, whole.id)).completed
            stopped = await streams.start(source=make(anyio.sleep_forever), principal=ME)
            async with streams.tail(stopped.id) as tail:
                while tail.at < 27:
                    await tail.receive()
            await streams.cancel(stopped.id)
            info = await sealed(streams, stopped.id)
            assert (info.seal and info.seal.outcome, info.tail) == (Outcome.CANCELLED, 27)
    assert left == ["left", "left"]


async def test_a_stop_at_a_yield_closes_the_generator() -> None:
    """Its scopes are left in their order and its finally blocks run, also where a cap stops it between two values."""
    left: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            with anyio.CancelScope():
                while True:
                    yield "data: 1\n\n"
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                left.append("left")

    streams = resume_stream(policy={"max_stream_bytes": 100})
    info, kept = await outcome(streams, source)
    assert info.seal is not None
    assert (info.seal.outcome, info.seal.detail) == (Outcome.OVERFLOW, "max_stream_bytes")
    assert (kept, left) == (b"data: 1\n\n" * 11, ["left"])


async def test_a_generator_that_never_waits_can_be_stopped() -> None:
    """And it starves nobody meanwhile."""

    async def source() -> AsyncIterator[str]:
        while True:
            yield "data: 1\n\n"

    streams = resume_stream()
    with anyio.fail_after(10):
        async with streams:
            started = await streams.start(source=source, principal=ME)
            async with streams.tail(started.id) as tail:
                await tail.receive()
            await streams.cancel(started.id)
            info = await sealed(streams, started.id)
    assert info.seal is not None
    assert info.seal.outcome is Outcome.CANCELLED


async def test_a_producer_that_fails_in_a_sources_task_group() -> None:
    """The stream fails with the producer's error, and its neighbours go on."""

    @asynccontextmanager
    async def source() -> AsyncIterator[AsyncIterator[str]]:
        async def produce() -> None:
            raise LookupError

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            yield Talk(*data(1))()

    streams, neighbour = resume_stream(), Talk(*data(1))
    with anyio.fail_after(10):
        async with streams:
            beside = await streams.start(source=neighbour, principal=ME)
            info = await sealed(streams, (await streams.start(source=source, principal=ME)).id)
            assert info.seal is not None
            assert info.seal.detail == "source_failed:LookupError"
            neighbour.say(None)
            assert (await sealed(streams, beside.id)).completed


async def test_a_timeout_around_the_values_does_not_look_like_their_end() -> None:
    """What swallows the cut of a source cannot make it complete."""

    @asynccontextmanager
    async def source() -> AsyncIterator[AsyncIterator[str]]:
        with anyio.move_on_after(0.05):
            yield Talk(*data(1))()

    info, kept = await outcome(resume_stream(), source)
    assert info.seal is not None
    assert (info.seal.outcome, kept) == (Outcome.PROVIDER_ERROR, b"data: 1\n\n")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_foreign_cancellation_is_the_sources_own_failure(anyio_backend: str) -> None:
    """On asyncio, awaiting a task that somebody else cancelled raises CancelledError: it must not take the server's
    other streams along."""
    gate = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        task = asyncio.ensure_future(gate.wait())
        task.cancel()
        await task

    streams, neighbour = resume_stream(), Talk(*data(1))
    with anyio.fail_after(10):
        async with streams:
            beside = await streams.start(source=neighbour, principal=ME)
            info = await sealed(streams, (await streams.start(source=source, principal=ME)).id)
            assert info.seal is not None
            assert info.seal.detail == "source_failed:CancelledError"
            neighbour.say(None)
            assert (await sealed(streams, beside.id)).completed


@pytest.mark.parametrize("error", [GeneratorExit, SystemExit, KeyboardInterrupt, BaseExceptionGroup])
async def test_whatever_a_source_raises_is_its_own_failure(error: type[BaseException]) -> None:
    """Not even `sys.exit()` reaches the stream beside it, or the server."""

    async def source() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        raise BaseExceptionGroup("several", [SystemExit(1), ValueError()]) if error is BaseExceptionGroup else error()

    sibling = Talk()
    with anyio.fail_after(10):
        async with resume_stream() as streams:
            beside = await streams.start(source=sibling, principal=ME)
            stream = await streams.start(source=source, principal=ME)
            info = await sealed(streams, stream.id)
            assert info.seal is not None
            assert (info.seal.outcome, info.seal.detail) == (Outcome.PROVIDER_ERROR, f"source_failed:{error.__name__}")
            assert not (await streams.info(beside.id)).sealed
