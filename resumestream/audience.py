"""Who reads a live stream: what `on_disconnect` and the cap on orphans go by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Audience:
    """The open live reads of one stream; those in another process count as one."""

    def __init__(self, *, found: bool) -> None:
        self.readers = 0
        self.found = found
        """Somebody can find the stream again: it has a key, or its id reached somebody."""
        self._elsewhere = set[str]()
        self._left: anyio.Event | None = None

    @property
    def orphaned(self) -> bool:
        """Its last reader left, and none has come since. A stream that never had one is no orphan."""
        return self._left is not None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count as a reader meanwhile."""
        self._came()
        try:
            yield
        finally:
            self._went()

    def followed(self, by: str) -> None:
        """Somebody reads in process `by`. Idempotent."""
        if by not in self._elsewhere:
            self._elsewhere.add(by)
            self._came()

    def left(self, by: str) -> None:
        """Nobody reads in process `by` any more. Idempotent."""
        if by in self._elsewhere:
            self._elsewhere.remove(by)
            self._went()

    def _came(self) -> None:
        self.readers += 1
        if self._left:
            self._left.set()
            self._left = None

    def _went(self) -> None:
        self.readers -= 1
        if not self.readers:
            self._left = anyio.Event()

    async def stays_away(self, seconds: float) -> bool:
        """Whether nobody comes for so long after this leave."""
        left = self._left
        if left is None:
            return False
        with anyio.move_on_after(seconds):
            await left.wait()
        return not left.is_set()
