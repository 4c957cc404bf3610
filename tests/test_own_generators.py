"""Your own generators: they outlive their callers, run once a key, and belong to no request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from resumestream import ConfigError, Outcome, Principal, State
from resumestream.errors import (
    KeyExpired,
    NotStarted,
    OffsetBeyondTail,
    OffsetMalformed,
    RetryMismatch,
    StreamNotFound,
)
from resumestream.testing import running

from .own import ME, Talk, answering, data, fastapi, resume_stream, sealed, served, starlette
from .wire import Client

pytestmark = pytest.mark.anyio

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")

# --- outliving the caller ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [fastapi, starlette])
async def test_the_generator_outlives_its_first_caller(host: Any) -> None:
    """Who asks again with the key gets all bytes; the generator has run once."""
    streams, talk = resume_stream(), Talk(*data(1))

    async def chat(request: Request) -> Response:
        return await streams.response(key="turn-1", source=talk, request=request)

    async with served(host(streams, chat)) as callers:
        first = callers.open("/chat")
        await first.until(b"1\n\n")
        first.leave()
        await first.ended()
        talk.say(*data(2))
        second = callers.open("/chat")
        await second.until(b"2\n\n")
        assert not talk.ended.is_set()
        talk.say(*data(3), None)
        await second.ended()
        third = await callers.get("/chat")
    assert (second.cut, second.body) == (third.cut, third.body) == (False, b"".join(map(str.encode, data(1, 2, 3))))
    assert talk.runs == 1
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == third.headers["idempotent-replayed"] == "true"
    assert first.headers["stream-id"] == second.headers["stream-id"] == third.headers["stream-id"]
    assert third.headers["stream-outcome"] == "completed"
    assert second.headers["content-type"] == "text/event-stream"
    assert second.headers["cache-control"] == "no-store, no-transform"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the servers have loops of their own
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"])
@pytest.mark.parametrize("host", [fastapi, starlette])
async def test_it_outlives_a_connection_that_breaks(host: Any, server: Any) -> None:
    """The same over real sockets, where only `receive()` tells that the caller is gone."""
    streams, talks = resume_stream(), list[Talk]()

    async def chat(request: Request) -> Response:
        if request.method == "POST":
            talks[0].say(*data(2), None)
            return Response()
        talks.append(Talk(*data(1)))  # on the server's own loop
        return await streams.response(key="turn-1", source=talks[-1], principal=ME)

    def ask(url: str) -> bytes:
        client = Client(url)
        first = client.open("GET", "/chat")
        assert first.read(9) == b"data: 1\n\n"
        first.close()
        client.ask("POST", "/chat")
        return client.get("/chat").body

    with anyio.fail_after(20), running(host(streams, chat), server=server) as url:
        assert await anyio.to_thread.run_sync(ask, url) == b"data: 1\n\ndata: 2\n\n"
    assert [talk.runs for talk in talks] == [1, 0]


async def test_many_callers_at_once_run_it_once() -> None:
    """One key, one run, the same bytes for all."""
    talk = Talk()
    async with answering(talk) as callers:
        readers = [callers.open("/chat") for _ in range(20)]
        for reader in readers:
            await reader.started()
        talk.say(*data(1), None)
        for reader in readers:
            await reader.ended()
    assert {reader.body for reader in readers} == {b"data: 1\n\n"}
    assert talk.runs == 1


async def test_without_a_key_each_call_runs_it() -> None:
    """Nobody can attach to what has no key; its id finds it all the same."""
    runs: list[int] = []

    async def source() -> AsyncIterator[str]:
        runs.append(len(runs))
        yield f"data: {len(runs)}\n\n"

    async with answering(source, key=None) as callers:
        first, second = await callers.get("/chat"), await callers.get("/chat")
    assert (first.body, second.body, runs) == (b"data: 1\n\n", b"data: 2\n\n", [0, 1])
    assert first.headers["stream-id"] != second.headers["stream-id"]


async def test_it_runs_in_a_copy_of_the_callers_context() -> None:
    """It sees what its caller had set, keeps what it sets itself between values, and changes nothing outside."""
    streams, seen = resume_stream(), list[str]()

    async def source() -> AsyncIterator[str]:
        seen.append(WHO.get())
        WHO.set("the source")
        yield "data: 1\n\n"
        seen.append(WHO.get())

    async def chat(request: Request) -> Response:
        WHO.set(request.query_params["who"])
        response = await streams.response(key=WHO.get(), source=source, principal=ME)
        await sealed(streams, response._claim.stream)  # type: ignore[attr-defined]
        seen.append(WHO.get())
        return response

    async with served(starlette(streams, chat)) as callers:
        await callers.get("/chat?who=ann")
        await callers.get("/chat?who=bob")
    assert seen == ["ann", "the source", "ann", "bob", "the source", "bob"]
    assert WHO.get() == "nobody"


async def test_headers_cookies_and_background_of_the_endpoint() -> None:
    """A Response like any other: what the endpoint sets on it goes out, and its background task runs after."""
    streams, ran = resume_stream(), list[str]()

    async def chat(request: Request) -> Response:
        response = await streams.response(key="k", source=Talk("data: 1\n\n", None), principal=ME)
        response.headers["x-mine"] = "1"
        response.set_cookie("seen", "yes")
        response.background = BackgroundTask(ran.append, "ran")
        return response

    async with served(starlette(streams, chat)) as callers:
        reply = await callers.get("/chat")
    assert reply.headers["x-mine"] == "1"
    assert reply.headers["set-cookie"].startswith("seen=yes")
    assert "content-length" not in reply.headers
    assert (reply.body, ran) == (b"data: 1\n\n", ["ran"])


# --- who owns what it uses --------------------------------------------------------------------------------------


class Connection:
    """A database connection, say."""

    def __init__(self) -> None:
        self.closed = anyio.Event()

    async def row(self, number: int) -> str:
        if self.closed.is_set():
            raise ConnectionError("this connection is closed")
        return f"data: {number}\n\n"


async def test_a_request_scoped_dependency_dies_under_the_generator() -> None:
    """FastAPI closes it when the reader leaves: the generator that borrowed it fails. One that owns what it uses, as an
    async context manager, goes on."""
    streams, opened = resume_stream(), list[Connection]()
    go = anyio.Event()

    async def connect() -> AsyncIterator[Connection]:
        connection = Connection()
        opened.append(connection)
        try:
            yield connection
        finally:
            connection.closed.set()

    async def rows(connection: Connection) -> AsyncIterator[str]:
        yield await connection.row(1)
        await go.wait()
        yield await connection.row(2)

    @asynccontextmanager
    async def owning() -> AsyncIterator[AsyncIterator[str]]:
        async with asynccontextmanager(connect)() as connection:
            yield rows(connection)

    app = FastAPI()

    @app.get("/borrowed", response_model=None)
    async def borrowed(connection: Any = Depends(connect)) -> Response:  # noqa: B008 - how FastAPI wants it
        return await streams.response(key="borrowed", source=lambda: rows(connection), principal=ME)

    @app.get("/owned", response_model=None)
    async def owned() -> Response:
        return await streams.response(key="owned", source=owning, principal=ME)

    streams.install(app)
    async with served(app) as callers:
        for path in ("/borrowed", "/owned"):
            reader = callers.open(path)
            await reader.until(b"1\n\n")
            reader.leave()
            await reader.ended()
        await opened[0].closed.wait()
        assert not opened[1].closed.is_set()
        go.set()
        late = {path: await callers.get(path) for path in ("/borrowed", "/owned")}
        found = await streams.find(key="borrowed", principal=ME)
    assert (late["/borrowed"].cut, late["/borrowed"].body) == (True, b"data: 1\n\n")
    assert found is not None
    assert found.seal is not None
    assert found.seal.detail == "source_failed:ConnectionError"
    assert (late["/owned"].cut, late["/owned"].body) == (False, b"data: 1\n\ndata: 2\n\n")
    assert opened[1].closed.is_set()


# --- attaching, finding, consenting -----------------------------------------------------------------------------


async def test_without_a_source_it_attaches_or_is_a_204() -> None:
    """The page that reloads asks so: it never starts a call."""
    streams, talk = resume_stream(), Talk(*data(1))

    async def chat(request: Request) -> Response:
        source = talk if request.method == "POST" else None
        return await streams.response(key="turn-1", source=source, principal=ME)

    async with served(starlette(streams, chat)) as callers:
        nothing = await callers.get("/chat")
        assert (nothing.status, nothing.body, talk.runs) == (204, b"", 0)
        first = callers.open("/chat", method="POST")
        await first.until(b"1\n\n")
        live = callers.open("/chat")
        await live.until(b"1\n\n")
        talk.say(None)
        await live.ended()
        done = await callers.get("/chat")
    assert live.body == done.body == b"data: 1\n\n"
    assert live.headers["idempotent-replayed"] == "true"
    assert talk.runs == 1


async def test_find_never_creates() -> None:
    """A key, and whose it is, lead to a record or to None."""
    streams = resume_stream()
    with anyio.fail_after(10):
        async with streams:
            assert await streams.find(key="k", principal=ME) is None
            started = await streams.start(key="k", source=Talk(), principal=Principal(ME), labels=["a"])
            found = await streams.find(key="k", principal=ME)
            assert found is not None
            assert (found.id, found.state, found.new.labels) == (started.id, State.PENDING, ("a",))
            assert await streams.find(key="k", principal="bob") is None
            assert await streams.find(key="other", principal=ME) is None
            again = await streams.start(key="k", source=Talk(), principal=ME)
            assert again.id == started.id


async def test_a_failed_key_runs_again_with_consent_only() -> None:
    """`retry_of` names the stream that failed; the new one names it as its previous."""
    streams, talk = resume_stream(), Talk(*data(1), LookupError())
    with anyio.fail_after(10):
        async with streams:
            first = await sealed(streams, (await streams.start(key="k", source=talk, principal=ME)).id)
            assert (await streams.start(key="k", source=talk, principal=ME)).id == first.id
            with pytest.raises(RetryMismatch):
                await streams.start(key="k", source=talk, principal=ME, retry_of="another")
            talk.say(*data(2), None)
            second = await streams.start(key="k", source=talk, principal=ME, retry_of=first.id)
            assert second.new.previous == first.id
            assert (await sealed(streams, second.id)).completed
            assert talk.runs == 2
            again = await streams.start(key="k", source=talk, principal=ME, retry_of=first.id)
            assert again.id == second.id


async def test_refusals_of_response_are_answers() -> None:
    """An endpoint need not catch anything that its caller can do wrong."""
    streams = resume_stream(policy={"retain_s": 0})
    async with answering(Talk(None), streams=streams) as callers:
        await callers.get("/chat")
        gone = await callers.get("/chat")
        assert (gone.status, gone.headers["x-should-retry"]) == (410, "false")
        assert gone.headers["location"].startswith("/llm/streams/")
        with pytest.raises(KeyExpired):
            await streams.start(key="turn-1", source=Talk(), principal=ME)


async def test_the_tail_of_a_stream() -> None:
    """From any offset, live to the end."""
    streams, talk = resume_stream(), Talk(*data(1, 2))
    with anyio.fail_after(10):
        async with streams:
            stream = (await streams.start(source=talk, principal=ME)).id
            async with streams.tail(stream) as tail:
                while tail.at < 18:
                    await tail.receive()
                async with streams.tail(stream, 9) as second:
                    assert (await second.receive()).data == b"data: 2\n\n"
                talk.say(*data(3), None)
                pages = [await tail.receive()]
                while pages[-1].info is None:
                    pages.append(await tail.receive())
                assert b"".join(page.data for page in pages) == b"data: 3\n\n"
                with pytest.raises(anyio.EndOfStream):
                    await tail.receive()
            for offset, error in ((28, OffsetBeyondTail), ("x", OffsetMalformed)):
                with pytest.raises(error):
                    async with streams.tail(stream, offset):
                        pass
            with pytest.raises(StreamNotFound):
                await streams.info("nothing")


# --- stopping ---------------------------------------------------------------------------------------------------


async def test_on_disconnect_cancel_closes_the_generator() -> None:
    """The last reader's leaving stops it; what it said is kept."""
    streams, talk = resume_stream(), Talk(*data(1))
    async with answering(talk, streams=streams, on_disconnect="cancel") as callers:
        first, second = callers.open("/chat"), callers.open("/chat")
        await first.until(b"1\n\n")
        await second.until(b"1\n\n")
        first.leave()
        await first.ended()
        assert not talk.ended.is_set()
        second.leave()
        await talk.ended.wait()
        info = await sealed(streams, second.headers["stream-id"])
    assert info.seal is not None
    assert (info.seal.outcome, info.seal.detail, info.tail) == (Outcome.CANCELLED, "nobody_listens", 9)


