"""What was cut short never looks whole: under every server, in every app, for the first caller and the last."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from itertools import count, product
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from resumestream import Policy, ResumeStream
from resumestream.testing import Script, ScriptedProvider, running

from .asgi import Passing
from .wire import BODY, CHAT, Client, Reply

SERVERS = ["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"]
TOKENS, EVENTS = 5, 3
SSE = b"".join(b'event: tick\ndata: {"n":%d}\n\n' % number for number in range(TOKENS))
LINES = b"".join(b'{"n":%d}\n' % number for number in range(TOKENS))
KEYS = map(str, count())


def bare(streams: ResumeStream) -> ASGIApp:
    """`wrap`, and an app that knows of nothing."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/drain":
            await streams.drain()
        await PlainTextResponse("done")(scope, receive, send)

    return streams.wrap(app, "/llm")


def layered(app: Starlette, streams: ResumeStream) -> ASGIApp:
    """`install` first, and what would hide a cut around it after."""

    async def drain(request: Request) -> Response:
        await streams.drain()
        return PlainTextResponse("done")

    app.add_route("/drain", drain)
    app.add_middleware(Passing)
    streams.install(app, "/llm")
    app.add_middleware(GZipMiddleware, minimum_size=1)
    app.add_middleware(Passing)
    return app


APPS: dict[str, Any] = {
    "bare": bare,
    "fastapi": lambda streams: layered(FastAPI(), streams),
    "starlette": lambda streams: layered(Starlette(), streams),
}


def build(kind: str, provider: ScriptedProvider, drain_s: float = 0) -> ASGIApp:
    streams = ResumeStream("memory:", {"openai": provider.url}, Policy(drain_s=drain_s))
    app: ASGIApp = APPS[kind](streams)
    return app


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=TOKENS)) as provider:
        yield provider


@pytest.fixture(scope="module", params=product(SERVERS, APPS), ids="-".join)
def client(request: pytest.FixtureRequest, provider: ScriptedProvider) -> Iterator[Client]:
    server, kind = request.param
    with running(build(kind, provider), server=server) as url:
        yield Client(url + "/llm")


def post(client: Client, path: str = CHAT, **headers: str) -> Reply:
    return client.ask("POST", path, BODY, **headers)


def sent(provider: ScriptedProvider) -> bytes:
    """The body bytes of the latest call: whole events, here."""
    return provider.sent(provider.ledger()[-1].number)


def ended_as(client: Client, stream: str) -> str:
    head = client.ask("HEAD", f"/streams/{stream}")
    assert head.headers["stream-state"] == "sealed"
    return head.headers["stream-outcome"]


# --- a known dialect: the failure is in the stream ----------------------------------------------------------------


@pytest.mark.parametrize("fault", ["fin", "rst", "clean"])
def test_a_known_dialect_gets_the_partial_and_an_error(client: Client, provider: ScriptedProvider, fault: Any) -> None:
    """As the provider itself would put it, then a clean end; the same for whoever comes later."""
    key = next(KEYS)
    provider.script(Script(tokens=TOKENS, fault=fault, at_event=EVENTS))
    first, late = post(client, idempotency_key=key), post(client, idempotency_key=key)
    partial = sent(provider)
    for reply in (first, late):
        assert (reply.status, reply.cut) == (200, False)
        assert reply.body.startswith(partial)
        frame = reply.body.removeprefix(partial)
        error = json.loads(frame.removeprefix(b"data: "))["error"]
        assert error["code"] == "truncated"
        assert f"Stream-Retry: {first.stream}" in error["message"]
    assert partial.count(b"\n\n") == EVENTS
    assert late.headers["stream-outcome"] == "truncated"
    assert late.headers["idempotent-replayed"] == "true"
    assert ended_as(client, first.stream) == "truncated"
    page = client.get(f"/streams/{first.stream}")
    assert (page.body, page.cut, page.headers["stream-outcome"]) == (partial, False, "truncated")


@pytest.mark.parametrize("fault", ["fin", "rst", "clean"])
def test_exact_bytes_are_cut_instead(client: Client, provider: ScriptedProvider, fault: Any) -> None:
    """`Stream-Exact`, and a start at an offset, take nothing that is not the provider's: so the body breaks."""
    key = next(KEYS)
    provider.script(Script(tokens=TOKENS, fault=fault, at_event=EVENTS))
    first = post(client, idempotency_key=key, stream_exact="true")
    late = post(client, idempotency_key=key, stream_exact="true")
    partial = sent(provider)
    assert (first.cut, first.body) == (late.cut, late.body) == (True, partial)
    at = partial.index(b"\n\n") + 2
    offset = post(client, idempotency_key=key, stream_offset=str(at))
    assert (offset.cut, offset.body) == (True, partial[at:])
    tail = client.get(f"/streams/{first.stream}?live=tail")
    assert (tail.cut, tail.body) == (True, partial)


# --- no dialect: the body breaks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("fault", ["fin", "rst"])
def test_events_of_no_known_dialect_are_cut(
    client: Client, provider: ScriptedProvider, fault: Any, framing: Any
) -> None:
    """For the first caller and for the last; a half event is nobody's."""
    key, whole = next(KEYS), SSE.index(b'"n":3') - len(b"event: tick\ndata: {")
    provider.script(
        Script(body=SSE, headers={"content-type": "text/event-stream"}, fault=fault, at_byte=whole + 9, framing=framing)
    )
    first = post(client, "/openai/v1/events", idempotency_key=key)
    late = post(client, "/openai/v1/events", idempotency_key=key)
    assert (first.cut, first.body) == (late.cut, late.body) == (True, SSE[:whole])
    assert (first.status, late.status, late.headers["stream-outcome"]) == (200, 200, "truncated")
    assert ended_as(client, first.stream) == "truncated"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("fault", ["fin", "rst"])
