"""Being asked to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio

END_S = 0.9
"""A process has ended so long after the drains' time, whatever it still waits for."""


class Stop:
    """What a server was asked: `asked`, to let what runs finish and then end; `hurried`, to end now."""

    def __init__(self) -> None:
        self.asked, self.hurried = anyio.Event(), anyio.Event()

    async def by_signals(self, signals: AsyncIterator[signal.Signals]) -> None:
        """The first signal asks, the second one hurries."""
        await anext(signals)
        self.asked.set()
        await anext(signals)
        self.hurried.set()


@contextmanager
def stop_signals(*numbers: signal.Signals) -> Iterator[AsyncIterator[signal.Signals]]:
    """Each of these signals as an item, instead of what it does otherwise.

    On Windows they come as a cancellation: asyncio cannot catch signals there.
    """
    if sys.platform == "win32":
        never, nothing = anyio.create_memory_object_stream[signal.Signals]()
        with never, nothing:
            yield nothing
    else:
        with anyio.open_signal_receiver(*numbers) as received:
            yield received


def exit_within(seconds: float) -> None:
    """However this process hangs: all is sealed by then, or else the next start seals it."""
    timer = threading.Timer(seconds, os._exit, [0])
    timer.daemon = True
    timer.start()
