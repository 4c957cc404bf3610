"""Appends of one turn of the event loop, of all streams, written together.

An append is written, then its worker looks whether anybody has fenced it off, and only then is it visible. In this
order, and with takers who first fence off and then look what was written, a byte that anybody saw is in every later
owner's log.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from ...errors import LeaseLost, StoreError
from ..peers import Page
from .held import Held
from .log import Log
from .records import HEADER_BYTES, header

logger = logging.getLogger("resumestream.store")

RECORD_BYTES = 64 * 1024
"""The most payload of one record: reading any part of it checks all of it."""

Taken = Callable[[Collection[Held]], Awaitable[Collection[Held]]]
"""Which of these are somebody else's now, says the catalog."""


@dataclass(slots=True, eq=False)
class _Append:
    held: Held
    at: int
    data: bytes
    events: int
    before: int = 0
    """Place of the stream's record before it."""
    records: list[tuple[int, int]] = field(default_factory=list)
    """Place and length of each."""
    end: int = 0
    error: StoreError | None = None


class _Tick:
    __slots__ = ("appends", "done")

    def __init__(self) -> None:
        self.appends: list[_Append] = []
        self.done: anyio.Event | None = None


class Ticks:
    """`mine` are all the streams that this worker holds."""

    def __init__(self, log: Log, page: Page, *, disk: bool, mine: Callable[[], Collection[Held]], taken: Taken):
        self._log, self._page, self._disk = log, page, disk
        self._mine, self._taken = mine, taken
        self._fences = page.get("fences")
        self._open: _Tick | None = None
        self._busy: anyio.Event | None = None

    async def append(self, held: Held, data: bytes, events: int) -> int:
        """At the stream's `next`. Returns once it is visible. Cancelled, it happens all the same. Raises LeaseLost,
        StoreError."""
        entry = _Append(held, held.next, data, events)
        held.next += len(data)
        if tick := self._open:
            tick.appends.append(entry)
            done = tick.done = tick.done or anyio.Event()
            await done.wait()
        else:
            await self._lead(entry)
        if entry.error:
            raise entry.error
        return entry.at + len(data)

    @property
    def fenced(self) -> bool:
        """Whether something may have been taken from us that we do not know of yet."""
        return self._page.get("fences") != self._fences

    async def quiet(self) -> None:
        """Return once everything that was asked for before is visible, or refused."""
        with anyio.CancelScope(shield=True):
            if tick := self._open:
                done = tick.done = tick.done or anyio.Event()
                await done.wait()
            elif self._busy:
                await self._busy.wait()

    async def _lead(self, entry: _Append) -> None:
        tick = self._open = _Tick()
        tick.appends.append(entry)
        try:
            await cancel_shielded_checkpoint()
            if self._busy:
                with anyio.CancelScope(shield=True):
                    while self._busy:
                        await self._busy.wait()
            self._open = None
            self._write(tick.appends)
            if not (self._disk or self.fenced) or await self._settle(tick.appends):
                self._publish(tick.appends)
        except BaseException as error:
            self._fail(tick.appends, StoreError(f"the append failed ({error!r})"))
            if not isinstance(error, Exception):
                raise
            logger.exception("appends failed")
        finally:
            if self._open is tick:
                self._open = None
            if tick.done:
                tick.done.set()

    async def _settle(self, appends: list[_Append]) -> bool:
        """What cannot be done without waiting; whether it was. No other tick is written meanwhile."""
        busy = self._busy = anyio.Event()
        try:
            with anyio.CancelScope(shield=True):
                if self._disk:
                    await self._log.sync(self._log.end)
                await self.look()
        except StoreError as error:
            self._fail(appends, error)
            return False
        finally:
            self._busy = None
            busy.set()
        return True

    @staticmethod
    def _fail(appends: list[_Append], error: StoreError) -> None:
        """They may be in the log, where a later owner would count them: this one must find that out, too."""
        for entry in appends:
            entry.error, entry.held.fenced = entry.error or error, True

    def look_again(self) -> None:
        """Before the next tick is shown."""
        self._fences = -1  # no word is

    async def look(self) -> None:
        """Find out what was taken from us, where there is a sign of it. Raises StoreError."""
        while (fences := self._page.get("fences")) != self._fences:
            for held in await self._taken(self._mine()):
                held.fenced = True
            self._fences = fences

    def _write(self, appends: list[_Append]) -> None:
        parts: list[bytes] = []
        try:
            start = end = self._log.begin()
            for entry in appends:
                end = self._frame(entry, end, parts)
            written = start + self._log.write(parts)
        except StoreError as error:
            for entry in appends:
                entry.error = error
        else:
            if written < end:
                self._log.turn()
            for entry in appends:
                if entry.end > written:
                    entry.error = self._log.full()
        for entry in reversed(appends):
            if entry.error:
                entry.held.next = entry.at
                if entry.records:
                    entry.held.place = entry.before

    def _publish(self, appends: list[_Append]) -> None:
        for entry in appends:
            held = entry.held
            if held.fenced and not entry.error:
                entry.error = LeaseLost(f"stream {held.stream} was taken over", stream=held.stream)
            if entry.error:
                continue
            for place, length in entry.records[:-1]:
                held.trail.add(place, length, 0)
            held.trail.add(*entry.records[-1], entry.events)
        self._page.set("mark_position", self._log.end)

    @staticmethod
    def _frame(entry: _Append, end: int, parts: list[bytes]) -> int:
        """Make records of it, the first of them at `end`. Returns where the last ends."""
        held, data = entry.held, entry.data
        entry.before = held.place
        for start in range(0, len(data) or 1, RECORD_BYTES):
            piece = data if len(data) <= RECORD_BYTES else data[start : start + RECORD_BYTES]
            more = start + RECORD_BYTES < len(data)
            parts += header(held.extent, entry.at + start, piece, 0 if more else entry.events, held.place, more), piece
            entry.records.append((end, len(piece)))
            held.place = end
            end += HEADER_BYTES + len(piece)
        entry.end = held.end = end
        return end
