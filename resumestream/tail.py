"""Log → one reader. A class with `receive()`: no task, no lock, nothing to clean up."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from .errors import Draining
from .live import Live
from .model import Page, StreamId, StreamInfo
from .ports import LogStore
from .refusals import gone

BLOCK_BYTES = 256 * 1024
"""The largest page, and so the most that a reader which does not keep up holds in memory: its next one is not read
before this one was taken. Replays in blocks of 64 to 256 KiB run at the speed of nginx's sendfile (measured); twice the
size would spare a tenth of a replay's CPU, a thread hop a block, and make a stalled reader twice as slow to notice."""

POLL_S = 0.25
"""How often a tail of a stream that somebody else drains looks at the store."""


class Tail:
    """Pages of one stream from one offset on, in order, without gap or repeat, live to the end.

    Any number of tails read one stream; each has its own position and none touches the drain. Offsets are those of
    `segment`, and its end is the end. `until` ends it early; `known` is a record of the stream, which spares a sealed
    one's tail asking for it, and is needed for any but the first segment. `again` gives the Live of a stream whose
    drain went elsewhere. `sent_away` hears that the reader has come to the end of its segment, but not of the stream.
    """

    def __init__(
        self,
        store: LogStore,
        stream: StreamId,
        at: int,
        *,
        segment: int = 1,
        until: int | None = None,
        known: StreamInfo | None = None,
        live: Live | None = None,
        again: Callable[[StreamInfo], Live | None] = lambda info: None,
        closing: Callable[[], bool] = lambda: False,
        sent_away: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._stream, self._live, self._closing = store, stream, live, closing
        self._again, self._sent_away = again, sent_away
        self._until = until
        self._ended = False
        seen = known and known.seen(segment)
        self._sealed = seen if seen and seen.sealed else None
        self._goes_on = known is not None and not known.sealed
        self._segment, self._base = segment, seen.base if seen else 0
        self.at = at

    @property
    def waits(self) -> bool:
        """Whether `receive` would have to wait for the drain: all that is there was read, up to an event's end."""
        live = self._live
        if live is None or self._closing() or live.abandoned or self.at == self._until:
            return False
        info = live.info
        return not (info.sealed or self._base + self.at < info.tail or self._segment < info.segment)

    async def wait(self) -> None:
        """Return when `receive` need not wait for the drain. Cancelled: nothing happened."""
        while self._live and self.waits:
            await self._live.arm().wait()

    async def receive(self) -> Page:
        """The next page: at least one byte, or the end (`info` set), or both. After the end, and at `until` where
        that was given: anyio.EndOfStream.

        Waits for bytes. Cancelled: no byte is lost, the next call goes on from `at`.
        Raises StreamGone when the payload was dropped meanwhile, Draining when the server goes down, StoreError when
        the log cannot be read or its drain had to give up, StreamNotFound when it was forgotten.
        """
        while True:
            if self._ended or self.at == self._until:
                raise anyio.EndOfStream
            await self.wait()
            if self._closing():
                raise Draining("the server is shutting down; reconnect and read on", stream=self._stream)
            page = await self._look()
            if page is not None:
                self.at, self._ended = page.next, page.info is not None
                if self._ended and self._goes_on and self._until is None:
                    self._sent_away()
                return page
            if self._live is None:
                await anyio.sleep(POLL_S)

    async def _look(self) -> Page | None:
        live = self._live
        if live and live.failed:
            raise live.failed
        if live and live.abandoned:
            live = self._live = self._again(live.info)
        info = self._sealed
        if info is None:
            whole = live.info if live else await self._store.stat(self._stream)
            info, self._goes_on = whole.seen(self._segment), not whole.sealed
        if info.gone:
            raise gone(info)
        if info.sealed:  # from here on only the store knows whether the payload is still there
            live = self._live = None
            self._sealed = info
        until = info.tail if self._until is None else min(info.tail, self._until)
        room, place = min(BLOCK_BYTES, until - self.at), self._base + self.at
        data = live.window.read(place, room) if live and room > 0 else b""
        if not data and room > 0:
            data = await self._store.read(self._stream, place, room)
        ended = info.sealed and self.at + len(data) == info.tail
        return Page(self.at, data, info if ended else None) if data or ended else None