async def test_cancel_from_outside() -> None:
    """Closes the generator, keeps the partial, and says so to every reader; again, it does nothing."""
    streams, talk = resume_stream(), Talk(*data(1))
    async with answering(talk, streams=streams, dialect="openai-chat") as callers:
        reader = callers.open("/chat")
        await reader.until(b"1\n\n")
        stream = reader.headers["stream-id"]
        await streams.cancel(stream)
        await reader.ended()
        assert talk.ended.is_set()
        assert b"cancelled" in reader.body
        info = await streams.info(stream)
        await streams.cancel(stream)
        assert (await streams.info(stream)) == info
        with pytest.raises(StreamNotFound):
            await streams.cancel("nothing")
    assert info.seal is not None
    assert info.seal.outcome is Outcome.CANCELLED


async def test_the_end_of_the_server_closes_generators() -> None:
    """Readers are cut, finally blocks run, and the streams are sealed as interrupted."""
    streams, talk = resume_stream(), Talk(*data(1))
    async with answering(talk, streams=streams) as callers:
        reader = callers.open("/chat")
        await reader.until(b"1\n\n")
        await streams.drain()
        await reader.ended()
        info = await streams.info(reader.headers["stream-id"])
        refused = await streams.response(key="another", source=talk, principal=ME)
    assert (reader.cut, talk.ended.is_set()) == (True, True)
    assert info.seal is not None
    assert info.seal.outcome is Outcome.INTERRUPTED
    assert refused.status_code == 503


