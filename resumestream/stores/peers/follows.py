"""What is followed from here: streams that other processes drain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from ...model import StreamId
from .messages import Kind
from .page import Page

GONE_S = 0.5
"""How often who follows a dead process looks for what became of its streams: nobody is left to say."""


class Feed:
    """The Following of all readers of one stream."""

    def __init__(self) -> None:
        self._changed = anyio.Event()

    def arm(self) -> anyio.Event:
        """Set at the next change."""
        return self._changed

    def ring(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class Owner:
    """One process whose streams are followed."""

    def __init__(self, page: Page | None) -> None:
        self.feeds: dict[StreamId, Feed] = {}
        self.readers: Counter[StreamId] = Counter()
        self.heard = False
        """Datagrams arrive both ways: its word of changes, which does not tell the stream, need not be polled."""
        self._ring_at = -math.inf
        self._words = self._read(page)

    def ring(self) -> None:
        for feed in self.feeds.values():
            feed.ring()

    def poll(self, page: Page | None, *, gone: bool, now: float) -> None:
        """Ring where something happened that no datagram tells of."""
        before, self._words = self._words, self._read(page)
        changed = before[0] != self._words[0] and not self.heard
        if changed or before[1] != self._words[1]:
            self.ring()
        if gone and now >= self._ring_at:
            self._ring_at = now + GONE_S
            self.ring()

    @staticmethod
    def _read(page: Page | None) -> tuple[int, int]:
        return (page.get("changes"), page.get("fences")) if page else (0, 0)


class Follows:
    """`say` is told when the first reader of a stream comes and the last one leaves."""

    def __init__(self, say: Callable[[str, Kind, StreamId], None], page_of: Callable[[str], Page | None]) -> None:
        self._say, self._page_of = say, page_of
        self.owners: dict[str, Owner] = {}
        self.some = anyio.Event()
        """Set while anything is followed."""

    @contextmanager
    def follow(self, stream: StreamId, worker: str) -> Iterator[Feed]:
        owner = self.owners.get(worker)
        if owner is None:
            owner = self.owners[worker] = Owner(self._page_of(worker))
            self.some.set()
        feed = owner.feeds.setdefault(stream, Feed())
        owner.readers[stream] += 1
        if owner.readers[stream] == 1:
            self._say(worker, Kind.FOLLOW, stream)
        try:
            yield feed
        finally:
            owner.readers[stream] -= 1
            if not owner.readers[stream]:
                self._left(worker, owner, stream)

    def _left(self, worker: str, owner: Owner, stream: StreamId) -> None:
        del owner.readers[stream], owner.feeds[stream]
        self._say(worker, Kind.LEAVE, stream)
        if not owner.feeds:
            del self.owners[worker]
        if not self.owners:
            self.some = anyio.Event()

    def say_all(self) -> None:
        for worker, owner in self.owners.items():
            for stream in owner.feeds:
                self._say(worker, Kind.FOLLOW, stream)

    def changed(self, worker: str, streams: tuple[StreamId, ...]) -> None:
        if owner := self.owners.get(worker):
            owner.heard = True
            for stream in streams:
                if feed := owner.feeds.get(stream):
                    feed.ring()

    def refused(self, worker: str) -> None:
        """It does not receive."""
        if owner := self.owners.get(worker):
            owner.heard = False
