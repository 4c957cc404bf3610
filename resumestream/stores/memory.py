"""The reference: what a LogStore does, in dictionaries. Survives nothing; `durability` says so."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

from ..model import (
    Attempt,
    Binding,
    Durability,
    Entry,
    Gone,
    Head,
    Kept,
    Lease,
    NewStream,
    Query,
    Seal,
    Segment,
    StreamId,
    StreamInfo,
    Tally,
)
from ..ports import Peers
from . import _rules
from .clock import StoreClock
from .peers import Alone


class MemoryStore:
    """Every call ends without a checkpoint, so it is atomic on one event loop. Keeps its streams when it is left:
    entering it again, also twice at once, sees the same."""

    durability: Durability = "none"
    location = "memory:"

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        self.secrets: Sequence[bytes] = (secrets.token_bytes(32),)
        self.peers: Peers = Alone()
        self._entered = 0
        self._clock = clock or StoreClock()
        self._streams: dict[StreamId, StreamInfo] = {}
        self._payloads: dict[StreamId, bytearray] = {}
        self._bindings: dict[str, Binding] = {}
        self._ledger: list[Entry] = []
        self._tallies: dict[StreamId, Tally] = {}

    async def __aenter__(self) -> Self:
        if not self._entered:
            self.peers = Alone()  # what an earlier user left behind is nobody's now
        self._entered += 1
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._entered -= 1

    async def probe(self) -> None:
        pass

    def now(self) -> float:
        return self._clock()

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        if new.key is not None:
            self._bindings[new.key] = _rules.bound(self._bindings.get(new.key), new, replaces)
        self._streams[new.id] = StreamInfo(new)
        self._payloads[new.id] = bytearray()
        return Lease(new.id, new.worker, 1)

    async def binding(self, key: str) -> Binding | None:
        return self._bindings.get(key)

    async def acquire(self, stream: StreamId, worker: str, *, after: int) -> Lease:
        info = self._streams[stream] = _rules.acquired(self._info(stream), worker, after)
        return Lease(stream, worker, info.epoch)

    async def begin(
        self,
        lease: Lease,
        attempt: Attempt,
        head: Head | None,
        *,
        after: Sequence[Attempt] = (),
        ended: Sequence[Segment] = (),
    ) -> None:
        info = self._info(lease.stream)
        self._streams[lease.stream] = _rules.begun(info, lease, attempt, head, after, ended)

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        info = self._info(lease.stream)
        _rules.appendable(lease, at, epoch=info.epoch, state=info.state, tail=info.tail)
        self._payloads[lease.stream] += data
        self._streams[lease.stream] = replace(info, tail=at + len(data), events=info.events + events)
        return at + len(data)

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        before = self._info(lease.stream)
        info = self._streams[lease.stream] = _rules.sealed(before, lease, seal, self.now())
        if info is not before:
            self._ledger += _rules.entries(info)
        return info

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        info = self._info(stream)
        _rules.readable(stream, at, tail=info.tail, gone=info.gone is not None)
        return bytes(self._payloads[stream][at : at + max_bytes])

    async def stat(self, stream: StreamId) -> StreamInfo:
        return self._info(stream)

    async def find(self, query: Query) -> list[StreamInfo]:
        newest: Iterator[StreamInfo] = reversed(self._streams.values())
        if query.after is not None:
            last = self._streams.get(query.after)
            _rules.page_start(query.after, last.new.principal if last else None, query)
            newest = itertools.dropwhile(lambda info: info.id != query.after, newest)
            next(newest)
        return list(itertools.islice((info for info in newest if _rules.matches(info, query)), query.limit))

    async def unsealed(self) -> list[StreamInfo]:
        return [info for info in self._streams.values() if not info.sealed]

    async def owners(self) -> set[str]:
        return {info.new.worker for info in await self.unsealed()}

    async def request_cancel(self, stream: StreamId) -> None:
        self._streams[stream] = _rules.cancel_requested(self._info(stream))

    async def held(self, worker: str) -> dict[StreamId, bool]:
        return {info.id: info.cancel_requested for info in await self.unsealed() if info.new.worker == worker}

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        info = self._streams[stream] = _rules.purged(self._info(stream), why, self.now())
        self._payloads.pop(stream, None)
        return info

    async def forget(self, stream: StreamId) -> None:
        if (info := self._streams.get(stream)) is None:
            return
        _rules.forgettable(info)
        del self._streams[stream]
        key = info.new.key
        if key is not None and self._bindings[key].stream == stream:
            del self._bindings[key]

    async def due(self, limit: int) -> list[StreamInfo]:
        now = self.now()
        due = [info for info in self._streams.values() if info.due_at <= now]
        return sorted(due, key=lambda info: info.due_at)[:limit]

    async def oldest(self, limit: int, principal: str | None = None) -> list[StreamInfo]:
        full = [(info.seal.sealed_at, info) for info in self._of(principal) if info.seal and info.tail]
        return [info for _, info in sorted(full, key=lambda pair: pair[0]) if not info.gone][:limit]

    async def kept(self, principal: str | None = None) -> Kept:
        infos = self._of(principal)
        return Kept(sum(not info.sealed for info in infos), sum(info.tail for info in infos if not info.gone))

    async def ledger(
        self, *, principal: str | None = None, since: float = 0.0, after: Entry | None = None, limit: int = 1000
    ) -> list[Entry]:
        behind = _rules.page_of_ledger(since, after)
        theirs = (entry for entry in self._ledger if principal in (None, entry.principal))
        page = sorted((entry for entry in theirs if _rules.place(entry) > behind), key=_rules.place)[:limit]
        last = {entry.stream: entry.number for entry in self._ledger}
        return [
            replace(entry, tally=self._tallies.get(entry.stream, entry.tally))
            if entry.number == last[entry.stream]
            else entry
            for entry in page
        ]

    async def tally(self, counts: Mapping[StreamId, Tally]) -> None:
        for stream, more in counts.items():
            self._tallies[stream] = self._tallies.get(stream, Tally()) + more

    async def prune(self, before: float) -> None:
        self._ledger = [entry for entry in self._ledger if (entry.attempt.ended_at or 0.0) >= before]
        told = self._streams.keys() | {entry.stream for entry in self._ledger}
        self._tallies = {stream: tally for stream, tally in self._tallies.items() if stream in told}

    async def tidy(self) -> None:
        pass

    async def verify(self, stream: StreamId | None = None) -> list[str]:
        if stream is not None:
            self._info(stream)
        return []

    def _of(self, principal: str | None) -> list[StreamInfo]:
        return [info for info in self._streams.values() if principal in (None, info.new.principal)]

    def _info(self, stream: StreamId) -> StreamInfo:
        try:
            return self._streams[stream]
        except KeyError:
            raise _rules.not_found(stream) from None
