"""The one place here that calls a store: the workload that fills it, and what is found in it afterwards."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from resumestream.errors import OffsetConflict, ResumeStreamError, StoreError, StreamGone, StreamNotFound, StreamSealed
from resumestream.model import Attempt, Durability, Gone, Lease, NewStream, Outcome, Query, Seal, StreamId
from resumestream.policy import Policy
from resumestream.ports import LogStore
from resumestream.stores import open_store

STORES = {"sqlite": "sqlite:///{}/streams.db", "file": "file://{}/store"}
"""Name -> URL of a store that keeps everything it has below one directory."""

KEYED, PLAIN, PURGED, LATER = "keyed", "plain", "purged", "later"
SEAL = Seal(Outcome.COMPLETED, "end", "The provider finished.")
PRINCIPAL = "p"

Say = Callable[[str, str, int], None]
"""What, of which stream, up to which offset."""


def url(kind: str, directory: Path) -> str:
    return STORES[kind].format(directory)


def payload(name: str) -> bytes:
    """All that is ever sent of a stream, and more."""
    return random.Random(name).randbytes(20_000)


def _key(name: str) -> str | None:
    return f"key of {name}" if name == KEYED else None


class Workload:
    """Fills a store, and goes on in it beside whoever filled it. Tells what it is about to write ("send") and what was
    acknowledged; whatever fails is told, and tried once more where its caller would."""

    def __init__(self, where: str, durability: Durability, say: Say) -> None:
        self._where, self._durability, self._say = where, durability, say
        self._leases: dict[str, Lease] = {}
        self._tails: dict[str, int] = {}

    async def run(self, returns: Callable[[], None]) -> None:
        """`returns` is called when all through the first handle is done but its last stream, which must then succeed,
        as must what comes after."""
        async with AsyncExitStack() as first, AsyncExitStack() as second:
            opened = await self._open(first)
            if opened:
                await self._fill()
            returns()
            if not opened and (opened := await self._open(first)):
                await self._fill()
            if opened:
                await self._stream(LATER, 700)
                if LATER in self._leases:
                    self._say("later", LATER, self._tails[LATER])
                await self._append(PLAIN, 100)  # only a taker brings that to disk level
            self._say("end", "", 0)
            if await self._open(second):
                await self._resume()
            await self._tried("close", "", first.aclose)
            await self._tidy()
            await self._tried("close", "", second.aclose)

    async def _open(self, stack: AsyncExitStack) -> bool:
        store = open_store(self._where, policy=Policy(durability=self._durability), serving=True)
        if opened := await self._tried("open", "", lambda: stack.enter_async_context(store)):
            self._store = store
        return opened

    async def _fill(self) -> None:
        for name in (KEYED, PLAIN):
            await self._create(name)
        await self._append(PLAIN, 40)
        await self._append(KEYED, 1500)
        await self._call_again(KEYED)
        await self._append(KEYED, 500)
        await self._seal(KEYED)
        await self._stream(PURGED, 5000)
        await self._tidy()
        if PURGED in self._leases:
            await self._told("purge", PURGED, lambda: self._store.purge(StreamId(PURGED), Gone.DELETED))
        await self._tidy()

    async def _resume(self) -> None:
        """The stream that still runs is taken over from an owner that does, too. An intent is at disk level, and what
        the catalog learnt from the takeover then is, too."""
        if PLAIN in self._leases and await self._told("take", PLAIN, self._take):
            await self._tried("cancel", PLAIN, lambda: self._store.request_cancel(StreamId(PLAIN)))
            await self._append(PLAIN, 5000)
            self._say("resumed", PLAIN, self._tails[PLAIN])

    async def _take(self) -> None:
        id_ = StreamId(PLAIN)
        self._leases[PLAIN] = await self._store.acquire(id_, "w", after=(await self._store.stat(id_)).epoch)
        # What an append that was refused had written before may count
        self._tails[PLAIN] = max(self._tails[PLAIN], (await self._store.stat(id_)).tail)

    async def _stream(self, name: str, size: int) -> None:
        await self._create(name)
        await self._append(name, size)
        await self._seal(name)

    async def _create(self, name: str) -> None:
        new = NewStream(StreamId(name), PRINCIPAL, "u", "w", self._store.now(), 600, 600, key=_key(name))
        self._say("send", name, 0)

        async def create() -> None:
            self._leases[name] = await self._store.create(new)
            self._tails[name] = 0

        for _ in range(2):
            if await self._told("create", name, create):
                return

    async def _append(self, name: str, size: int) -> None:
        if name not in self._leases:
            return
        at = self._tails[name]
        data = payload(name)[at : at + size]
        self._say("send", name, at + size)

        async def append() -> None:
            try:
                await self._store.append(self._leases[name], at, data, 1)
            except OffsetConflict as conflict:
                if conflict.tail != at + size:
                    raise
            self._tails[name] = at + size

        for _ in range(2):
            if await self._told("append", name, append):
                return

    async def _call_again(self, name: str) -> None:
        """A further call, once this is told, may be made."""
        if name in self._leases:
            now = self._store.now()
            first = Attempt("u", now, 200, ended_at=now, bytes=self._tails[name], outcome=Outcome.TRUNCATED)
            again = partial(self._store.begin, self._leases[name], Attempt("u", now), None, after=(first,))
            await self._told("call", name, again)

    async def _seal(self, name: str) -> None:
        if name not in self._leases:
            return
        for _ in range(2):
            if await self._told("seal", name, lambda: self._store.seal(self._leases[name], SEAL)):
                return

    async def _tidy(self) -> None:
        await self._tried("tidy", "", self._store.tidy)

    async def _told(self, what: str, name: str, call: Callable[[], Awaitable[Any]]) -> bool:
        if not await self._tried(what, name, call):
            return False
        self._say(what, name, self._tails.get(name, 0))
        return True

    async def _tried(self, what: str, name: str, call: Callable[[], Awaitable[Any]]) -> bool:
        try:
            await call()
        except StoreError as error:
            self._say(f"refused {what}: {type(error).__name__}: {error}", name, self._tails.get(name, 0))
            return False
        return True


async def survey(where: str, durability: Durability) -> dict[str, Any]:
    """What a server finds in a store: `unusable` (why), or `streams`, `keys` and what `verify` reports (`damage`). Then
    it takes every unsealed stream over and seals it, and makes a new one."""
    store = open_store(where, policy=Policy(durability=durability), serving=True)
    try:
        async with store:
            names = (KEYED, PLAIN, PURGED, LATER)
            found: dict[str, Any] = {"streams": {name: await _look(store, name) for name in names}}
            found["keys"] = {name: await _meaning(store, name) for name in names if _key(name)}
            found["damage"] = await _damage(store)
            found["refused"] = await _go_on(store)
            return found
    except StoreError as error:
        return {"unusable": f"{type(error).__name__}: {error}"}


async def _look(store: LogStore, name: str) -> dict[str, Any]:
    """A stream's record and payload, each as far as it can be had."""
    try:
        info = await store.stat(StreamId(name))
    except StoreError as error:
        return {"error": str(error)}
    except StreamNotFound:
        return {"missing": True}
    seal = info.seal and [info.seal.outcome, info.seal.detail, info.seal.message]
    data, wrong, expected = b"", [], payload(name)
    record = {"tail": info.tail, "events": info.events, "seal": seal, "gone": info.gone, "key": info.new.key}
    record["calls"] = len(info.attempts)
    try:
        while part := await store.read(StreamId(name), len(data), 3000):
            data += part
    except StreamGone:
        return record
    except ResumeStreamError as error:
        record["error"] = str(error)
    if data != expected[: len(data)]:
        wrong.append(len(data))
    return record | {"read": len(data), "wrong": bool(wrong)}


