"""What the process that drains a stream knows of it: the newest record, the newest bytes, and who waits for more."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import anyio

from .audience import Audience
from .model import Attempt, Head, NewStream, StreamInfo


class Window:
    """The last `limit` bytes of a log, and never less than its last append."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._held = 0

    def push(self, at: int, data: bytes) -> None:
        self._chunks.append((at, data))
        self._held += len(data)
        while self._held > self._limit and len(self._chunks) > 1:
            self._held -= len(self._chunks.popleft()[1])

    def read(self, at: int, max_bytes: int) -> bytes:
        """Bytes from `at`; none where the window does not hold that offset."""
        if not self._chunks or at < self._chunks[0][0]:
            return b""
        parts: list[bytes] = []
        for start, data in reversed(self._chunks):
            if start + len(data) <= at:
                break
            parts.append(data if start >= at else data[at - start :])
        parts.reverse()
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return data if len(data) <= max_bytes else data[:max_bytes]


class Live:
    """A stream being drained here. What it shows is durable already: the drain advances it after the store said so."""

    def __init__(self, new: NewStream, *, found: bool, window_bytes: int) -> None:
        self.info = StreamInfo(new)
        self.window = Window(window_bytes)
        self.audience = Audience(found=found)
        self.abandoned = False
        """The drain gave up without a seal: nothing more comes from here."""
        self._changed = anyio.Event()

    def arm(self) -> anyio.Event:
        """Set at the next change. Call it BEFORE the look whose result you then wait on."""
        return self._changed

    def ring(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def answered(self, attempt: Attempt, head: Head) -> None:
        self.info = replace(self.info, head=head, attempts=(*self.info.attempts, attempt))
        self.ring()

    def logged(self, data: bytes, events: int) -> None:
        info = self.info
        self.window.push(info.tail, data)
        self.info = replace(info, tail=info.tail + len(data), events=info.events + events)
        self.ring()

    def sealed(self, info: StreamInfo) -> None:
        """Sealed, or dropped after that."""
        self.info = info
        self.ring()

    def abandon(self) -> None:
        self.abandoned = True
        self.ring()
