"""The ASGI servers under `serve`: uvicorn on asyncio, hypercorn on trio. Signals are the caller's."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, Protocol

import anyio
import anyio.abc
import uvicorn
from starlette.types import ASGIApp

from ..errors import ConfigError

Backend = Literal["asyncio", "trio"]

BACKLOG = 2048

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


async def _uvicorn(app: ASGIApp, listener: socket.socket, stopping: Stopping, started: Callable[[], None]) -> None:
    config: Any = uvicorn.Config(
        app,
        lifespan="off",
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
    from hypercorn.trio import serve

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False

    async def stop() -> None:
        config.graceful_timeout = await stopping()

    asgi: Any = app
    status: Any = _Started(started)
    await serve(asgi, config, shutdown_trigger=stop, task_status=status, mode="asgi")


class _Started:
    """What trio's `nursery.start` passes, as a callback."""

    def __init__(self, started: Callable[[], None]) -> None:
        self._started = started

    def started(self, value: object = None) -> None:
        self._started()
