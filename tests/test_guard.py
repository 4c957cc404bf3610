"""A cut answer stays cut: on every server, under any middleware, seen by a real client."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import anyio
import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resumestream.errors import VersionUnsupported
from resumestream.http.guard import Guard, GuardCheck, cut, finishing, require_cuttable
from resumestream.testing.running import running

from .asgi import Passing

Connect = Callable[[], HTTPConnection]
CHUNK = b"data: {}\n\n" * 100


# --- the application that the servers below serve


async def faces(scope: Scope, receive: Receive, send: Send) -> None:
    """`/<stack>/<answer>`: answers that are cut, one that is whole, and one that wants to be cuttable."""
    answer = scope["path"].rpartition("/")[2]
    headers = [(b"content-type", b"text/plain" if answer == "text" else b"text/event-stream")]
    if answer == "sized":
        headers.append((b"content-length", b"%d" % (len(CHUNK) + 1)))
    status = 200
    if answer == "live":
        try:
            require_cuttable(scope)
        except VersionUnsupported as error:
            status = error.status
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if answer != "empty":
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    if answer in ("whole", "live"):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    else:
        cut(scope)


class Collecting(BaseHTTPMiddleware):
    """Collects the body and sends it in one piece, counted."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response: Any = await call_next(request)
        body = b"".join([chunk async for chunk in response.body_iterator])
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return Response(body, response.status_code, headers)


class Counting:
    """Collects the body and sends it counted, and ends it apart."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self.inner(scope, receive, collect)
        start, *rest = messages
        body = b"".join(message["body"] for message in rest)
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


STACKS: dict[str, ASGIApp] = {
    "bare": Guard(faces),
    "nested": Guard(Passing(Guard(faces))),
    "two": Guard(Passing(Passing(faces))),
    "gzip-inside": Guard(Passing(Passing(GZipMiddleware(faces)))),
    "gzip-outside": Guard(GZipMiddleware(Passing(Passing(faces)))),
    "collecting": Guard(Collecting(faces)),
    "counting": Guard(Counting(faces)),
    "unguarded": Passing(faces),
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await STACKS[scope["path"].split("/")[1]](scope, receive, send)


# --- served


@pytest.fixture(scope="module", params=["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"])
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    """`host:port` of the application above on a real server."""
    with running(app, server=request.param, lifespan=False) as url:
        yield url.removeprefix("http://")


@pytest.fixture
def connect(served: str) -> Iterator[Callable[[], HTTPConnection]]:
    """Makes connections, and closes them in the end."""
    with contextlib.ExitStack() as stack:

        def connect() -> HTTPConnection:
            connection = HTTPConnection(served, timeout=10)
            stack.callback(connection.close)
            return connection

        yield connect


def get(connection: HTTPConnection, path: str, **headers: str) -> tuple[bool, bytes]:
    """Whether the answer came whole, and its body. Granian answers 500 where not one body byte was sent."""
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    try:
        return response.status < 500, response.read()
    except IncompleteRead as broken:
        return False, broken.partial


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("answer", ["cut", "text", "empty", "sized"])
@pytest.mark.parametrize("stack", [name for name in STACKS if name != "unguarded"])
def test_a_cut_answer_is_broken(connect: Connect, stack: str, answer: str, encoding: str) -> None:
    """Whatever lies between guard and app, the client sees an answer that is not whole."""
    whole, _ = get(connect(), f"/{stack}/{answer}", **{"accept-encoding": encoding})
    assert not whole


@pytest.mark.parametrize("stack", ["bare", "nested", "two", "gzip-inside", "gzip-outside"])
def test_what_was_sent_before_the_cut_arrives(connect: Connect, stack: str) -> None:
    """The partial is the reader's; the guard takes only the end."""
    assert get(connect(), f"/{stack}/cut") == (False, CHUNK)


def test_without_the_guard_a_middleware_makes_it_look_whole(connect: Connect) -> None:
    """The reason for all this."""
    assert get(connect(), "/unguarded/cut") == (True, CHUNK)


@pytest.mark.parametrize("stack", list(STACKS))
def test_a_whole_answer_stays_whole(connect: Connect, stack: str) -> None:
    """Marks belong to one answer, not to the guard."""
    get(connect(), f"/{stack}/cut")
    assert get(connect(), f"/{stack}/whole") == (True, CHUNK)


