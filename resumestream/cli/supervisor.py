"""Several server processes on one listening socket, replaced when they die, stopped together.

One socket, not one each with SO_REUSEPORT: there the kernel deals connections to the queue of a frozen or dying worker,
too, and they are lost with it. Here whoever is free takes the next one.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from ..errors import ResumeStreamError
from .child import KILL, LINE_BYTES
from .signals import END_S, Stop, exit_within, stop_signals
from .worker import DRAIN, END, MARK, Worker

logger = logging.getLogger("resumestream")

FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 5.0
"""Before a worker is replaced: doubled each time, until one has lived so long that all is well again."""
STEADY_S = 30.0
MAX_FAILED_STARTS = 3
"""In a row, whichever workers they were of."""
KILL_S = 0.7
"""What has not ended so long after the drains' time is killed: the supervisor ends after it, and within END_S."""


class Supervisor:
    """`count` workers that serve on `listener`. `ready` is the line that each of them says once it serves, and that is
    said once when all do. They have `drain_s` to finish when asked to stop."""

    def __init__(self, count: int, listener: socket.socket, ready: str, *, drain_s: float) -> None:
        self._count, self._listener, self._ready = count, listener, ready
        self._drain_s = drain_s
        self._stop = Stop()
        self._processes = dict[int, anyio.abc.Process]()
        self._serving = False
        """All workers have been ready."""
        self._failed_starts = 0
        self._failure: str | None = None

    async def run(self) -> None:
        """Until a signal. Raises ResumeStreamError where workers do not start. All workers have ended on return."""
        with stop_signals(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._stop.by_signals, signals)
                tasks.start_soon(self._end)
                await self._supervise()
                tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise ResumeStreamError(self._failure)

    async def _supervise(self) -> None:
        settled = [anyio.Event() for _ in range(self._count)]
        async with anyio.create_task_group() as places:
            for number, event in enumerate(settled, 1):
                places.start_soon(self._keep, number, event)
                if number == 1:  # alone: what is wrong with the store is said once, and one makes it where it is new
                    await event.wait()
            for event in settled:
                await event.wait()
            if not self._stop.asked.is_set():
                self._serving = True
                print(self._ready, flush=True)

    async def _keep(self, number: int, settled: anyio.Event) -> None:
        """One worker after the other. `settled`: the first one is ready, or there will be none."""
        pause_s = 0.0
        while not self._stop.asked.is_set():
            began = anyio.current_time()
            why = await self._one(number, settled.set)
            if self._stop.asked.is_set():
                break
            steady = anyio.current_time() - began >= STEADY_S
            pause_s = FIRST_PAUSE_S if steady else min(max(2 * pause_s, FIRST_PAUSE_S), MAX_PAUSE_S)
            logger.warning("worker %d ended: %s; starting another in %g s", number, why, pause_s)
            with anyio.move_on_after(pause_s):
                await self._stop.asked.wait()
        settled.set()

    async def _one(self, number: int, on_ready: Callable[[], None]) -> str:
        """A worker to its end; why it ended."""
        worker = Worker(number, self._listener.fileno())
        process = await anyio.open_process(
            [sys.executable, *sys.orig_argv[1:]],
            stdin=subprocess.PIPE,
            stderr=None,
            env={**os.environ, MARK: worker.mark},
            pass_fds=[worker.listener_fd],
            start_new_session=True,  # so that Ctrl-C reaches the supervisor alone, which counts how often
        )
        async with process:
            self._processes[number] = process
            if self._stop.asked.is_set():  # while it was being started
                await self._order(process, DRAIN)
            assert process.stdout is not None
            lines = BufferedByteReceiveStream(process.stdout)
            said = await _line(lines)
            ready = said == self._ready
            if ready:
                logger.info("worker %d serves, pid %d", number, process.pid)
                self._failed_starts = 0
                on_ready()
                said = await _line(lines)
            code = await process.wait()
            del self._processes[number]
        why = said or (f"exit code {code}" if code >= 0 else f"killed by signal {-code}")
        if not ready:
            self._failed(number, why, final=bool(said))
        return why

    def _failed(self, number: int, why: str, *, final: bool) -> None:
        """A worker was never ready. `final`: it said why, so that another try would say it again."""
        self._failed_starts += 1
        if self._stop.asked.is_set():
            return
        if final and not self._serving:
            self._failure = why
        elif self._failed_starts >= MAX_FAILED_STARTS:
            self._failure = f"{self._failed_starts} starts in a row failed, the last one of worker {number}: {why}"
        if self._failure is not None:
            self._stop.asked.set()

    async def _end(self) -> None:
        """Pass on the stop, and kill what is left when the time is over."""
        await self._stop.asked.wait()
        if self._serving or self._failure is None:
            logger.info("stopping all workers")
        self._exit_within(self._drain_s + END_S)
        await self._order_all(DRAIN)
        with anyio.move_on_after(self._drain_s + KILL_S):
            await self._stop.hurried.wait()
            self._exit_within(END_S)
            await self._order_all(END)
            await anyio.sleep(KILL_S)
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, KILL)

    def _exit_within(self, seconds: float) -> None:
        if self._failure is None:  # a failure is still to be said
            exit_within(seconds)

    async def _order_all(self, order: bytes) -> None:
        for process in list(self._processes.values()):
            await self._order(process, order)

    async def _order(self, process: anyio.abc.Process, order: bytes) -> None:
        assert process.stdin is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it has just ended
            await process.stdin.send(order)


async def _line(stream: BufferedByteReceiveStream) -> str:
    """Nothing at the end of the stream."""
    try:
        return (await stream.receive_until(b"\n", LINE_BYTES)).decode()
    except anyio.IncompleteRead:
        return ""
