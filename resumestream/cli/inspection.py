"""What `verify` finds: everything that is stored is read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import StoreError, StreamNotFound
from ..model import Query, State, StreamInfo
from ..ports import LogStore
from ..stores._schema import VERSION
from .display import Progress, many, size
from .offline import only
from .serving import PROTECTS
from .walk import Walk

PAGE = 100


class Inspection:
    """One look at a store. `tell` hears of each damage at once: the stream's id, None where it is the store's own, and
    a sentence."""

    def __init__(self, store: LogStore, tell: Callable[[str | None, str], None], progress: Progress) -> None:
        self._store, self._tell, self._progress = store, tell, progress
        self._states: Counter[State] = Counter()
        self._bytes = 0
        self.damage: list[tuple[str | None, str]] = []

    async def all(self) -> None:
        """The store's own structures, then every stream."""
        self._progress.say("the store's own structures")
        for what in await self._store.verify():
            self._found(None, what)
        walk = Walk(self._store, Query(limit=PAGE))
        while page := await self._page(walk):
            for info in page:
                await self._look(info)

    async def some(self, prefixes: Sequence[str]) -> None:
        """Those that are named, each found before the first is read. Raises StreamNotFound, ResumeStreamError."""
        found = {info.id: info for info in [await only(self._store, prefix) for prefix in prefixes]}
        for info in found.values():
            await self._look(info)

    async def _page(self, walk: Walk) -> list[StreamInfo]:
        try:
            return await walk.page()
        except StoreError as error:
            self._found(None, f"no more streams can be listed: {error.message}")
            return []

    async def _look(self, info: StreamInfo) -> None:
        """What a server did to the stream while it was read is no damage: then it is read again."""
        while True:
            try:
                found = await self._store.verify(info.id)
                after = await self._store.stat(info.id) if found else info
            except StreamNotFound:
                return  # forgotten meanwhile
            except StoreError as error:
                found, after = [error.message], info
            if _phase(after) == _phase(info):
                break
            info = after
        now = info.as_of(self._store.now())
        self._states[now.state] += 1
        self._bytes += 0 if info.gone else info.tail
        for what in found:
            self._found(info.id, what)
        self._progress.say(f"{many(self._states.total(), 'stream')}, {size(self._bytes)}")

    def _found(self, stream: str | None, what: str) -> None:
        self.damage.append((stream, what))
        self._progress.say("")
        self._tell(stream, what)

    def lines(self) -> Iterator[str]:
        """The result, for people."""
        durability = self._store.durability
        yield f"store {self._store.location}: format {VERSION}, durability {durability}: {PROTECTS[durability]}"
        states = ", ".join(f"{count} {state}" for state in State if (count := self._states[state]))
        yield f"{many(self._states.total(), 'stream')}{f' ({states})' * bool(states)}, {size(self._bytes)} of payload"
        streams = len({stream for stream, _ in self.damage if stream})
        own = any(stream is None for stream, _ in self.damage)
        if self.damage:
            yield "damaged: " + " and ".join(["the store itself"] * own + [many(streams, "stream")] * bool(streams))
        else:
            yield "no damage"

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": not self.damage,
            "store": self._store.location,
            "format": VERSION,
            "durability": self._store.durability,
            "protects": PROTECTS[self._store.durability],
            "streams": {state.value: self._states[state] for state in State},
            "bytes": self._bytes,
            "damage": [{"stream": stream, "what": what} for stream, what in self.damage],
        }


def _phase(info: StreamInfo) -> object:
    return info.epoch, info.sealed, info.gone
