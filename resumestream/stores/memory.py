"""The reference: what a LogStore does, in dictionaries. Survives nothing; `durability` says so."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Self

from ..model import (
    Attempt,
    Binding,
    Durability,
    Gone,
    Head,
    Lease,
    NewStream,
    Query,
    Seal,
    StreamId,
    StreamInfo,
)
from . import _rules
from .clock import StoreClock


class MemoryStore:
    """Every call ends without a checkpoint, so it is atomic on one event loop. Keeps its streams when it is left:
    entering it again, also twice at once, sees the same."""

    durability: Durability = "none"
    location = "memory:"

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        self.secrets: Sequence[bytes] = (secrets.token_bytes(32),)
        self._clock = clock or StoreClock()
        self._streams: dict[StreamId, StreamInfo] = {}
        self._payloads: dict[StreamId, bytearray] = {}
        self._bindings: dict[str, Binding] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

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

    async def acquire(self, stream: StreamId, worker: str) -> Lease:
        info = self._streams[stream] = _rules.acquired(self._info(stream), worker)
        return Lease(stream, worker, info.epoch)

    async def begin(self, lease: Lease, attempt: Attempt, head: Head) -> None:
        self._streams[lease.stream] = _rules.begun(self._info(lease.stream), lease, attempt, head)

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        info = self._info(lease.stream)
        _rules.appendable(lease, at, epoch=info.epoch, state=info.state, tail=info.tail)
        self._payloads[lease.stream] += data
        self._streams[lease.stream] = replace(info, tail=at + len(data), events=info.events + events)
        return at + len(data)

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        info = self._streams[lease.stream] = _rules.sealed(self._info(lease.stream), lease, seal, self.now())
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

    async def request_cancel(self, stream: StreamId) -> None:
        self._streams[stream] = _rules.cancel_requested(self._info(stream))

    async def cancel_requests(self) -> list[StreamId]:
        return [info.id for info in self._streams.values() if info.cancel_requested and not info.sealed]

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

    def _info(self, stream: StreamId) -> StreamInfo:
        try:
            return self._streams[stream]
        except KeyError:
            raise _rules.not_found(stream) from None