def test_a_cut_concerns_its_own_connection_only(connect: Connect) -> None:
    """A neighbour's kept-alive connection goes on; the cut one had been kept alive as well."""
    neighbour, victim = connect(), connect()
    for connection in (neighbour, victim):
        assert get(connection, "/two/whole") == (True, CHUNK)
    kept = neighbour.sock
    assert get(victim, "/two/cut") == (False, CHUNK)
    assert get(neighbour, "/two/whole") == (True, CHUNK)
    assert neighbour.sock is kept


def test_a_cut_makes_no_traceback(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """It is the working of the thing, not an error of the application."""
    get(connect(), "/two/cut")
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(("version", "status"), [("HTTP/1.1", 200), ("HTTP/1.0", 505)])
def test_http_1_0_is_told_apart(served: str, version: str, status: int) -> None:
    """Where a cut could not be seen, a live answer is refused; servers spell the version differently."""
    host, port = served.split(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(f"GET /bare/live {version}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        with client.makefile("rb") as answer:
            assert f" {status} ".encode() in answer.readline()


# --- the guard alone


async def call(app: ASGIApp, scope: Scope) -> list[Message]:
    """What `app` sends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing to receive")

    with anyio.fail_after(5):
        await app(scope, receive, send)
    return sent


def http_scope(version: str = "1.1") -> Scope:
    return {"type": "http", "http_version": version, "path": "/bare/cut", "headers": []}


@pytest.mark.anyio
async def test_only_the_end_is_withheld() -> None:
    """Start and bytes pass as they were sent; trailers end a body as well."""

    async def trailing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        cut(scope)
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await send({"type": "http.response.body", "body": b"2"})
        await send({"type": "http.response.trailers", "headers": []})

    assert [message.get("body") for message in await call(Guard(trailing), http_scope())] == [None, b"1"]


@pytest.mark.anyio
@pytest.mark.parametrize(("version", "kept"), [("1.1", []), ("2", []), ("1.0", [(b"Content-Length", b"9")])])
async def test_a_length_counted_from_a_cut_answer_goes(version: str, kept: list[tuple[bytes, bytes]]) -> None:
    """Except on HTTP/1.0, where the length, never reached, is the only sign."""

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        cut(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"9")]})
        await send({"type": "http.response.body", "body": b"x" * 9})

    (start,) = await call(Guard(late), http_scope(version))
    assert start["headers"] == kept


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_other_scopes_pass_untouched(kind: str) -> None:
    """The guard is about HTTP answers alone."""
    scope: Scope = {"type": kind}
    seen: list[Scope] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": f"{kind}.close"})

    assert await call(Guard(inner), scope) == [{"type": f"{kind}.close"}]
    assert seen[0] is scope
    cut(scope)  # without a guard: nothing to mark


@pytest.mark.anyio
async def test_a_missing_guard_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """At the first request without one, however many come with one before."""
    check = GuardCheck()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        check(dict(scope))

    for app, said in ((Guard(inner), 0), (inner, 1), (inner, 1), (Guard(inner), 1)):
        await call(app, http_scope())
        assert len(caplog.records) == said
    assert "without its guard" in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize(("more_body", "taken"), [(True, False), (False, True)])
async def test_only_the_final_message_is_safe_from_cancellation(more_body: bool, taken: bool) -> None:
    """A server that tells of the disconnect from within the last send is let finish it; a reader that left is not."""
    told, done = anyio.Event(), list[bool]()

    async def send(message: Message) -> None:
        told.set()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        done.append(True)

    message = {"type": "http.response.body", "body": b"x", "more_body": more_body}
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finishing(http_scope(), send, 60), message)
            await told.wait()
            tasks.cancel_scope.cancel()
    assert bool(done) == taken


@pytest.mark.anyio
async def test_a_final_message_that_nobody_takes_is_a_cut() -> None:
    """Or a middleware would end the answer cleanly, without it."""

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        async def never(message: Message) -> None:
            await anyio.sleep_forever()

        await finishing(scope, never, 0.01)({"type": "http.response.body", "body": b"the end"})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert [message["type"] for message in await call(Guard(inner), http_scope())] == ["http.response.start"]
