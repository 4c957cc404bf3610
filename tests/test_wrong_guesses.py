"""Answers at a path that ends like a provider's, in a grammar that is not that provider's: not a byte is added or lost,
for who reads along, who comes late, and after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from resumestream import Policy, Upstream
from resumestream.model import Attempt, Head, Outcome
from resumestream.stores import MemoryStore
from resumestream.testing import Script, ScriptedProvider

from .fakes import new_stream, running
from .test_cut_answers import http_1_0
from .wire import BODY, Client, Reply, served

SSE, NDJSON = "text/event-stream", "application/x-ndjson"
EVENTS = b"".join(b'event: tick\ndata: {"n":%d}\n\n' % number for number in range(5))
LINES = b"".join(b'{"n":%d}\n' % number for number in range(5))
TOLD = b'data: {"message_type":"message"}\n\ndata: {"message_type":"stop_reason"}\n\ndata: [DONE]\n\n'
UI = b'data: {"type":"start"}\n\ndata: {"type":"finish"}\n\ndata: [DONE]\n\n'
SSE_PATHS = [
    "/v1/messages",
    "/v1/responses",
    "/completions",
    "/interactions",
    "/x:streamGenerateContent",
    "/runs/stream",
]
KEYS = map(str, count())
OWN = {"authorization": "Bearer operator"}


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


@pytest.fixture(scope="module", params=["uvicorn", "hypercorn-trio"])
def client(request: pytest.FixtureRequest, provider: ScriptedProvider) -> Iterator[Client]:
    """On asyncio and on trio."""
    upstreams = {
        "app": provider.url,
        "sure": Upstream(provider.url, dialect="anthropic"),
        "two": Upstream(provider.url, fallbacks=["gone"], failover="segment"),
        "gone": Upstream("http://127.0.0.1:1", headers=OWN),
    }
    policy = Policy(drain_s=0, settle_s=0.05, keepalive_s=0.1)
    with served(provider, policy=policy, server=request.param, upstreams=upstreams) as client:
        yield client


def script(body: bytes, content_type: str = SSE, **more: object) -> Script:
    headers = {"content-type": content_type, **more.pop("headers", {})}  # type: ignore[dict-item]
    return Script(body=body, headers=headers, **more)  # type: ignore[arg-type]


def post(client: Client, path: str, key: str, **headers: str) -> Reply:
    return client.ask("POST", path, BODY, idempotency_key=key, **headers)


ANSWERS = [
    *((path, EVENTS, SSE) for path in SSE_PATHS),
    *((path, LINES, NDJSON) for path in ("/api/chat", "/api/generate")),
    ("/v1/agents/a/messages", TOLD, SSE),
    ("/api/messages", UI, SSE),
]


@pytest.mark.parametrize("delay_s", [0.0, 0.02])
@pytest.mark.parametrize(("path", "body", "content_type"), ANSWERS)
def test_what_came_whole_stays_whole(
    client: Client, provider: ScriptedProvider, path: str, body: bytes, content_type: str, delay_s: float
) -> None:
    """Byte for byte, live and late."""
    key = next(KEYS)
    provider.script(script(body, content_type, delay_s=delay_s))
    for _ in range(2):
        reply = post(client, f"/app{path}", key)
        assert (reply.status, reply.cut, reply.body) == (200, False, body)
    info = client.get(f"/streams/{reply.stream}/info").json
    assert (info["outcome"], info["detail"]["code"], info["dialect"]) == ("completed", "framed_end", "unknown")


@pytest.mark.parametrize("path", SSE_PATHS)
def test_a_cut_one_breaks(client: Client, provider: ScriptedProvider, path: str) -> None:
    """As events of nobody's do: no error of a grammar that its reader does not know is put behind it."""
    key, kept = next(KEYS), EVENTS.index(b'event: tick\ndata: {"n":3}')
    provider.script(script(EVENTS, fault="fin", at_byte=kept + 9, delay_s=0.02))
    for _ in range(2):
        reply = post(client, f"/app{path}", key)
        assert (reply.status, reply.cut, reply.body) == (200, True, EVENTS[:kept])
    assert client.get(f"/streams/{reply.stream}/info").json["outcome"] == "truncated"
    assert http_1_0(client, f"/app{path}", key).split()[1] == b"505"


