"""Who reads a live stream: what `on_disconnect` and the cap on orphans go by."""

from __future__ import annotations

import anyio

_NOBODY: frozenset[str] = frozenset()
"""One for all: most streams have no reader elsewhere."""


class Audience:
    """The open live reads of one stream; those in another process count as one."""

    def __init__(self, *, found: bool) -> None:
        self.readers = 0
        self.found = found
        """Somebody can find the stream again: it has a key, or its id reached somebody."""
        self._elsewhere = _NOBODY
        self._left: anyio.Event | None = None

    @property
    def orphaned(self) -> bool:
        """Its last reader left, and none has come since. A stream that never had one is no orphan."""
        return self._left is not None

    def came(self) -> None:
        """One reader more."""
        self.readers += 1
        if self._left:
            self._left.set()
            self._left = None

    def went(self) -> None:
        """One reader less."""
        self.readers -= 1
        if not self.readers:
            self._left = anyio.Event()

    def scattered(self) -> None:
        """Whoever reads does so through a process that died, and has to come back."""
        self._left = self._left or anyio.Event()

    def followed(self, by: str) -> None:
        """Somebody reads in process `by`. Idempotent."""
        if by not in self._elsewhere:
            self._elsewhere |= {by}
            self.came()

    def left(self, by: str) -> None:
        """Nobody reads in process `by` any more. Idempotent."""
        if by in self._elsewhere:
            self._elsewhere -= {by}
            self.went()

    async def stays_away(self, seconds: float) -> bool:
        """Whether nobody comes for so long after this leave."""
        left = self._left
        if left is None:
            return False
        with anyio.move_on_after(seconds):
            await left.wait()
        return not left.is_set()