def test_lines_are_cut_and_then_a_502(client: Client, provider: ScriptedProvider, fault: Any, encoding: str) -> None:
    """NDJSON cannot say that it is a part: a late caller gets a status that does, and finds the partial by id."""
    key = next(KEYS)
    headers = {"content-type": "application/x-ndjson"}
    provider.script(Script(body=LINES, headers=headers, fault=fault, at_byte=20, framing="chunked"))
    first = post(client, "/openai/v1/lines", idempotency_key=key, accept_encoding=encoding)
    late = post(client, "/openai/v1/lines", idempotency_key=key)
    # Where the fault was known before the first caller's status line, that line says so as well.
    assert (first.status, first.cut) in ((200, True), (502, False))
    assert first.status == 502 or encoding == "gzip" or first.body == LINES[:20]
    assert (late.status, late.cut) == (502, False)
    assert late.json["outcome"] == late.headers["stream-outcome"] == "truncated"
    assert late.headers["x-should-retry"] == "false"
    assert ended_as(client, first.stream) == "truncated"
    assert client.get(late.headers["location"].removeprefix("/llm")).body == LINES[:20]
    assert client.get(f"/streams/{first.stream}?live=tail").cut


def test_what_came_whole_stays_whole(client: Client, provider: ScriptedProvider) -> None:
    """All of the above would also pass if every answer were cut."""
    for path, script in (
        (CHAT, Script(tokens=TOKENS)),
        ("/openai/v1/events", Script(body=SSE, headers={"content-type": "text/event-stream"})),
        ("/openai/v1/events", Script(body=SSE, headers={"content-type": "text/event-stream"}, fault="clean")),
        ("/openai/v1/lines", Script(body=LINES, headers={"content-type": "application/x-ndjson"})),
    ):
        key = next(KEYS)
        provider.script(script)
        for _ in range(2):
            reply = post(client, path, idempotency_key=key, accept_encoding="identity")
            assert (reply.status, reply.cut, reply.body) == (200, False, sent(provider))
        assert ended_as(client, reply.stream) == "completed"


def test_an_unrecorded_answer_is_cut_as_well(client: Client, provider: ScriptedProvider) -> None:
    """A GET goes straight through, and breaks as it broke."""
    headers = {"content-type": "application/json"}
    provider.script(Script(body=LINES, headers=headers, fault="fin", at_byte=20, framing="chunked"))
    reply = client.get("/openai/v1/files/1/content")
    assert (reply.status, reply.cut, reply.body) == (200, True, LINES[:20])


# --- HTTP/1.0 -----------------------------------------------------------------------------------------------------


def http_1_0(client: Client, path: str, key: str, *lines: str) -> bytes:
    """The whole answer to a POST, up to the end of the connection."""
    host, _, port = client.base.removeprefix("http://").removesuffix("/llm").partition(":")
    body = json.dumps(BODY).encode()
    head = [f"POST /llm{path} HTTP/1.0", "host: localhost", "authorization: Bearer test", f"idempotency-key: {key}"]
    head += [f"content-length: {len(body)}", "content-type: application/json", *lines, "", ""]
    with socket.create_connection((host, int(port)), 10) as sock:
        sock.sendall("\r\n".join(head).encode() + body)
        with sock.makefile("rb") as answer:
            return answer.read()


def test_http_1_0_gets_no_answer_that_it_could_mistake(client: Client, provider: ScriptedProvider) -> None:
    """There a broken body looks whole: 505, unless the failure can be said in the stream."""
    provider.script(Script(body=SSE, headers={"content-type": "text/event-stream"}, hold_at=1))
    refused = http_1_0(client, "/openai/v1/events", next(KEYS))
    provider.release()
    assert refused.split()[1] == b"505"
    assert b"proxy_http_version 1.1" in refused

    key = next(KEYS)
    provider.script(Script(tokens=TOKENS, fault="fin", at_event=EVENTS))
    known = http_1_0(client, CHAT, key)
    assert known.split()[1] == b"200"
    assert b'"code":"truncated"' in known.replace(b'": "', b'":"')
    assert http_1_0(client, CHAT, key, "stream-exact: true").split()[1] == b"505"


# --- the end of the server ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bare", "starlette"])
@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_goes_down_cuts_its_readers(server: Any, kind: str) -> None:
    """`streams.drain()`, at once: no reader takes what it has for the whole, and an EventSource is told to come back;
    the provider's answer is drained to its end meanwhile."""
    with (
        ScriptedProvider(default=Script(tokens=TOKENS, hold_at=EVENTS)) as provider,
        running(build(kind, provider, drain_s=10), server=server) as url,
    ):
        client, host = Client(url + "/llm"), Client(url)
        live = client.open("POST", CHAT, BODY, idempotency_key="k")
        stream = live.headers["stream-id"]
        readers = [live, client.open("POST", CHAT, BODY, idempotency_key="k")]
        readers.append(client.open("GET", f"/streams/{stream}?live=tail"))
        events = client.open("GET", f"/streams/{stream}?live=events")
        provider.wait_for(lambda calls: any(call.held for call in calls))
        whole = sent(provider)
        for reader in readers:
            assert reader.read(len(whole)) == whole
        done = threading.Thread(target=host.get, args=["/drain"])
        done.start()
        for reader in readers:
            rest = reader.rest()
            assert (rest.cut, rest.body) == (True, b"")
        end = events.rest()
        assert not end.cut
        assert end.body.endswith(b"retry: 1000\n\n")
        assert client.post("k2").status == 503
        provider.release()
        done.join(10)
        assert ended_as(client, stream) == "completed"
