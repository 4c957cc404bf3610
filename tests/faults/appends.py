"""Stores that get bytes wrong."""

from __future__ import annotations

from dataclasses import replace

from resumestream.errors import OffsetConflict
from resumestream.model import Lease, StreamId, StreamInfo
from resumestream.stores import MemoryStore, SQLiteStore


class FramingInTheOffset(MemoryStore):
    """Offsets count the framing of the records."""

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        return await super().append(lease, at, len(data).to_bytes(4, "big") + data, events)


class FramingInTheTail(MemoryStore):
    """Reads are right, and the record's tail counts what is stored."""

    async def stat(self, stream: StreamId) -> StreamInfo:
        info = await super().stat(stream)
        return replace(info, tail=info.tail + 4) if info.tail else info


class OffsetIgnored(MemoryStore):
    """What is appended lands at the tail, whatever offset it was made for."""

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        return await super().append(lease, (await self.stat(lease.stream)).tail, data, events)


class AppendRepeats(MemoryStore):
    """A repeated append at an old offset is taken for a new one, and succeeds."""

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        try:
            return await super().append(lease, at, data, events)
        except OffsetConflict as conflict:
            tail = conflict.tail or 0
            if at < tail:
                return tail
            raise


class EventsAreAppends(MemoryStore):
    """Counts appends, and calls them events."""

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        return await super().append(lease, at, data, min(events, 1))


class ReadFromElsewhere(MemoryStore):
    """Reads start where a block does."""

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        return await super().read(stream, at - at % 4096, max_bytes)


class ResumeOffByOne(MemoryStore):
    """Who comes back gets the last byte again."""

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        return await super().read(stream, max(at - 1, 0), max_bytes)


class NothingBeyondTheTail(MemoryStore):
    """A read beyond the tail looks like one at the tail."""

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        return await super().read(stream, min(at, (await self.stat(stream)).tail), max_bytes)


class AcknowledgedTooEarly(SQLiteStore):
    """The last append is told before it is stored, and is stored with the next call through the same handle."""

    _late: tuple[Lease, int, bytes, int] | None = None

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        await self._flush()
        info = await super().stat(lease.stream)
        if info.sealed or info.epoch != lease.epoch or info.tail != at:
            return await super().append(lease, at, data, events)
        self._late = (lease, at, data, events)
        return at + len(data)

    async def stat(self, stream: StreamId) -> StreamInfo:
        await self._flush()
        return await super().stat(stream)

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        await self._flush()
        return await super().read(stream, at, max_bytes)

    async def _flush(self) -> None:
        late, self._late = self._late, None
        if late:
            await super().append(*late)


FAULTS = (
    FramingInTheOffset,
    FramingInTheTail,
    OffsetIgnored,
    AppendRepeats,
    EventsAreAppends,
    ReadFromElsewhere,
    ResumeOffByOne,
    NothingBeyondTheTail,
    AcknowledgedTooEarly,
)