def test_http_1_0_sees_the_failure(client: Client, provider: ScriptedProvider) -> None:
    """Of an answer that turned out foreign while it was read: there a broken body would look whole."""
    kept = EVENTS.index(b'event: tick\ndata: {"n":3}')
    provider.script(script(EVENTS, fault="fin", at_byte=kept + 9, delay_s=0.2))
    answer = http_1_0(client, "/app/v1/messages", next(KEYS))
    assert answer.split()[1] == b"200"
    assert b'{"n":2}' in answer
    assert b"event: error\n" in answer


def test_lines_that_were_cut_are_a_502_later(client: Client, provider: ScriptedProvider) -> None:
    """Whole lines first, and then a broken body."""
    key, kept = next(KEYS), LINES.index(b'{"n":3}')
    provider.script(script(LINES, NDJSON, chunking=(8,), delay_s=0.1, fault="fin", at_byte=kept + 3))
    first = post(client, "/app/api/chat", key)
    assert (first.status, first.cut, first.body) == (200, True, LINES[:kept])
    assert post(client, "/app/api/chat", key).status == 502


@pytest.mark.parametrize("path", SSE_PATHS)
def test_no_keepalive_comes_between(client: Client, provider: ScriptedProvider, path: str) -> None:
    """Nobody knows what its reader takes; the first event tells, and is enough."""
    first = EVENTS.index(b"\n\n") + 2
    provider.script(script(EVENTS, hold_at=1))
    reading = client.open("POST", f"/app{path}", BODY, idempotency_key=next(KEYS))
    assert reading.read(first) == EVENTS[:first]
    provider.script(Script(tokens=5, hold_at=1))
    known = client.open("POST", "/app/v1/messages", BODY)
    body = b""
    while body.count(b":\n") < 3 or not body.endswith(b"\n:\n"):  # which tell the time
        body += known.read(1)
    provider.release()
    assert reading.rest().body == EVENTS[first:]
    assert known.rest().body


def test_a_dead_segment_breaks_as_well(client: Client, provider: ScriptedProvider) -> None:
    """Though the call that was to follow it never came to an answer."""
    key, kept = next(KEYS), EVENTS.index(b'event: tick\ndata: {"n":3}')
    provider.script(script(EVENTS, fault="fin", at_byte=kept + 9, delay_s=0.02))
    for _ in range(2):
        reply = post(client, "/two/v1/messages", key)
        assert (reply.status, reply.cut, reply.body) == (200, True, EVENTS[:kept])
    attempts = client.get(f"/streams/{reply.stream}/info").json["attempts"]
    assert [attempt["upstream"] for attempt in attempts] == ["two", "gone"]


def test_the_header_is_believed(client: Client, provider: ScriptedProvider) -> None:
    """It says who speaks, so a cut answer gets that grammar's error."""
    key = next(KEYS)
    headers = {"x-vercel-ai-ui-message-stream": "v1"}
    provider.script(script(UI, headers=headers, fault="fin", at_byte=UI.index(b"data: [DONE]") - 5, delay_s=0.02))
    for _ in range(2):
        reply = post(client, "/app/api/messages", key)
        assert not reply.cut
        assert b'data: {"type":"error","errorText":"' in reply.body


def test_what_was_configured_is_no_guess(client: Client, provider: ScriptedProvider) -> None:
    """Whoever configures a grammar gets its failures, whatever came."""
    provider.script(script(EVENTS))
    reply = post(client, "/sure/v1/messages", next(KEYS))
    assert reply.body.startswith(EVENTS + b"event: error\n")
    assert client.get(f"/streams/{reply.stream}/info").json["detail"]["code"] == "no_terminal_event"


@pytest.mark.anyio
@pytest.mark.parametrize("in_flight", [False, True])
@pytest.mark.parametrize("body", [EVENTS, EVENTS * 30_000], ids=["short", "long"])
async def test_the_log_tells_who_seals_it_after_a_crash(body: bytes, in_flight: bool) -> None:
    """From its first event on; also where another call was made, of which nobody got anything."""
    store = MemoryStore()
    async with store:
        new = new_stream(store.now, dialect="anthropic", dialect_guessed=True)
        lease = await store.create(new)
        first = Attempt("a", store.now(), 200)
        await store.begin(lease, first, Head(200, (("content-type", SSE),)))
        await store.append(lease, 0, body, body.count(b"\n\n"))
        if in_flight:
            await store.begin(lease, Attempt("b", store.now()), None, after=(first,))
        async with running(store) as hub:
            info = await hub.stat(new.id)
            assert info.seal is not None
            assert (info.seal.outcome, info.seal.foreign) == (Outcome.INTERRUPTED, True)
