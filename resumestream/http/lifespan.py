"""Run something of ours within another app's lifespan, also where that app has none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("resumestream")

_LAST_WORDS = frozenset({"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class WithLifespan:
    """`app`, inside `running()` from the server's start-up to its shutdown: entered first, left last."""

    def __init__(self, app: ASGIApp, running: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._app, self._running = app, running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await self._app(scope, receive, send)
        inner = _Inner(self._app, scope, receive, send)
        await inner.begin()
        try:
            async with self._running():
                await inner.run()
        except Exception as error:
            # Said and raised, as Starlette does: servers print the message, test clients show the exception.
            await send(inner.failure(error))
            raise
        return await send(inner.last)


class _Inner:
    """The app's own lifespan, its last word held back until ours was left.

    Servers go on without the lifespan of an app that raises on its scope, or that leaves it early. So does this.
    """

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self._pending: list[Message] = []
        self._started = self._stopping = False
        self.last: Message = {"type": "lifespan.shutdown.complete"}

    async def begin(self) -> None:
        """Wait for the server's word to start; the app hears it in `run`."""
        self._pending.append(await self._receive())

    async def run(self) -> None:
        """From start-up to shutdown. Raises what the app raises, unless it merely has no lifespan."""
        try:
            await self._app(self._scope, self._next, self._say)
        except Exception:
            if self._stopping or self._failed:
                raise
            logger.info("the wrapped app has no lifespan of its own, or left it early", exc_info=True)
        if self._stopping or self._failed:
            return
        if not self._started:
            await self._say({"type": "lifespan.startup.complete"})
        await self._receive()

    def failure(self, error: Exception) -> Message:
        """What to tell the server after `error`: the app's own words, where it had any."""
        if self._failed:
            return self.last
        return {"type": f"lifespan.{'shutdown' if self._started else 'startup'}.failed", "message": str(error)}

    @property
    def _failed(self) -> bool:
        return bool(self.last["type"].endswith(".failed"))

    async def _next(self) -> Message:
        if self._pending:
            return self._pending.pop()
        message = await self._receive()
        self._stopping = True
        return message

    async def _say(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._started = True
            await self._send(message)
        elif message["type"] in _LAST_WORDS:
            self.last = message
        else:  # as the servers do, so that an app which takes every scope for a request has no lifespan
            raise ValueError(f"{message['type']} is no answer to a lifespan")
