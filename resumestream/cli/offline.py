"""A store's streams, looked at from beside whoever serves it. Never runs recovery."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

from ..errors import ConfigError, ResumeStreamError, StreamNotFound
from ..http.describe import describe
from ..http.positions import bounded
from ..model import Query, StreamId, StreamInfo
from ..offsets import parse_offset
from ..policy import Policy
from ..refusals import gone
from ..stores import MemoryStore, open_store
from ..tail import Tail
from .streams import Reading, Record, Wanted

PAGE = 1000


class Offline:
    """Sees every principal's streams: whoever can read the file can. Ids may be cut to a prefix that fits one only."""

    def __init__(self, store: str) -> None:
        self._store = open_store(store, policy=Policy(), serving=False)
        if isinstance(self._store, MemoryStore):
            raise ConfigError("a memory: store lives in its server's memory: ask the server with --url")

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    async def records(self, wanted: Wanted) -> list[Record]:
        query = Query(state=wanted.state, upstream=wanted.upstream, labels=wanted.labels, limit=wanted.limit)
        return [self._described(info) for info in await self._store.find(query)]

    async def record(self, stream: str) -> Record:
        return self._described(await self._find(stream))

    async def read(self, stream: str, offset: str) -> Reading:
        info = await self._find(stream)
        if info.gone:
            raise gone(info)
        return _Reading(Tail(self._store, info.id, bounded(info, parse_offset(offset)), live=None, closing=_never))

    async def cancel(self, stream: str) -> Record:
        info = await self._find(stream)
        await self._store.request_cancel(info.id)
        return self._described(info)

    def _described(self, info: StreamInfo) -> Record:
        return describe(info.as_of(self._store.now()), node=info.new.worker, durability=self._store.durability)

    async def _find(self, prefix: str) -> StreamInfo:
        """The one stream whose id is, or begins with, `prefix`. Raises StreamNotFound, ResumeStreamError."""
        try:
            return (await self._store.stat(StreamId(prefix))).as_of(self._store.now())
        except StreamNotFound:
            if not prefix:
                raise
        query, found = Query(limit=PAGE), list[StreamInfo]()
        while page := await self._store.find(query):
            found += (info for info in page if info.id.startswith(prefix))
            query = replace(query, after=page[-1].id)
        if not found:
            raise StreamNotFound(f"there is no stream {prefix} in {self._store.location}")
        if len(found) > 1:
            some = ", ".join(info.id for info in found[:4])
            raise ResumeStreamError(f"{len(found)} streams begin with {prefix}: {some}{', …' * (len(found) > 4)}")
        return found[0].as_of(self._store.now())


class _Reading:
    def __init__(self, tail: Tail) -> None:
        self._tail = tail

    async def receive(self) -> bytes:
        return (await self._tail.receive()).data

    async def aclose(self) -> None:
        pass


def _never() -> bool:
    return False
