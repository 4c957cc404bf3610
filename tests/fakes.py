"""A source whose every byte the test sends itself, the streams it makes, and a Hub that runs them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from resumestream.claiming import Outgoing
from resumestream.hub import Hub, mint
from resumestream.model import Head, NewStream, StreamInfo
from resumestream.policy import Policy
from resumestream.route import only
from resumestream.stores import MemoryStore

SSE = Head(200, (("content-type", "text/event-stream"),))

EVENTS = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % number for number in range(5)]
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"no"}}\n\n'


class FakeSource:
    """Implements ports.Source. `send` what the provider does next: bytes, or the exception that `receive` raises."""

    upstream = "fake"
    framed = True
    remote = None

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

    async def cancel(self) -> None:
        pass

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
    return Outgoing(only(source, "the provider"))


@asynccontextmanager
async def running(store: MemoryStore | None = None, **policy: object) -> AsyncIterator[Hub]:
    """A Hub under a deadline."""
    with anyio.fail_after(10):
        async with Hub(store or MemoryStore(), Policy(**{"drain_s": 0, "settle_s": 0.05, **policy})) as hub:  # type: ignore[arg-type]
            yield hub


async def started(hub: Hub, source: FakeSource, **changes: object) -> NewStream:
    new = new_stream(hub.store.now, **{"worker": hub.worker, **changes})
    claim = await hub.claim(new, outgoing(source), found=True)
    assert claim.started
    return new


async def sealed(hub: Hub, new: NewStream) -> StreamInfo:
    """The record once it is sealed."""
    tail = hub.reads.tail(new.id, 0)
    while (page := await tail.receive()).info is None:
        pass
    return page.info


async def read(hub: Hub, new: NewStream, at: int = 0) -> bytes:
    tail, data = hub.reads.tail(new.id, at), b""
    while True:
        try:
            data += (await tail.receive()).data
        except anyio.EndOfStream:
            return data


def broken(store: MemoryStore, *methods: str, error: Exception) -> dict[str, bool]:
    """Make these methods fail while `on["on"]` is true."""
    on = {"on": True}

    def breaking(method: str) -> None:
        real = getattr(store, method)

        async def call(*args: object, **kwargs: object) -> object:
            if on["on"]:
                await anyio.lowlevel.checkpoint()
                raise error
            return await real(*args, **kwargs)

        setattr(store, method, call)

    for method in methods:
        breaking(method)
    return on
