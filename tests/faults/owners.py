"""Stores that get keys, leases and seals wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from resumestream.model import Attempt, Binding, Head, Lease, NewStream, Seal, StreamId, StreamInfo
from resumestream.stores import MemoryStore, SQLiteStore


class KeyReuseAccepted(MemoryStore):
    """Who says that a key is new gets it."""

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        if replaces is None and (binding := await self.binding(new.key or "")):
            replaces = binding.stream
        return await super().create(new, replaces=replaces)


class ReboundUncompared(MemoryStore):
    """A re-bind wins whatever the key means by now."""

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        binding = await self.binding(new.key or "")
        return await super().create(new, replaces=binding.stream if binding and replaces else replaces)


class BindingsCounted(MemoryStore):
    """Compares how often the key was bound since it was last forgotten, and not which stream it means."""

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        self._counts: dict[StreamId, int] = getattr(self, "_counts", {})
        binding = await self.binding(new.key or "")
        present = len(binding.earlier) + 1 if binding else 0
        if binding and replaces and self._counts.get(replaces) == present:
            replaces = binding.stream
        lease = await super().create(new, replaces=replaces)
        self._counts[new.id] = present + 1
        return lease


class LoserWritten(MemoryStore):
    """A create that loses the race leaves its stream behind."""

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        self._streams[new.id] = StreamInfo(new)
        return await super().create(new, replaces=replaces)


class AppendUnfenced(MemoryStore):
    """A frozen owner that wakes up appends."""

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        present = replace(lease, epoch=(await self.stat(lease.stream)).epoch)
        return await super().append(present, at, data, events)


class BeginUnfenced(MemoryStore):
    """A frozen owner that wakes up records a call."""

    async def begin(self, lease: Lease, attempt: Attempt, head: Head | None, **before: Any) -> None:
        present = replace(lease, epoch=(await self.stat(lease.stream)).epoch)
        await super().begin(present, attempt, head, **before)


class SealUnfenced(MemoryStore):
    """A frozen owner that wakes up seals what is another's."""

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        return await super().seal(replace(lease, epoch=(await self.stat(lease.stream)).epoch), seal)


class EpochKept(MemoryStore):
    """A takeover changes the name of the owner only."""

    async def acquire(self, stream: StreamId, worker: str, *, after: int) -> Lease:
        await super().acquire(stream, worker, after=after)
        info = self._streams[stream] = replace(self._streams[stream], epoch=after)
        return Lease(stream, worker, info.epoch)


class TakeoverUncompared(MemoryStore):
    """Everybody who wants a stream gets it."""

    async def acquire(self, stream: StreamId, worker: str, *, after: int) -> Lease:
        return await super().acquire(stream, worker, after=(await self.stat(stream)).epoch)


class HeldByTheFirst(MemoryStore):
    """A worker goes on holding what was taken over."""

    async def held(self, worker: str) -> dict[StreamId, bool]:
        self._first: dict[StreamId, str] = getattr(self, "_first", {})
        live = await self.unsealed()
        for info in live:
            self._first.setdefault(info.id, info.new.worker)
        return {info.id: info.cancel_requested for info in live if self._first[info.id] == worker}


class LastSealWins(MemoryStore):
    """A second seal is the one that counts."""

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        if (info := await self.stat(lease.stream)).seal:
            self._streams[lease.stream] = replace(info, seal=None)
        return await super().seal(lease, seal)


class CancelForgotten(MemoryStore):
    """An intent to stop is not stored."""

    async def request_cancel(self, stream: StreamId) -> None:
        await self.stat(stream)


class CancelInMemory(SQLiteStore):
    """Intents are in memory that the processes share, and stored when one closes: a crash loses them."""

    asked: ClassVar[dict[str, set[StreamId]]] = {}

    async def request_cancel(self, stream: StreamId) -> None:
        if not (await super().stat(stream)).sealed:
            self._asked.add(stream)

    async def stat(self, stream: StreamId) -> StreamInfo:
        return self._with(await super().stat(stream))

    async def find(self, query: object) -> list[StreamInfo]:
        return [self._with(info) for info in await super().find(query)]  # type: ignore[arg-type]

    async def unsealed(self) -> list[StreamInfo]:
        return [self._with(info) for info in await super().unsealed()]

    async def held(self, worker: str) -> dict[StreamId, bool]:
        return {stream: asked or stream in self._asked for stream, asked in (await super().held(worker)).items()}

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        await self._store()
        return await super().seal(lease, seal)

    async def __aexit__(self, *exc: object) -> None:
        await self._store()
        await super().__aexit__(*exc)

    @property
    def _asked(self) -> set[StreamId]:
        return self.asked.setdefault(self.location, set())

    def _with(self, info: StreamInfo) -> StreamInfo:
        return replace(info, cancel_requested=info.cancel_requested or info.id in self._asked)

    async def _store(self) -> None:
        while self._asked:
            await super().request_cancel(self._asked.pop())


class BindingsLostOnReopen(SQLiteStore):
    """Keys mean nothing after a start."""

    async def binding(self, key: str) -> Binding | None:
        found = await super().binding(key)
        return found if found and found.stream in self._created else None

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        lease = await super().create(new, replaces=replaces)
        self._created.add(new.id)
        return lease

    @property
    def _created(self) -> set[StreamId]:
        return self.__dict__.setdefault("_minted", set())  # type: ignore[no-any-return]


class EpochLostOnReopen(SQLiteStore):
    """A start numbers the epochs anew."""

    async def __aenter__(self) -> EpochLostOnReopen:
        await super().__aenter__()
        await self._write(lambda batch: batch.conn.execute("UPDATE stream SET epoch = 1 WHERE sealed_at IS NULL"))
        return self


FAULTS = (
    KeyReuseAccepted,
    ReboundUncompared,
    BindingsCounted,
    LoserWritten,
    AppendUnfenced,
    BeginUnfenced,
    SealUnfenced,
    EpochKept,
    TakeoverUncompared,
    HeldByTheFirst,
    LastSealWins,
    CancelForgotten,
    CancelInMemory,
    BindingsLostOnReopen,
    EpochLostOnReopen,
)
