"""How far the log has a call's answer: where another connection goes on. Nothing that is not logged counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..model import ResumeKind, StreamId
from ..ports import LogStore
from ..remote import Place, last_number, response_id

LOOKS_BYTES = (64 * 1024, 1024 * 1024, 17 * 1024 * 1024)
"""How much of a log is looked at for its first or its last event: more where that was not enough, and at the end one of
any size."""

Found = TypeVar("Found")


class Logged:
    """The latest segment of a stream's log."""

    def __init__(self, store: LogStore, stream: StreamId) -> None:
        self._store, self._stream = store, stream

    async def place(self, kind: ResumeKind, response: str | None) -> Place:
        """`response`: the id, where it is known already. Raises StoreError."""
        info = await self._store.stat(self._stream)
        begin, end = info.base, info.tail
        if kind == "resumestream":
            return Place(end - begin)
        response = response or await self.response()
        number = await self._look(last_number, lambda size: (max(begin, end - size), end))
        return Place(end - begin, response, number)

    async def response(self) -> str | None:
        """The id that its first event tells. Raises StoreError."""
        info = await self._store.stat(self._stream)
        begin, end = info.base, info.tail
        return await self._look(response_id, lambda size: (begin, min(end, begin + size)))

    async def _look(
        self, found: Callable[[bytes], Found | None], within: Callable[[int], tuple[int, int]]
    ) -> Found | None:
        seen = 0
        for size in LOOKS_BYTES:
            at, end = within(size)
            if end - at == seen:
                break
            data = await self._read(at, end)
            if (what := found(data)) is not None:
                return what
            seen = end - at
        return None

    async def _read(self, at: int, end: int) -> bytes:
        data = bytearray()
        while at + len(data) < end:
            piece = await self._store.read(self._stream, at + len(data), end - at - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)
