"""A store's streams, looked at and deleted from beside whoever serves it. Never runs recovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from ..errors import ConfigError, ResumeStreamError, StreamNotFound
from ..http.describe import describe
from ..http.positions import bounded
from ..http.usage import report
from ..metering import By, duration_s
from ..model import Gone, Query, State, StreamId, StreamInfo
from ..offsets import parse_offset
from ..policy import Policy
from ..ports import LogStore
from ..recovery import delete
from ..refusals import gone
from ..stores import MemoryStore, open_store
from ..tail import Tail
from .streams import MAX_PAGE, Listing, Reading, Record, Wanted
from .walk import Walk

SOME = 4
"""Streams that are named where a prefix fits more than one."""


def opened(store: str) -> LogStore:
    """The store, to be entered beside its servers or without one. Raises ConfigError."""
    found = open_store(store, policy=Policy(), serving=False)
    if isinstance(found, MemoryStore):
        raise ConfigError("a memory: store lives in its server's memory: ask the server with --url")
    return found


async def only(store: LogStore, prefix: str) -> StreamInfo:
    """The one stream whose id is, or begins with, `prefix`, as of now. Raises StreamNotFound, ResumeStreamError."""
    try:
        return (await store.stat(StreamId(prefix))).as_of(store.now())
    except StreamNotFound:
        if not prefix:
            raise
    walk, found, count = Walk(store, Query(limit=MAX_PAGE)), list[StreamInfo](), 0
    while page := await walk.page():
        fitting = [info for info in page if info.id.startswith(prefix)]
        count += len(fitting)
        found = (found + fitting)[: SOME + 1]
    if not found:
        raise StreamNotFound(f"there is no stream {prefix} in {store.location}")
    if count > 1:
        some = ", ".join(info.id for info in found[:SOME])
        raise ResumeStreamError(f"{count} streams begin with {prefix}: {some}{', …' * (count > SOME)}")
    return found[0].as_of(store.now())


async def _delete(store: LogStore, stream: StreamId, *, forget: bool) -> None:
    await delete(store, stream)
    if forget:
        await store.forget(stream)


class Offline:
    """Sees every principal's streams: whoever can read the file can. Ids may be cut to a prefix that fits one only."""

    def __init__(self, store: str) -> None:
        self._store = opened(store)

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    async def listing(self, wanted: Wanted) -> Listing:
        """By their state of now: what the log was last told is sealed may have expired since."""
        query = Query(
            state=None if wanted.state is State.EXPIRED else wanted.state,
            upstream=wanted.upstream,
            labels=wanted.labels,
            after=(await only(self._store, wanted.after)).id if wanted.after else None,
            limit=wanted.limit + 1,
        )
        walk, found, now = Walk(self._store, query), list[StreamInfo](), self._store.now()
        while len(found) <= wanted.limit and (page := await walk.page()):
            infos = (info.as_of(now) for info in page)
            found += (info for info in infos if wanted.state in (None, info.state))
        more = len(found) > wanted.limit
        del found[wanted.limit :]
        return Listing([self._described(info) for info in found], found[-1].id if more else None)

    async def record(self, stream: str) -> Record:
        return self._described(await only(self._store, stream))

    async def read(self, stream: str, offset: str) -> Reading:
        info = await only(self._store, stream)
        if info.gone:
            raise gone(info)
        start = bounded(info, parse_offset(offset))
        return _Reading(Tail(self._store, info.id, start.at, segment=start.segment, known=info, closing=_never))

    async def cancel(self, stream: str) -> Record:
        info = await only(self._store, stream)
        await self._store.request_cancel(info.id)
        self._store.peers.tell(info.new.worker)
        return self._described(info)

    async def delete(self, streams: Sequence[str], *, forget: bool) -> None:
        for stream in streams:
            await _delete(self._store, StreamId(stream), forget=forget)
        await self._store.tidy()  # there may be no server to erase it

    async def delete_labelled(self, labels: tuple[str, ...], *, forget: bool) -> None:
        walk = Walk(self._store, Query(labels=labels, limit=MAX_PAGE))
        while page := await walk.page():
            for info in page:
                if info.gone is not Gone.DELETED or forget:
                    try:
                        await _delete(self._store, info.id, forget=forget)
                    except StreamNotFound:  # somebody else forgot it meanwhile
                        continue
        await self._store.tidy()

    async def usage(self, by: By, since: str | None) -> Mapping[str, Any]:
        return await report(self._store, by, duration_s(since) if since else None)

    def _described(self, info: StreamInfo) -> Record:
        return describe(info.as_of(self._store.now()), node=info.new.worker, durability=self._store.durability)


class _Reading:
    def __init__(self, tail: Tail) -> None:
        self._tail = tail

    async def receive(self) -> bytes:
        return (await self._tail.receive()).data

    async def aclose(self) -> None:
        pass


def _never() -> bool:
    return False
