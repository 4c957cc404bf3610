"""A request's body and its end, from the one `receive` that tells of both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from ..errors import RequestTimeout

LEAST_BYTES_PER_S = 1024
"""A body that comes more slowly, beyond what `receive_s` gives to every one, is one of many that only hold us."""


class Inbound:
    """The body, whole or piece by piece; afterwards `receive` tells only of the disconnect. `receive_s` is the
    policy's."""

    def __init__(self, receive: Receive, receive_s: float) -> None:
        self._receive, self._receive_s = receive, receive_s
        self._held: list[bytes] = []
        self._size = 0
        self._began: float | None = None
        self._more = True
        self._whole = False
        self._wanted: anyio.Event | None = None
        """While somebody waits for the end of the body: most have it before."""

    def ignore(self) -> None:
        """Nobody here wants the body, or the rest of it, or somebody had it already."""
        self._whole = True
        if self._wanted:
            self._wanted.set()

    async def read(self, most: int) -> bytes | None:
        """The whole body, or None when it has more than `most` bytes: then `receive` still gives all of it.

        Raises ClientDisconnect, RequestTimeout.
        """
        size = 0
        while self._more:
            size += len(await self._next())
            if size > most:
                return None
        body = b"".join(self._held)
        self._held.clear()
        self.ignore()
        return body

    async def receive(self) -> bytes:
        """The next piece; empty at the end. Raises ClientDisconnect, RequestTimeout."""
        while not self._held and self._more:
            await self._next()
        if self._held:
            return self._held.pop(0)
        self.ignore()
        return b""

    async def _next(self) -> bytes:
        now = anyio.current_time()
        self._began = now if self._began is None else self._began
        until = min(now, self._began + self._size / LEAST_BYTES_PER_S) + self._receive_s
        message: Message | None = None
        with anyio.CancelScope(deadline=until):
            message = await self._receive()
        if message is None:
            raise RequestTimeout(
                f"The request body came too slowly: {self._size} bytes in {anyio.current_time() - self._began:.0f} s. "
                f"It may take {self._receive_s:g} s, and a second more for each KiB."
            )
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body: bytes = message.get("body", b"")
        self._size += len(body)
        self._more = message.get("more_body", False)
        if body:
            self._held.append(body)
        return body

    async def while_connected(self, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run `work(*args)`, cancelled as soon as the client is gone. Servers say so by `receive()` alone; their
        `send()` to a dead client is silent (measured on six of them). Raises what `work` raises, but for
        ClientDisconnect."""
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, tasks.cancel_scope)
            try:
                await work(*args)
            except ClientDisconnect:
                pass  # it left while it sent its body
            except Exception as error:  # carried out by hand: no ExceptionGroup around a refusal, or a hook's own
                failure = error
            tasks.cancel_scope.cancel()
        if failure:
            raise failure

    async def _watch(self, scope: anyio.CancelScope) -> None:
        if not self._whole:
            self._wanted = anyio.Event()
            await self._wanted.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        scope.cancel()
