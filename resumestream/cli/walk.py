"""Every stream of a store, a page at a time: what a command holds in memory does not grow with the store."""

from __future__ import annotations

from dataclasses import replace

from ..errors import StreamNotFound
from ..model import Query, StreamId, StreamInfo
from ..ports import LogStore


class Walk:
    """The streams that `query` asks for, `query.limit` at a time, newest first.

    Others forget streams meanwhile. Where the one is gone that a page ended with, the next page goes on after one
    before it, at worst from the start: a stream may come twice then, and none that stays is left out.
    """

    def __init__(self, store: LogStore, query: Query) -> None:
        self._store, self._query = store, query
        self._last: list[StreamId] = []

    async def page(self) -> list[StreamInfo]:
        """The next ones, none at the end. Raises StreamNotFound where `query.after` is not there."""
        while True:
            after = self._last[-1] if self._last else self._query.after
            try:
                page = await self._store.find(replace(self._query, after=after))
            except StreamNotFound:
                if not self._last:
                    raise
                self._last.pop()
                continue
            self._last = [info.id for info in page]
            return page
