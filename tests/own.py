"""Streams of your own generators, as the tests make them: a source that is driven, and apps around it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from resumestream import Policy, ResumeStream, StreamInfo

from .asgi import Callers, calling

Endpoint = Callable[[Request], Awaitable[Response]]
ME = "ann"


class Talk:
    """A source that says what the test says: values, exceptions to raise, and None to end."""

    def __init__(self, *values: Any) -> None:
        self._said: deque[Any] = deque(values)
        self._more = anyio.Event()
        self.runs = 0
        self.ended = anyio.Event()

    def say(self, *values: Any) -> None:
        self._said.extend(values)
        self._more.set()

    async def __call__(self) -> AsyncIterator[Any]:
        self.runs += 1
        try:
            while True:
                while not self._said:
                    self._more = anyio.Event()
                    await self._more.wait()
                value = self._said.popleft()
                if value is None:
                    return
                if isinstance(value, Exception):
                    raise value
                yield value
        finally:
            self.ended.set()


def data(*texts: object) -> list[str]:
    return [f"data: {text}\n\n" for text in texts]


def resume_stream(**more: Any) -> ResumeStream:
    policy = {"drain_s": 0, "settle_s": 0.05} | more.pop("policy", {})
    return ResumeStream("memory:", policy=Policy(**policy), **more)


def fastapi(streams: ResumeStream, endpoint: Endpoint) -> Starlette:
    app = FastAPI()

    async def chat(request: Request) -> Response:
        return await endpoint(request)

    app.add_api_route("/chat", chat, methods=["GET", "POST"], response_model=None)
    streams.install(app, "/llm")
    return app


def starlette(streams: ResumeStream, endpoint: Endpoint) -> Starlette:
    app = Starlette(routes=[Route("/chat", endpoint, methods=["GET", "POST"])])
    streams.install(app, "/llm")
    return app


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[Callers]:
    """The app between its start and its end, under a deadline."""
    with anyio.fail_after(10):
        async with app.router.lifespan_context(app), calling(app) as callers:
            yield callers


@asynccontextmanager
async def answering(source: Any, *, streams: ResumeStream | None = None, **how: Any) -> AsyncIterator[Callers]:
    """A Starlette app whose `/chat` answers with `source`; by default for one principal, under one key."""
    ours = streams or resume_stream()
    wanted = {"key": "turn-1", "principal": ME, **how}

    async def chat(request: Request) -> Response:
        return await ours.response(source=source, request=request, **wanted)

    async with served(starlette(ours, chat)) as callers:
        yield callers


async def sealed(streams: ResumeStream, stream: str) -> StreamInfo:
    """The record once it is sealed."""
    async with streams.tail(stream, "now") as tail:
        while (page := await tail.receive()).info is None:
            pass
    return page.info


async def outcome(streams: ResumeStream, source: Any, **how: Any) -> tuple[StreamInfo, bytes]:
    """How a stream of that source ends, and its payload."""
    with anyio.fail_after(10):
        async with streams:
            started = await streams.start(source=source, principal=ME, **how)
            async with streams.tail(started.id) as tail:
                payload = b""
                while (page := await tail.receive()).info is None:
                    payload += page.data
            return page.info, payload + page.data
