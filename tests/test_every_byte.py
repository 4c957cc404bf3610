"""An answer ends after each of its bytes, cut or cleanly: the whole events before it are kept, and no more; and no part
of an event is ever taken for the end, or for an error."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import anyio
import pytest

from resumestream.claiming import Outgoing
from resumestream.hub import Hub
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

FIXTURES = Path(__file__).parents[1] / "fixtures"
AT_ONCE = 32
DEADLINE_S = 50
DETAILS = {"fin": "connection_closed", "rst": "connection_reset", "clean": "no_terminal_event"}
BLOCK = re.compile(rb"(?s).+?(?:\r\n\r\n|\n\n)")
SSE, NDJSON = "text/event-stream", "application/x-ndjson"


@dataclass(frozen=True)
class Answer:
    """A provider's answer, each event a chunk."""

    dialect: str
    events: tuple[bytes, ...]
    last: Literal["terminal", "error", "any"]
    """What its last event says: that it is the last, or that something failed."""
    content_type: str = SSE
    framed_from: int | None = None
    """Behind so many events, a framed end says that this was all."""

    @property
    def cut_from(self) -> int:
        """The last two events are what may be mistaken."""
        return sum(map(len, self.events[:-2]))

    def ended(self, got: int, fault: str) -> tuple[int, int, Outcome, str]:
        """So many bytes of it came: how many are kept, how many events that is, outcome and detail."""
        ends = list(accumulate(map(len, self.events)))
        whole = sum(end <= got for end in ends)
        kept, clean = ([0, *ends][whole]), fault == "clean"
        rest = b"".join(self.events)[kept:got]
        counted = 0 if self.content_type == NDJSON else sum(b"data: " in event for event in self.events[:whole])
        unended = bool(rest) and all_there(rest, self.content_type)
        if whole + unended == len(ends):
            if self.last == "error":
                detail = "error_unended" if unended and self.content_type == SSE else "error_event"
                return got, counted + (unended and bool(counted)), Outcome.PROVIDER_ERROR, detail
            if self.last == "terminal" and (clean or not unended):
                return got, counted + (unended and bool(counted)), Outcome.COMPLETED, "end_seen"
        if clean and self.framed_from and whole + unended >= self.framed_from and (unended or not rest):
            return got, counted + unended, Outcome.COMPLETED, "framed_end"
        return kept, counted, Outcome.TRUNCATED, "no_first_byte" if clean and not got else DETAILS[fault]


def all_there(rest: bytes, content_type: str) -> bool:
    """Whether an event lacks its end only: no line of it stops in the middle."""
    lines = rest.splitlines(keepends=True)
    data = rest
    if content_type == SSE:
        if not lines[-1].endswith((b"\r", b"\n")) and not lines[-1].startswith(b"data: "):
            return False
        data = b"".join(line[6:] for line in lines if line.startswith(b"data: "))
    try:
        return data.strip() == b"[DONE]" or json.loads(data) is not ...
    except ValueError:
        return False


def scripted(dialect: str, path: str, tokens: int, framed_from: int | None = None) -> Answer:
    """2 kB of it. `framed_from` counts from the end."""
    made = plan(Script(tokens=tokens), 1, "POST", path, b'{"stream": true}', None, {})
    events = tuple(made.body[at:end] for at, end in zip([0, *made.ends], made.ends, strict=False))
    if framed_from is None:
        return Answer(dialect, events, "terminal")
    return Answer(dialect, events, "terminal" if framed_from else "any", framed_from=len(events) + framed_from)


def recorded(dialect: str, file: str, last: Literal["terminal", "error"]) -> Answer:
    """A fixture. What LangGraph does not finish ends behind any event."""
    body = (FIXTURES / file).read_bytes()
    if dialect == "ollama":
        return Answer(dialect, tuple(body.splitlines(keepends=True)), last, content_type=NDJSON)
    return Answer(dialect, tuple(BLOCK.findall(body)), last, framed_from=1 if dialect == "langgraph" else None)


WHOLE = {
    "openai-chat": scripted("openai-chat", "/v1/chat/completions", 8, -1),
    "anthropic": scripted("anthropic", "/v1/messages", 12),
    "gemini": scripted("gemini", "/v1beta/models/m:streamGenerateContent", 8, 0),
}
OTHERS = {
    "openai-chat, failed": recorded("openai-chat", "openai-chat-error.sse", "error"),
    "anthropic, failed": recorded("anthropic", "anthropic-error.sse", "error"),
    "openai-responses": scripted("openai-responses", "/v1/responses", 2),
    "openai-responses, failed": recorded("openai-responses", "openai-responses-failed.sse", "error"),
    "langgraph": recorded("langgraph", "langgraph.sse", "terminal"),
    "langgraph, failed": recorded("langgraph", "langgraph-error.sse", "error"),
    "ollama": recorded("ollama", "ollama.bin", "terminal"),
    "ollama, failed": recorded("ollama", "ollama-error.bin", "error"),
}