async def _meaning(store: LogStore, name: str) -> str | None:
    key = _key(name)
    assert key
    try:
        binding = await store.binding(key)
    except StoreError as error:
        return f"error: {error}"
    return binding.stream if binding else None


async def _damage(store: LogStore) -> list[str]:
    """All that `verify` says."""
    said = await store.verify()
    try:
        for info in await store.find(Query(limit=100)):
            said += await store.verify(info.id)
    except StoreError as error:
        said.append(str(error))
    return said


async def _go_on(store: LogStore) -> list[str]:
    """What stands in the way of going on."""
    refused = []
    try:
        for info in await store.unsealed():
            lease = await store.acquire(info.id, "taker", after=info.epoch)
            # A taker may find what was written and not yet visible
            tail = (await store.stat(info.id)).tail
            sealed = await store.seal(lease, SEAL)
            assert sealed.sealed
            assert sealed.tail == tail >= info.tail
            assert await store.read(info.id, info.tail, 20_000) == payload(info.id)[info.tail : tail]
            try:
                await store.append(lease, sealed.tail, b"x")
            except StreamSealed:
                continue
            refused.append(f"{info.id} takes bytes after its seal")
    except StoreError as error:
        refused.append(f"takeover: {type(error).__name__}: {error}")
    try:
        lease = await store.create(NewStream(StreamId("new"), PRINCIPAL, "u", "w", store.now(), 600, 600))
        await store.append(lease, 0, payload("new")[:100])
        await store.seal(lease, SEAL)
        assert await store.read(StreamId("new"), 0, 1000) == payload("new")[:100]
    except StoreError as error:
        refused.append(f"new stream: {type(error).__name__}: {error}")
    return refused


def run(call: Callable[[], Awaitable[Any]], backend: str) -> Any:
    return anyio.run(call, backend=backend)