# --- wrong use --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"key": ""},
        {"key": 5},
        {"source": "text"},
        {"source": [1]},
        {"on_disconnect": "never"},
        {"dialect": "klingon"},
        {"labels": "turn"},
        {"labels": ["a b"]},
        {"labels": [str(number) for number in range(9)]},
        {"retain_s": -1},
        {"retain_s": float("nan")},
    ],
)
async def test_wrong_values_are_raised_where_they_are_written(how: dict[str, Any]) -> None:
    """To the programmer, not to the caller; nothing has run."""
    streams, talk = resume_stream(), Talk(None)
    wanted = {"key": "k", "source": talk, "principal": ME, **how}
    with anyio.fail_after(10):
        async with streams:
            with pytest.raises(ConfigError):
                await streams.response(**wanted)
            with pytest.raises(ConfigError):
                await streams.start(**wanted)
    assert talk.runs == 0


async def test_whose_a_stream_is_that_no_request_asked_for() -> None:
    """The application's own, unless a hook says whose streams are: then somebody has to."""

    async def hook(conn: object, action: object) -> Principal:
        return ME

    with anyio.fail_after(10):
        async with resume_stream() as streams:
            stream = await streams.start(key="k", source=Talk())
            assert (stream.new.principal, (await streams.find(key="k")) is not None) == ("local", True)
            assert await streams.find(key="k", principal=ME) is None
        async with resume_stream(authorize=hook) as streams:
            with pytest.raises(ConfigError, match=r"request= or principal="):
                await streams.start(key="k", source=Talk())
            with pytest.raises(ConfigError, match="principal="):
                await streams.find(key="k")


async def test_an_answer_is_always_somebodys() -> None:
    """Left out, every user of the application would get what the first one asked for."""
    talk = Talk(None)
    with anyio.fail_after(10):
        async with resume_stream() as streams:
            with pytest.raises(ConfigError, match=r"request=.* principal="):
                await streams.response(key="k", source=talk)
            assert await streams.find(key="k") is None
    assert talk.runs == 0


async def test_before_the_start_there_is_nothing() -> None:
    """The answer has the lines to add; methods that answer nobody raise."""
    streams = resume_stream()
    response = await streams.response(key="k", source=Talk(), principal=ME)
    assert response.status_code == 503
    assert b"streams.install(app" in response.body
    for call in (streams.find(key="k", principal=ME), streams.info("x"), streams.cancel("x"), streams.drain()):
        with pytest.raises(NotStarted, match=r"streams\.install"):
            await call
    with pytest.raises(NotStarted):
        streams.ticket("x")
