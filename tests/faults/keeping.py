"""Stores that get retention, lists and the ledger wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resumestream.errors import StreamGone
from resumestream.model import (
    Attempt,
    Binding,
    Entry,
    Gone,
    Head,
    Kept,
    Lease,
    Query,
    Seal,
    StreamId,
    StreamInfo,
    Tally,
)
from resumestream.stores import MemoryStore, SQLiteStore, _rules


class PurgedReadable(MemoryStore):
    """A purge drops the record's payload, and leaves the bytes."""

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        left = self._payloads.get(stream)
        info = await super().purge(stream, why)
        if left is not None:
            self._payloads[stream] = left
        return info

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        if (await self.stat(stream)).gone and stream in self._payloads:
            return bytes(self._payloads[stream][at : at + max_bytes])
        return await super().read(stream, at, max_bytes)


class TrimmedAnsweredElsewhere(MemoryStore):
    """A read of what is gone gives the bytes of whoever has the space now."""

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        try:
            return await super().read(stream, at, max_bytes)
        except StreamGone:
            for payload in self._payloads.values():
                if len(payload) > at:
                    return bytes(payload[at : at + max_bytes])
            raise


class MessageKept(MemoryStore):
    """A purge leaves the seal's message, which may quote the payload."""

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        seal = (await self.stat(stream)).seal
        info = self._streams[stream] = replace(await super().purge(stream, why), seal=seal)
        return info


class ExpiryCountsFromThePurge(MemoryStore):
    """A tombstone lives longer the later somebody looks."""

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        now, known = self.now(), (await self.stat(stream)).gone_at
        info = self._streams[stream] = replace(await super().purge(stream, why), gone_at=known or now)
        return info


class WallClockExpiry(MemoryStore):
    """What is due is judged by the clock that anybody can set."""

    async def due(self, limit: int) -> list[StreamInfo]:
        due = [info for info in self._streams.values() if info.due_at <= time.time()]
        return sorted(due, key=lambda info: info.due_at)[:limit]


class TombstonesNeverDue(MemoryStore):
    """Records stay for ever."""

    async def due(self, limit: int) -> list[StreamInfo]:
        return [info for info in await super().due(limit) if not info.gone]


class KeyForgottenAtPurge(MemoryStore):
    """A key whose stream expired can be bound, and billed, again."""

    async def binding(self, key: str) -> Binding | None:
        found = await super().binding(key)
        return None if found and (await self.stat(found.stream)).gone else found


class NewestEvictedFirst(MemoryStore):
    """The oldest are told last."""

    async def oldest(self, limit: int, principal: str | None = None) -> list[StreamInfo]:
        return (await super().oldest(1_000_000, principal))[::-1][:limit]


class LiveEvicted(MemoryStore):
    """Live streams are among those to evict."""

    async def oldest(self, limit: int, principal: str | None = None) -> list[StreamInfo]:
        live = [info for info in self._of(principal) if not info.sealed and info.tail]
        return [*await super().oldest(limit, principal), *live][:limit]


class PurgedCounted(MemoryStore):
    """What is gone still counts as kept."""

    async def kept(self, principal: str | None = None) -> Kept:
        return Kept((await super().kept(principal)).live, sum(info.tail for info in self._of(principal)))


class FindLeaksByLabel(MemoryStore):
    """A search by label finds everybody's."""

    async def find(self, query: Query) -> list[StreamInfo]:
        return await super().find(replace(query, principal=None) if query.labels else query)


class LabelsLostOnReopen(SQLiteStore):
    """A start forgets by what a stream is found."""

    async def __aenter__(self) -> LabelsLostOnReopen:
        await super().__aenter__()
        await self._write(lambda batch: batch.conn.execute("DELETE FROM label"))
        return self


class TailCached(SQLiteStore):
    """A handle believes what it saw last, until it writes."""

    async def stat(self, stream: StreamId) -> StreamInfo:
        seen: dict[StreamId, StreamInfo] = self.__dict__.setdefault("_seen", {})
        if stream not in seen or seen[stream].sealed or not seen[stream].tail:
            seen[stream] = await super().stat(stream)
        return seen[stream]

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        self.__dict__.pop("_seen", None)
        return await super().append(lease, at, data, events)


class SegmentsRunTogether(MemoryStore):
    """Where one call's bytes ended and the next one's began is not kept."""

    async def begin(self, lease: Lease, attempt: Attempt, head: Head | None, **before: Any) -> None:
        await super().begin(lease, attempt, head, after=before.get("after", ()))


class CallRecordedTwice(MemoryStore):
    """A call that is recorded again becomes another one."""

    async def begin(self, lease: Lease, attempt: Attempt, head: Head | None, **before: Any) -> None:
        known = (await self.stat(lease.stream)).attempts
        after = known if attempt in known else before.pop("after", ())
        await super().begin(lease, attempt, head, **{**before, "after": after})


class LedgerForgotten(MemoryStore):
    """Calls leave the ledger with their stream."""

    async def forget(self, stream: StreamId) -> None:
        await super().forget(stream)
        self._ledger = [entry for entry in self._ledger if entry.stream != stream]


class LedgerTwice(MemoryStore):
    """A second seal enters the calls again."""

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        again = (await self.stat(lease.stream)).sealed
        info = await super().seal(lease, seal)
        if again:
            self._ledger += _rules.entries(info)
        return info


class CallsUnended(MemoryStore):
    """A call in the ledger does not tell how it ended, nor what came of it."""

    async def ledger(self, **asked: Any) -> list[Entry]:
        entries = await super().ledger(**asked)
        return [replace(it, attempt=replace(it.attempt, bytes=0, outcome=None)) for it in entries]


class TalliesReplaced(MemoryStore):
    """The last count of a stream counts alone."""

    async def tally(self, counts: Mapping[StreamId, Tally]) -> None:
        self._tallies |= counts


class TalliesGoWithTheRecord(MemoryStore):
    """What a forgotten stream was asked for is forgotten."""

    async def forget(self, stream: StreamId) -> None:
        await super().forget(stream)
        self._tallies.pop(stream, None)


class PagesOfTheLedgerOverlap(MemoryStore):
    """A page begins at the time of the last one's end."""

    async def ledger(self, *, after: Entry | None = None, **asked: Any) -> list[Entry]:
        if after:
            asked["since"] = after.attempt.ended_at or 0.0
        found = await super().ledger(**asked)
        return [entry for entry in found if entry != after]


class LedgerOfEverybody(MemoryStore):
    """Whose calls are asked for does not matter."""

    async def ledger(self, **asked: Any) -> list[Entry]:
        return await super().ledger(**{**asked, "principal": None})


class TalliesWithEachCall(MemoryStore):
    """A stream of several calls seems to have been asked for several times."""

    async def ledger(self, **asked: Any) -> list[Entry]:
        return [replace(it, tally=self._tallies.get(it.stream, it.tally)) for it in await super().ledger(**asked)]


FAULTS = (
    PurgedReadable,
    TrimmedAnsweredElsewhere,
    MessageKept,
    ExpiryCountsFromThePurge,
    WallClockExpiry,
    TombstonesNeverDue,
    KeyForgottenAtPurge,
    NewestEvictedFirst,
    LiveEvicted,
    PurgedCounted,
    FindLeaksByLabel,
    LabelsLostOnReopen,
    TailCached,
    SegmentsRunTogether,
    CallRecordedTwice,
    LedgerForgotten,
    LedgerTwice,
    CallsUnended,
    TalliesReplaced,
    TalliesGoWithTheRecord,
    PagesOfTheLedgerOverlap,
    LedgerOfEverybody,
    TalliesWithEachCall,
)
