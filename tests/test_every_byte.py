"""The provider's connection ends after each byte of an answer: the whole events before it are kept, and no more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate

import anyio
import pytest

from resumestream.hub import Hub, Outgoing
from resumestream.model import Outcome, StreamInfo
from resumestream.policy import Policy
from resumestream.route import only
from resumestream.stores import MemoryStore
from resumestream.testing.provider import Script
from resumestream.testing.provider.plan import plan
from resumestream.upstream import Call, Upstream

from .fakes import new_stream, read, sealed
from .scripted_peer import HEAD, Peer, Server, serving

pytestmark = pytest.mark.anyio

AT_ONCE = 32
DEADLINE_S = 50
DETAILS = {"fin": "connection_closed", "rst": "connection_reset"}


@dataclass(frozen=True)
class Answer:
    """2 kB of a provider's answer, each event a chunk."""

    path: str
    tokens: int
    terminal: bool
    """Its last event says that it is the last: before the framing does."""

    @property
    def events(self) -> list[bytes]:
        made = plan(Script(tokens=self.tokens), 1, "POST", self.path, b'{"stream": true}', None, {})
        return [made.body[begin:end] for begin, end in zip([0, *made.ends], made.ends, strict=False)]


ANSWERS = {
    "openai-chat": Answer("/v1/chat/completions", 8, terminal=True),
    "anthropic": Answer("/v1/messages", 12, terminal=True),
    "gemini": Answer("/v1beta/models/m:streamGenerateContent", 8, terminal=False),
}


def chunk(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event)


@pytest.mark.timeout(DEADLINE_S + 10)
@pytest.mark.parametrize(("fault", "anyio_backend"), [("fin", "asyncio"), ("rst", "trio")])
@pytest.mark.parametrize("dialect", ANSWERS)
async def test_a_connection_that_ends_at_any_byte(dialect: str, fault: str, anyio_backend: str) -> None:
    """Cut at each byte of the body as it is on the wire, its framing included. It is `completed` as soon as the
    terminal event is whole, or, where there is none, once the framing says that this was all. One loop a fault: there
    are 2000 calls in each."""
    answer = ANSWERS[dialect]
    events = answer.events
    wire = b"".join(map(chunk, events)) + b"0\r\n\r\n"
    assert 1800 < len(wire) < 2600
    assert (b"\r\n\r\n" in events[0]) is (dialect == "gemini")
    # An event is here with its own last byte, whether or not the end of its chunk is.
    here = [end - 2 for end in accumulate(len(chunk(event)) for event in events)]
    complete = here[-1] if answer.terminal else len(wire)
    ended: dict[int, tuple[StreamInfo, bytes]] = {}

    def script(peer: Peer, server: Server) -> None:
        found = re.match(rb"POST /cut/(\d+)", peer.read_request())
        assert found
        peer.send(HEAD + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.send(wire[: int(found[1])])
        if fault == "rst":
            peer.reset()

    with anyio.fail_after(DEADLINE_S):
        async with serving(script) as server, Hub(MemoryStore(), Policy(drain_s=0, settle_s=5)) as hub:
            upstream, room = Upstream(server.url()), anyio.Semaphore(AT_ONCE)

            async def cut(at: int) -> None:
                async with room:
                    source = Call("fake", upstream, server.pool, "POST", b"/cut/%d" % at, [], b"{}")
                    new = new_stream(hub.store.now, dialect=dialect, worker=hub.worker)
                    await hub.claim(new, Outgoing(only(source, "the provider")), found=True)
                    info = await sealed(hub, new)
                    ended[at] = info, await read(hub, new)

            async with anyio.create_task_group() as group:
                for at in range(len(wire) + 1):
                    group.start_soon(cut, at)

    for at in range(len(wire) + 1):
        info, kept = ended[at]
        whole = sum(end <= at for end in here)
        assert (kept, info.tail, info.events) == (b"".join(events[:whole]), len(kept), whole), at
        assert info.seal is not None
        if at >= complete:
            assert info.seal.outcome is Outcome.COMPLETED, at
        else:
            assert (info.seal.outcome, info.seal.detail) == (Outcome.TRUNCATED, DETAILS[fault]), at
