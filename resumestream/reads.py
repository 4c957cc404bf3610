"""The open reads of one process: what each reads from, and what they keep alive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import anyio

from .follower import Follower
from .live import Live, Windows
from .model import StreamId, StreamInfo
from .ports import LogStore
from .tail import Tail

RETURN_S = 15
"""How long a reader whom we sent away, since its segment ended and another goes on, counts as one that comes back."""


class Hold:
    """Keeps a payload from expiring for as long as anybody has it: a reader on its way to its read."""

    __slots__ = ("__weakref__",)


class Reads:
    """`live` are the streams drained here. `spawn` starts a task in the Hub's task group; `left` hears when the last
    reader of a stream drained here has left; `closing` says that the server goes down."""

    def __init__(
        self,
        store: LogStore,
        live: Mapping[StreamId, Live],
        windows: Windows,
        *,
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        left: Callable[[Live], None],
        closing: Callable[[], bool],
    ) -> None:
        self._store, self._live, self._windows = store, live, windows
        self._spawn, self._left, self._closing = spawn, left, closing
        self._open: Counter[StreamId] = Counter()
        self._holds: WeakValueDictionary[StreamId, Hold] = WeakValueDictionary()
        self._returning: dict[StreamId, list[ExitStack]] = {}
        """Readers that were sent away, each counted until it comes back, or for RETURN_S."""
        self._followers: dict[StreamId, Follower] = {}

    def open(self, stream: StreamId) -> bool:
        """Whether a read is open that keeps the payload from expiring."""
        return self._open[stream] > 0 or stream in self._holds

    def hold(self, stream: StreamId) -> Hold:
        """For who is promised the stream and does not read it yet."""
        return self._holds.setdefault(stream, Hold())

    @property
    def count(self) -> int:
        """How many reads are open."""
        return self._open.total()

    @contextmanager
    def holding(self, stream: StreamId) -> Iterator[None]:
        """Keep the payload from expiring meanwhile."""
        self._hold(stream)
        try:
            yield
        finally:
            self._let_go(stream)

    @contextmanager
    def reading(self, stream: StreamId) -> Iterator[None]:
        """Count as an open live read meanwhile: what `on_disconnect` goes by. Keeps the payload, too."""
        with self._counted(stream):
            if places := self._returning.get(stream):
                places.pop().close()
            yield

    def _send_away(self, stream: StreamId) -> None:
        place = ExitStack()
        place.enter_context(self._counted(stream))
        self._returning.setdefault(stream, []).append(place)
        self._spawn(partial(self._await_return, stream, place))

    async def _await_return(self, stream: StreamId, place: ExitStack) -> None:
        try:
            await anyio.sleep(RETURN_S)
        finally:
            places = self._returning.get(stream, [])
            if place in places:
                places.remove(place)
            if not places:
                self._returning.pop(stream, None)
            place.close()

    @contextmanager
    def _counted(self, stream: StreamId) -> Iterator[None]:
        live = self._live.get(stream)
        self._hold(stream)
        if live:
            live.audience.came()
        try:
            yield
        finally:
            if live:
                live.audience.went()
            self._let_go(stream)
            if live and not live.audience.readers:
                self._left(live)
            if not self._open[stream] and (follower := self._followers.get(stream)):
                follower.stop()

    def _hold(self, stream: StreamId) -> None:
        self._open[stream] += 1

    def _let_go(self, stream: StreamId) -> None:
        self._open[stream] -= 1
        if not self._open[stream]:
            del self._open[stream]

    def tail(
        self,
        stream: StreamId,
        at: int,
        *,
        segment: int = 1,
        until: int | None = None,
        known: StreamInfo | None = None,
    ) -> Tail:
        """Pages of a segment from its byte `at` on, live to its end or to `until`. Check the bounds against `stat`
        first; `known` is what it said, and spares a sealed stream's tail asking again."""
        live = self._live.get(stream)
        if live is None and until is None and known and not known.sealed:
            live = self.follow(known)
        return Tail(
            self._store,
            stream,
            at,
            segment=segment,
            until=until,
            known=known,
            live=live,
            again=self._again,
            closing=self._closing,
            sent_away=partial(self._send_away, stream),
        )

    def follow(self, info: StreamInfo) -> Live:
        """The Live of a stream that another process drains."""
        follower = self._followers.get(info.id)
        if follower is None or follower.live.abandoned:
            follower = Follower(self._store, info, self._windows, wanted=lambda: self._open[info.id] > 0)
            self._followers[info.id] = follower
            self._spawn(lambda: self._run(follower))
        return follower.live

    def dropped(self, info: StreamInfo) -> None:
        """A payload is gone: what reads it here is cut."""
        live, follower = self._live.get(info.id), self._followers.get(info.id)
        for known in (live, follower and follower.live):
            if known:
                known.sealed(info)
        self._store.peers.changed(info.id)

    def _again(self, info: StreamInfo) -> Live:
        live = self._live.get(info.id)
        return live if live and not live.abandoned else self.follow(info)

    async def _run(self, follower: Follower) -> None:
        stream = follower.live.info.id
        try:
            await follower.run()
        finally:
            if self._followers.get(stream) is follower:
                del self._followers[stream]
