"""A source whose every byte the test sends itself, and the streams it makes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

from resumestream.hub import Outgoing, mint
from resumestream.model import Head, NewStream

SSE = Head(200, (("content-type", "text/event-stream"),))

EVENTS = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % number for number in range(5)]
DONE = b"data: [DONE]\n\n"


class FakeSource:
    """Implements ports.Source. `send` what the provider does next: bytes, or the exception that `receive` raises."""

    upstream = "fake"
    framed = True

    def __init__(self, head: Head | Exception = SSE, *, framed: bool = True) -> None:
        self._head, self.framed = head, framed
        self._said: deque[bytes | Exception] = deque()
        self._more = anyio.Event()
        self.calls = 0
        self.closed = anyio.Event()
        self.opened = anyio.Event()
        self.hold_head: anyio.Event | None = None

    def send(self, *said: bytes | Exception) -> None:
        self._said.extend(said)
        self._more.set()

    def end(self) -> None:
        self.send(anyio.EndOfStream())

    async def open(self) -> FakeSource:
        self.calls += 1
        self.opened.set()
        if self.hold_head:
            await self.hold_head.wait()
        if isinstance(self._head, Exception):
            raise self._head
        return self

    @property
    def head(self) -> Head:
        assert isinstance(self._head, Head)
        return self._head

    @head.setter
    def head(self, head: Head) -> None:
        self._head = head

    async def receive(self) -> bytes:
        while not self._said:
            self._more = anyio.Event()
            await self._more.wait()
        said = self._said.popleft()
        if isinstance(said, Exception):
            raise said
        return said

    async def aclose(self) -> None:
        self.closed.set()


def new_stream(now: Callable[[], float], **changes: object) -> NewStream:
    """A keyless chat stream, unless `changes` say otherwise."""
    fields: dict[str, object] = {
        "id": mint(),
        "principal": "somebody",
        "upstream": "fake",
        "worker": "w",
        "created_at": now(),
        "retain_s": 60.0,
        "tombstone_s": 60.0,
        "dialect": "openai-chat",
    }
    return NewStream(**(fields | changes))  # type: ignore[arg-type]


def outgoing(source: FakeSource) -> Outgoing:
    return Outgoing(source, "the provider")
