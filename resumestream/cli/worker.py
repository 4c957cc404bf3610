"""One of several server processes: what it has from its supervisor, and how it obeys.

A worker runs the command line of its supervisor. It has the listening socket by its number, its standard input is the
pipe of orders, and on its standard output it says that it serves, or why it cannot.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import anyio

from ..errors import ResumeStreamError
from .signals import Stop

logger = logging.getLogger("resumestream")

MARK = "RESUMESTREAM_WORKER"
"""The environment variable that makes a process a worker: its number and that of the socket."""

DRAIN, END = b"d", b"e"
"""The orders: let what runs finish; end now."""


@dataclass(frozen=True, slots=True)
class Worker:
    number: int
    listener_fd: int

    @classmethod
    def this(cls) -> Self | None:
        """What this process is, if a supervisor started it. To be asked once: no child of ours is to inherit it."""
        mark = os.environ.pop(MARK, None)
        return None if mark is None else cls(*map(int, mark.split(":")))

    @property
    def mark(self) -> str:
        return f"{self.number}:{self.listener_fd}"

    @property
    def name(self) -> str:
        return f"worker {self.number} (pid {os.getpid()})"

    def listener(self) -> socket.socket:
        return socket.socket(fileno=self.listener_fd)

    @contextmanager
    def last_words(self) -> Iterator[None]:
        """Tell the supervisor what ends this worker: it is said once there, whatever number of workers fail of it."""
        try:
            yield
        except ResumeStreamError as error:
            print(error.message, flush=True)
            sys.exit(1)
        except Exception:
            logger.critical("the worker failed", exc_info=True)
            sys.exit(1)

    async def obey(self, stop: Stop, signals: AsyncIterator[signal.Signals]) -> None:
        """Stop as the supervisor says, also when it has died: its end of the pipe is closed then.

        A signal asks, and never hurries: service managers send SIGTERM to every process of a service, and the
        supervisor passes on the same stop.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._obey_orders, stop)
            async for _ in signals:
                stop.asked.set()

    async def _obey_orders(self, stop: Stop) -> None:
        orders = b"?"
        while orders:
            await anyio.wait_readable(sys.stdin.fileno())
            orders = os.read(sys.stdin.fileno(), 16)
            stop.asked.set()
            if END in orders:
                stop.hurried.set()
