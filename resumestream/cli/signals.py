"""Being asked to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio


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
