"""Run something of ours within another app's lifespan, also where that app has none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("resumestream")


class WithLifespan:
    """`app`, inside `running()` from the server's start-up to its shutdown: entered first, left last."""

    def __init__(self, app: ASGIApp, running: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._app, self._running = app, running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await self._app(scope, receive, send)
        startup = await receive()
        try:
            async with self._running():
                last = await _Inner(self._app, scope, receive, send).run(startup)
        except Exception as error:
            logger.exception("start-up or shutdown failed")
            last = {"type": "lifespan.startup.failed", "message": str(error)}
        await send(last)
        return None


class _Inner:
    """The app's own lifespan, its last word held back until ours was left."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._app, self._scope, self._receive, self._send = app, scope, receive, send
        self._started = False
        self._last: Message = {"type": "lifespan.shutdown.complete"}

    async def run(self, startup: Message) -> Message:
        """What to tell the server at the end."""
        pending = [startup]

        async def receive() -> Message:
            return pending.pop() if pending else await self._receive()

        async def send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._started = True
                await self._send(message)
            else:
                self._last = message

        try:
            await self._app(self._scope, receive, send)
        except Exception:
            if self._started:
                raise
            # ASGI: an app that raises on a lifespan scope has no lifespan.
            await send({"type": "lifespan.startup.complete"})
            await self._receive()
        return self._last