def chunk(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event) if event else b""


def came(events: tuple[bytes, ...], at: int) -> int:
    """How many bytes of the body are in the first `at` of the wire."""
    got = 0
    for event in events:
        head = len(chunk(event)) - len(event) - 2
        got += min(max(0, at - head), len(event))
        at -= len(chunk(event))
    return got


async def all_ends(answer: Answer, fault: str, places: range) -> dict[int, tuple[StreamInfo, bytes]]:
    """Record and payload of the answer that ends at each of these places: of its wire or, ending clean, of its body."""
    wire, body = b"".join(map(chunk, answer.events)) + b"0\r\n\r\n", b"".join(answer.events)
    head = HEAD + f"Content-Type: {answer.content_type}\r\nTransfer-Encoding: chunked\r\n".encode()
    head += b"Connection: close\r\n\r\n"
    ended: dict[int, tuple[StreamInfo, bytes]] = {}

    def script(peer: Peer, server: Server) -> None:
        found = re.match(rb"POST /cut/(\d+)", peer.read_request())
        assert found
        at = int(found[1])
        peer.send(head)
        peer.send(chunk(body[:at]) + b"0\r\n\r\n" if fault == "clean" else wire[:at])
        if fault == "rst":
            peer.reset()

    with anyio.fail_after(DEADLINE_S):
        async with serving(script) as server, Hub(MemoryStore(), Policy(drain_s=0, settle_s=5)) as hub:
            upstream, room = Upstream(server.url()), anyio.Semaphore(AT_ONCE)

            async def cut(at: int) -> None:
                async with room:
                    source = Call("fake", upstream, server.pool, "POST", b"/cut/%d" % at, [], b"{}")
                    new = new_stream(hub.store.now, dialect=answer.dialect, worker=hub.worker)
                    await hub.claim(new, Outgoing(only(source, "the provider")), found=True)
                    info = await sealed(hub, new)
                    ended[at] = info, await read(hub, new)

            async with anyio.create_task_group() as group:
                for at in places:
                    group.start_soon(cut, at)
    return ended


def check(answer: Answer, fault: str, at: int, got: int, info: StreamInfo, payload: bytes) -> None:
    kept, events, outcome, detail = answer.ended(got, fault)
    assert info.seal is not None
    assert (info.seal.outcome, info.seal.detail) == (outcome, detail), at
    assert (payload, info.tail, info.events) == (b"".join(answer.events)[:kept], kept, events), at


@pytest.mark.timeout(DEADLINE_S + 10)
@pytest.mark.parametrize(("fault", "anyio_backend"), [("fin", "asyncio"), ("rst", "trio")])
@pytest.mark.parametrize("name", WHOLE)
async def test_a_connection_that_ends_at_any_byte(name: str, fault: str, anyio_backend: str) -> None:
    """Cut at each byte of the body as it is on the wire, its framing included. It is `completed` as soon as the
    terminal event is whole, or, where there is none, once the framing says that this was all. One loop a fault: there
    are 2000 calls in each."""
    answer = WHOLE[name]
    size = sum(len(chunk(event)) for event in answer.events) + len(b"0\r\n\r\n")
    assert 1800 < size < 2600
    assert (b"\r\n\r\n" in answer.events[0]) is (name == "gemini")
    for at, (info, payload) in (await all_ends(answer, fault, range(size + 1))).items():
        check(answer, "clean" if at == size else fault, at, came(answer.events, at), info, payload)


@pytest.mark.timeout(DEADLINE_S + 10)
@pytest.mark.parametrize(("fault", "anyio_backend"), [("fin", "trio"), ("clean", "asyncio")])
@pytest.mark.parametrize("name", [*WHOLE, *OTHERS])
async def test_an_answer_that_ends_within_its_last_events(name: str, fault: str, anyio_backend: str) -> None:
    """Also where the framing says that this was all, as gateways do that lost their own upstream."""
    answer = {**WHOLE, **OTHERS}[name]
    size = sum(map(len, answer.events))
    begun = sum(len(chunk(event)) for event in answer.events[:-2])
    wire = begun + sum(len(chunk(event)) for event in answer.events[-2:])
    places = range(answer.cut_from, size + 1) if fault == "clean" else range(begun, wire + 1)
    for at, (info, payload) in (await all_ends(answer, fault, places)).items():
        check(answer, fault, at, at if fault == "clean" else came(answer.events, at), info, payload)
