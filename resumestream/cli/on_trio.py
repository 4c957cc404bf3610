"""hypercorn's connections on trio, each for itself. Imports trio and hypercorn, which are optional.

hypercorn's own `serve` has them all in one nursery, and ends a connection while another task still writes to it. What
that raises ends the server, and two requests in one packet, from anybody, bring it about.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("resumestream")

ANSWERED_S = 1
"""How long the end of a connection waits for the answer that is under way on it."""


async def serve(
    app: ASGIApp,
    config: Config,
    listener: socket.socket,
    stopping: Callable[[], Awaitable[float]],
    started: Callable[[], None],
) -> None:
    """Serve HTTP/1.1 until `stopping` returns, and requests in flight for the seconds that it returns. No lifespan."""
    context = WorkerContext(None)
    listener.listen(config.backlog)
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
    async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
        one = partial(_connection, app, config, context)
        accepting.start_soon(partial(trio.serve_listeners, one, listeners, handler_nursery=connections))
        started()
        grace_s = await stopping()
        accepting.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + grace_s
        await context.terminated.set()


async def _connection(app: ASGIApp, config: Config, context: WorkerContext, stream: trio.SocketStream) -> None:
    connection: Any = _Connection(app, stream)  # hypercorn calls for less than it has in its annotations
    try:
        await TCPServer(ASGIWrapper(connection.answer), config, context, ConnectionState({}), connection)
    except* Exception:
        logger.exception("a connection failed; the others go on")


class _Connection(trio.abc.HalfCloseableStream):
    """What hypercorn reads and writes, and the app as it calls it there: so the end can wait for the answer."""

    def __init__(self, app: ASGIApp, stream: trio.SocketStream) -> None:
        self._app, self._stream, self.socket = app, stream, stream.socket
        self._answering: trio.lowlevel.Task | None = None
        self._answered = trio.Event()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._answering, self._answered = trio.lowlevel.current_task(), trio.Event()
        answered = self._answered
        try:
            await self._app(scope, receive, send)
        finally:
            answered.set()

    async def send_eof(self) -> None:
        if self._answering not in (None, trio.lowlevel.current_task()):
            with trio.move_on_after(ANSWERED_S):
                await self._answered.wait()
        await self._stream.send_eof()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BusyResourceError:  # its writes come one by one: it is being ended
            raise trio.ClosedResourceError from None

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
