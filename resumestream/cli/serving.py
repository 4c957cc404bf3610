"""One server process: it serves on a socket until it is asked to stop, and ends in time."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import anyio

from ..embed import ResumeStream
from ..http.guard import Guard
from ..http.mount import alone
from ..ports import LogStore
from .servers import Server
from .signals import END_S, Stop, exit_within, stop_signals

logger = logging.getLogger("resumestream")

LEAST_GRACE_S = 0.3
"""What requests in flight get where the drains have used up all the time."""

PROTECTS = {
    "none": "nothing: all streams end with this process",
    "process": "what a reader has seen survives a kill of this process",
    "disk": "what a reader has seen survives a power cut",
}

Obey = Callable[[Stop, AsyncIterator[signal.Signals]], Coroutine[Any, Any, None]]
"""Turns the signals of this process, and whatever else it listens to, into a Stop."""


class Serving:
    """One run, from the opening of the store to its closing. `ready` is the line to say once it accepts."""

    def __init__(
        self, streams: ResumeStream, store: LogStore, server: Server, listener: socket.socket, ready: str, obey: Obey
    ) -> None:
        self._streams, self._store, self._server = streams, store, server
        self._listener, self._ready, self._obey = listener, ready, obey
        self._stop = Stop()
        self._drained = anyio.Event()
        self._grace_s = 0.0

    async def run(self) -> None:
        """Until a stop. Raises StoreError where the store cannot be opened, before anything listens."""
        with stop_signals(signal.SIGINT, signal.SIGTERM) as signals, anyio.CancelScope() as everything:
            async with self._streams:
                logger.info("store %s: %s", self._store.location, PROTECTS[self._store.durability])
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._obey, self._stop, signals)
                    tasks.start_soon(self._end, everything)
                    started = partial(print, self._ready, flush=True)
                    await self._server(Guard(alone(self._streams.asgi)), self._listener, self._stopping, started)
                    tasks.cancel_scope.cancel()

    async def _stopping(self) -> float:
        await self._drained.wait()
        return self._grace_s

    async def _end(self, everything: anyio.CancelScope) -> None:
        """What runs may finish, until the end of the time, or until it is to hurry."""
        await self._stop.asked.wait()
        drain_s = self._streams.policy.drain_s
        until = anyio.current_time() + drain_s
        exit_within(drain_s + END_S)
        logger.info("stopping: running answers have up to %g s; a second signal stops them now", drain_s)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._drain, until)
            await self._stop.hurried.wait()
            exit_within(END_S)
            everything.cancel()

    async def _drain(self, until: float) -> None:
        await self._streams.drain()
        self._grace_s = max(LEAST_GRACE_S, until - anyio.current_time())
        self._drained.set()
