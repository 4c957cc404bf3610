"""What a process knows of a stream being drained: the newest record, the newest bytes, and who waits for more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import anyio

from .audience import Audience
from .errors import ResumeStreamError
from .model import Attempt, Head, Segment, StreamId, StreamInfo

NEAR_BYTES = 256 * 1024
"""Who is farther behind reads the store, in blocks of this size."""
CHUNK_BYTES = 130
"""What a chunk takes in memory beside its payload (measured, CPython 3.11)."""


class _Chunk:
    """Payload from `at` on, and the one before it; without `data` it was dropped."""

    __slots__ = ("at", "data", "older")

    def __init__(self, at: int, data: bytes, older: _Chunk | None) -> None:
        self.at, self.data, self.older = at, data, older


class Windows:
    """The newest payload of all live streams, in `limit` bytes of memory together: what came first goes first,
    whosever it is."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._order: deque[_Chunk] = deque()

    def pushed(self, chunk: _Chunk) -> None:
        self._order.append(chunk)
        self._held += CHUNK_BYTES + len(chunk.data)
        while self._held > self._limit:
            oldest = self._order.popleft()
            self._held -= CHUNK_BYTES + len(oldest.data)
            oldest.data, oldest.older = b"", None


class Window:
    """The last bytes of one log, as far as they are kept in memory."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._newest: _Chunk | None = None

    def push(self, at: int, data: bytes) -> None:
        """`data`, never empty, follows what was pushed before."""
        self._newest = _Chunk(at, data, self._newest)
        self._windows.pushed(self._newest)

    def read(self, at: int, max_bytes: int) -> bytes:
        """Bytes from `at`; none where the window does not hold that offset, or too much after it."""
        chunk = self._newest
        if chunk is None or chunk.at + len(chunk.data) - at > NEAR_BYTES:
            return b""
        parts: list[bytes] = []
        while chunk and chunk.at > at:
            parts.append(chunk.data)
            chunk = chunk.older
        if chunk is None or not chunk.data:
            return b""
        parts.append(chunk.data[at - chunk.at :])
        parts.reverse()
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return data if len(data) <= max_bytes else data[:max_bytes]


class Live:
    """A stream that is being drained, here or elsewhere. What it shows is durable already: it is advanced after the
    store said so. `told` hears of every change."""

    def __init__(
        self, info: StreamInfo, windows: Windows, *, found: bool, told: Callable[[StreamId], None] = lambda stream: None
    ) -> None:
        self.info = info
        self._windows = windows
        self.window = Window(windows)
        self.audience = Audience(found=found)
        self.abandoned = False
        """Nothing more comes from here, though the stream has not ended: another process may have it now."""
        self.failed: ResumeStreamError | None = None
        """Why, where nobody can read on."""
        self._told = told
        self._changed: anyio.Event | None = None
        """Only while somebody waits, or may: most readers of most streams do not."""

    def arm(self) -> anyio.Event:
        """Set at the next change. Call it BEFORE the look whose result you then wait on."""
        if self._changed is None:
            self._changed = anyio.Event()
        return self._changed

    def ring(self) -> None:
        changed, self._changed = self._changed, None
        if changed:
            changed.set()
        self._told(self.info.id)

    def begun(self, attempt: Attempt, head: Head | None, after: Sequence[Attempt], ended: Sequence[Segment]) -> None:
        self.info = self.info.begun(attempt, head, after, ended)
        self.ring()

    def logged(self, data: bytes, events: int) -> None:
        info = self.info
        self.window.push(info.tail, data)
        self.info = replace(info, tail=info.tail + len(data), events=info.events + events)
        self.ring()

    def followed(self, info: StreamInfo, news: bytes) -> None:
        """The record as another process has it, and the bytes between the two tails, where they are at hand."""
        if news:
            self.window.push(self.info.tail, news)
        elif info.tail > self.info.tail:
            self.window = Window(self._windows)
        self.info = info
        self.ring()

    def sealed(self, info: StreamInfo) -> None:
        """Sealed, or dropped after that."""
        self.info = info
        self.ring()

    def abandon(self, failed: ResumeStreamError | None = None) -> None:
        self.abandoned, self.failed = True, failed
        self.ring()
