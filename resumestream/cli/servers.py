"""The ASGI servers under `serve`: uvicorn on asyncio, hypercorn on trio. Signals are the caller's."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio
import anyio.abc
import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import ConfigError

if TYPE_CHECKING:
    import asyncio

Backend = Literal["asyncio", "trio"]

BACKLOG = 2048

HEAD_BYTES = 128 * 1024
"""What is read of a request's head at all, above `Policy.max_head_bytes`: between the two the refusal says why."""

HEAD_S = 30
"""How long a connection may take to bring a whole head."""

Stopping = Callable[[], Awaitable[float]]
"""Returns when the server is to stop, with the seconds that requests in flight have then."""


class Server(Protocol):
    """Serves `app` on `listener`, bound but not listening; calls `started` once it accepts; returns when it stopped."""

    async def __call__(
        self, app: ASGIApp, listener: socket.socket, stopping: Stopping, started: Callable[[], None]
    ) -> None: ...


def server(backend: Backend) -> Server:
    """Raises ConfigError where the backend is not installed."""
    if backend == "asyncio":
        return _uvicorn
    try:
        import hypercorn.trio  # noqa: F401 - proves that it is there
    except ImportError as error:
        raise ConfigError(
            f"--backend trio needs trio and hypercorn ({error}): pip install 'resumestream[trio]'"
        ) from None
    return _hypercorn


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """uvicorn's own, which waits for a request's head for ever; and the one parser of its that bounds it."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unwatch()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.timeout_keep_alive_handler)

    def _unwatch(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None


async def _uvicorn(app: ASGIApp, listener: socket.socket, stopping: Stopping, started: Callable[[], None]) -> None:
    config: Any = uvicorn.Config(
        app,
        lifespan="off",
        http=_Protocol,
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the loopback rule judges by the peer itself
        backlog=BACKLOG,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
    running = _Uvicorn(config, started)

    async def stop() -> None:
        config.timeout_graceful_shutdown = await stopping()  # typed int, and any number to asyncio
        running.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        await running.serve(sockets=[listener])
        tasks.cancel_scope.cancel()


def _is_no_cut(record: logging.LogRecord) -> bool:
    """An answer cut on purpose is no error to log."""
    return record.msg != "ASGI callable returned without completing response."


async def _hypercorn(app: ASGIApp, listener: socket.socket, stopping: Stopping, started: Callable[[], None]) -> None:
    from hypercorn.config import Config

    from . import on_trio

    config = Config()
    config.backlog = BACKLOG
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.h11_max_incomplete_size = HEAD_BYTES
    config.keep_alive_timeout = HEAD_S  # it counts until a head is whole
    await on_trio.serve(app, config, listener, stopping, started)
