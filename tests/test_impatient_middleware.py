"""A middleware that gives an answer up in its middle: what its client got of it never looks whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resumestream import Policy, ResumeStream
from resumestream.testing import Script, ScriptedProvider

from .asgi import Callers, Passing
from .own import ME, Talk, data, served
from .wire import CHAT

pytestmark = pytest.mark.anyio

EVENTS = b"data: 1\n\ndata: 2\n\n"
HELD = Script(body=EVENTS, headers={"content-type": "text/event-stream"}, hold_at=1)


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=HELD) as provider:
        yield provider


class Impatient:
    """Cancels the app, as a timeout does, or fails in its `send`: at the status line, or after some of the body."""

    def __init__(self, app: ASGIApp, *, at: str, by: str) -> None:
        self.app, self.at, self.by = app, at, by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with anyio.CancelScope() as patience:

            async def counting(message: Message) -> None:
                await send(message)
                if message["type"] == self.at:
                    if self.by == "failing":
                        raise LookupError
                    patience.cancel()
                    await anyio.lowlevel.checkpoint()

            with suppress(LookupError):
                await self.app(scope, receive, counting)


@asynccontextmanager
async def hosted(provider: ScriptedProvider, at: str, by: str) -> AsyncIterator[Callers]:
    streams = ResumeStream("memory:", {"openai": provider.url}, Policy(drain_s=0))

    async def chat(request: Request) -> Response:
        return await streams.response(key="k", principal=ME, source=Talk(*data(1)))

    app = Starlette(routes=[Route("/chat", chat)])
    app.add_middleware(Impatient, at=at, by=by)
    app.add_middleware(Passing)
    streams.install(app, "/llm")
    async with served(app) as callers:
        yield callers
    provider.release()


ASKED: dict[str, Any] = {
    "gateway": {"target": "/llm" + CHAT, "method": "POST", "idempotency_key": "k"},
    "own response": {"target": "/chat"},
    "pass-through": {"target": "/llm/openai/v1/responses/r?stream=true"},
}


@pytest.mark.parametrize("by", ["cancelling", "failing"])
@pytest.mark.parametrize("at", ["http.response.start", "http.response.body"])
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
async def test_an_answer_that_was_given_up_is_cut(asked: Any, at: str, by: str, provider: ScriptedProvider) -> None:
    """Though the middleware around it ends the body cleanly."""
    async with hosted(provider, at, by) as callers:
        reply = await callers.open(**asked).ended()
    assert (reply.status, reply.cut) == (200, True)
    assert EVENTS.startswith(reply.body)
