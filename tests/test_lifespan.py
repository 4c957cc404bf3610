"""Ours around another app's lifespan: entered first, left last, whatever that app does with its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resumestream.http.lifespan import WithLifespan

pytestmark = pytest.mark.anyio

WHOLE = ["ours started", "theirs started", "serving", "asked to stop", "theirs stopped", "ours stopped"]
SCOPE: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}


class Server:
    """What a server does with an app's lifespan; `said` is what the app told it, `log` what happened in which order."""

    def __init__(self, *, failing: str = "") -> None:
        self.log: list[str] = []
        self.said: list[Message] = []
        self.started, self._stop = anyio.Event(), anyio.Event()
        self._failing = failing

    @asynccontextmanager
    async def ours(self) -> AsyncIterator[None]:
        if self._failing == "start":
            raise LookupError("the store is locked")
        self.log.append("ours started")
        try:
            yield
        finally:
            self.log.append("ours stopped")
        if self._failing == "stop":
            raise LookupError("the store is full")

    async def run(self, app: ASGIApp) -> None:
        """From start to stop; the stop comes when the app has started. Raises what the app raises."""
        asked: list[Message] = [{"type": "lifespan.startup"}]

        async def receive() -> Message:
            if asked:
                return asked.pop()
            await self._stop.wait()
            self.log.append("asked to stop")
            return {"type": "lifespan.shutdown"}

        async def send(message: Message) -> None:
            self.said.append(message)
            if message["type"] == "lifespan.startup.complete":
                self.log.append("serving")
                self._stop.set()

        with anyio.fail_after(5):
            await WithLifespan(app, self.ours)(dict(SCOPE), receive, send)

    @property
    def told(self) -> list[str]:
        return [message["type"].removeprefix("lifespan.") for message in self.said]


def host(server: Server, failing: str = "") -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
        if failing == "start":
            raise LookupError("no database")
        server.log.append("theirs started")
        yield {"theirs": 1}
        server.log.append("theirs stopped")
        if failing == "stop":
            raise LookupError("no database")

    return Starlette(lifespan=lifespan)


async def test_ours_lies_around_theirs() -> None:
    """Started first, stopped last, and the server hears of the end when both are done."""
    server = Server()
    await server.run(host(server))
    assert server.log == WHOLE
    assert server.told == ["startup.complete", "shutdown.complete"]


Handler = Callable[[Receive, Send], Awaitable[None]]


async def raising(receive: Receive, send: Send) -> None:
    raise AssertionError("http only")


async def raising_after_a_message(receive: Receive, send: Send) -> None:
    await receive()
    raise KeyError("body")


async def answering_as_a_request(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def returning(receive: Receive, send: Send) -> None:
    return


async def starting_only(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def dying(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    raise LookupError("its pinger broke")


def only_lifespan(handler: Handler) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler(receive, send)

    return app


@pytest.mark.parametrize(
    "handler", [raising, raising_after_a_message, answering_as_a_request, returning, starting_only, dying]
)
async def test_an_app_without_a_lifespan_or_with_half_of_one(handler: Handler) -> None:
    """Servers go on serving such an app; ours runs from the start to the stop all the same."""
    server = Server()
    await server.run(only_lifespan(handler))
    assert server.log == ["ours started", "serving", "asked to stop", "ours stopped"]
    assert server.told == ["startup.complete", "shutdown.complete"]


@pytest.mark.parametrize(
    ("ours", "theirs", "log", "told"),
    [
        ("start", "", [], ["startup.failed"]),
        ("", "start", ["ours started", "ours stopped"], ["startup.failed"]),
        ("stop", "", WHOLE, ["startup.complete", "shutdown.failed"]),
        ("", "stop", WHOLE, ["startup.complete", "shutdown.failed"]),
    ],
)
async def test_failures_are_told_and_raised(ours: str, theirs: str, log: list[str], told: list[str]) -> None:
    """The server gets the message, a test client the exception, and whatever was started is stopped."""
    server = Server(failing=ours)
    with pytest.raises(LookupError) as failure:
        await server.run(host(server, theirs))
    assert server.told == told
    assert str(failure.value) in server.said[-1]["message"]
    assert server.log == log


async def test_an_app_that_says_it_failed_and_raises_nothing() -> None:
    """Its own message reaches the server, after ours was stopped."""

    async def failing(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    server = Server()
    await server.run(only_lifespan(failing))
    assert server.said == [{"type": "lifespan.startup.failed", "message": "no database"}]
    assert server.log == ["ours started", "ours stopped"]


async def test_state_of_their_lifespan_is_kept() -> None:
    """The scope is handed on as it is, so what they put there reaches their requests."""
    server, scopes = Server(), list[Scope]()
    inner = host(server)

    async def watching(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await inner(scope, receive, send)

    await server.run(watching)
    assert scopes[0]["state"] == {"theirs": 1}


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_requests_pass_untouched(kind: str) -> None:
    """Nothing of ours is started for them."""
    server, seen = Server(), list[Any]()

    async def app(*call: Any) -> None:
        seen.append(call)

    async def never(*_: Any) -> Any:
        raise AssertionError

    call = ({"type": kind}, never, never)
    await WithLifespan(app, server.ours)(*call)
    assert seen == [call]
    assert server.log == []


async def test_a_cancelled_server_leaves_both() -> None:
    """Some servers cancel the lifespan instead of asking it to end."""
    server = Server()
    started = anyio.Event()

    async def waiting(receive: Receive, send: Send) -> None:
        await receive()
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            server.log.append("theirs stopped")

    @asynccontextmanager
    async def ours() -> AsyncIterator[None]:
        try:
            yield
        finally:
            server.log.append("ours stopped")

    server.ours = ours  # type: ignore[method-assign]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, only_lifespan(waiting))
        await started.wait()
        tasks.cancel_scope.cancel()
    assert server.log == ["theirs stopped", "ours stopped"]
