"""Log → one reader. A class with `receive()`: no task, no lock, nothing to clean up."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from .errors import Draining, StoreError
from .live import Live
from .model import Page, StreamId, StreamInfo
from .ports import LogStore
from .refusals import gone

BLOCK_BYTES = 256 * 1024
"""The largest page: what a reader that lags holds in memory, and what it must take within `Policy.send_s`. Each page
from SQLite is a hop to a thread: half the size replays a fifth slower, twice the size a seventh faster (measured)."""

POLL_S = 0.25
"""How often a tail of a stream that somebody else drains looks at the store."""


class Tail:
    """Pages of one stream from one offset on, in order, without gap or repeat, live to the end.

    Any number of tails read one stream; each has its own position and none touches the drain.
    """

    def __init__(
        self,
        store: LogStore,
        stream: StreamId,
        at: int,
        *,
        until: int | None = None,
        known: StreamInfo | None = None,
        live: Live | None,
        closing: Callable[[], bool],
    ) -> None:
        self._store, self._stream, self._live, self._closing = store, stream, live, closing
        self._until = until
        self._ended = False
        self._sealed = known if known and known.sealed else None
        self.at = at

    async def receive(self) -> Page:
        """The next page: at least one byte, or the end (`info` set), or both. After the end, and at `until` where
        that was given: anyio.EndOfStream.

        Waits for bytes. Cancelled: no byte is lost, the next call goes on from `at`.
        Raises StreamGone when the payload was dropped meanwhile, Draining when the server goes down, StoreError when
        the log cannot be read or its drain had to give up.
        """
        while True:
            if self._ended or self.at == self._until:
                raise anyio.EndOfStream
            live = self._live
            if self._closing():
                raise Draining("the server is shutting down; reconnect and read on", stream=self._stream)
            changed = live.arm() if live else None
            page = await self._look(live)
            if page is not None:
                self.at, self._ended = page.next, page.info is not None
                return page
            if live and live.abandoned:
                raise StoreError("the stream's log could not be written any more", stream=self._stream)
            if changed:
                await changed.wait()
            else:
                await anyio.sleep(POLL_S)

    async def _look(self, live: Live | None) -> Page | None:
        info = live.info if live and not live.abandoned else self._sealed or await self._store.stat(self._stream)
        if info.gone:
            raise gone(info)
        self._sealed = info if info.sealed else None
        room = BLOCK_BYTES if self._until is None else min(BLOCK_BYTES, self._until - self.at)
        data = live.window.read(self.at, room) if live else b""
        if not data and self.at < info.tail:
            data = await self._store.read(self._stream, self.at, room)
        ended = info.sealed and self.at + len(data) == info.tail
        return Page(self.at, data, info if ended else None) if data or ended else None
