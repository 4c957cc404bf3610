"""How often this process was asked again for what is there already, on the way to the store."""

from __future__ import annotations

import logging

import anyio

from .errors import StoreError
from .model import StreamId, Tally
from .ports import LogStore

logger = logging.getLogger("resumestream")

FLUSH_S = 1
"""How often the store is told: one write for all, and what a process that is killed may lose."""
PATIENCE_S = 2
"""How long the end of the process waits for the last write."""


class Tallies:
    """Counts what costs no provider call; see `LogStore.tally`."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._counts: dict[StreamId, Tally] = {}
        self._turn = anyio.Lock()
        self.total = Tally()
        """Of all streams, since this process started."""

    def asked_again(self, stream: StreamId, *, sealed: bool) -> None:
        """One caller gets the stream instead of a call of its own."""
        once = Tally(replays=1) if sealed else Tally(attaches=1)
        self.total += once
        self._add(stream, once)

    async def run(self) -> None:
        """Tell the store now and then, for ever."""
        while True:
            await anyio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Tell the store all that was counted before. Raises nothing: what the store refused is told the next time.
        Not to be cancelled, since nobody would know whether it was counted: it waits for the store's answer."""
        with anyio.CancelScope(shield=True):
            await self._flush()

    async def close(self) -> None:
        """The last flush: what the store has not taken after PATIENCE_S is given up."""
        with anyio.move_on_after(PATIENCE_S, shield=True) as patience:
            await self._flush()
        if patience.cancelled_caught:
            logger.warning("attaches of the last moments are not counted: no answer within %g s", PATIENCE_S)

    async def _flush(self) -> None:
        async with self._turn:
            counts, self._counts = self._counts, {}
            if counts:
                await self._told(counts)

    async def _told(self, counts: dict[StreamId, Tally]) -> None:
        try:
            await self._store.tally(counts)
        except Exception as error:
            for stream, tally in counts.items():
                self._add(stream, tally)
            logger.warning("attaches are counted later: %s", error, exc_info=not isinstance(error, StoreError))

    def _add(self, stream: StreamId, more: Tally) -> None:
        self._counts[stream] = self._counts.get(stream, Tally()) + more
