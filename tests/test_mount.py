"""Wherever the faces are mounted: `Location` leads back to them, and paths reach the provider as they were written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any
from urllib.parse import unquote

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from resumestream import Policy, Principal, ResumeStream, Upstream, anyone
from resumestream.http.lifespan import WithLifespan
from resumestream.http.mount import split
from resumestream.testing import Script, ScriptedProvider, running

from .asgi import Callers, calling
from .own import ME, Talk, data
from .raw_client import Raw
from .wire import CHAT

BEARER: dict[str, Any] = {"authorization": "Bearer test"}


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=2)) as provider:
        yield provider


@pytest.fixture(autouse=True)
def fresh(provider: ScriptedProvider) -> None:
    provider.reset()


def resume_stream(provider: ScriptedProvider, **more: Any) -> ResumeStream:
    return ResumeStream("memory:", {"openai": provider.url}, Policy(drain_s=0), more.pop("authorize", as_me), **more)


async def as_me(conn: HTTPConnection, action: str) -> Principal:
    return Principal(ME)


@asynccontextmanager
async def served(app: ASGIApp, streams: ResumeStream) -> AsyncIterator[Callers]:
    """Requests to an app that says nothing of its lifespan here: streams are started beside it."""
    with anyio.fail_after(10):
        async with streams, calling(app) as callers:
            yield callers


# --- arrangements: an app with faces and endpoints, and where a caller finds them -----------------------------------


def endpoint(streams: ResumeStream) -> Route:
    async def chat(request: Request) -> Response:
        return await streams.response(key=request.url.path, source=Talk(*data(1), None), request=request)

    return Route("/chat", chat)


def installed(streams: ResumeStream) -> tuple[ASGIApp, str, list[str]]:
    app = FastAPI(routes=[endpoint(streams), Mount("/sub", routes=[Mount("/sub", routes=[endpoint(streams)])])])
    streams.install(app, "/llm")
    return app, "/llm", ["/chat", "/sub/sub/chat"]


def installed_at_the_root(streams: ResumeStream) -> tuple[ASGIApp, str, list[str]]:
    app = Starlette(routes=[endpoint(streams)])
    streams.install(app, "/")
    return app, "", ["/chat"]


def installed_in_a_sub_app(streams: ResumeStream) -> tuple[ASGIApp, str, list[str]]:
    inner = Starlette(routes=[endpoint(streams)])
    streams.install(inner, "/llm")
    middle = FastAPI(routes=[Mount("/v 1", inner)])
    return Starlette(routes=[Mount("/api", middle)]), "/api/v%201/llm", ["/api/v%201/chat"]


def mounted_by_hand(streams: ResumeStream) -> tuple[ASGIApp, str, list[str]]:
    inner = FastAPI(routes=[Mount("/llm", streams.asgi)])
    return Starlette(routes=[Mount("/a", Mount("/b", inner))]), "/a/b/llm", []


def wrapped(streams: ResumeStream) -> tuple[ASGIApp, str, list[str]]:
    app = Starlette(routes=[endpoint(streams), Mount("/sub", routes=[endpoint(streams)])])
    return streams.wrap(app, "/a/llm/"), "/a/llm", ["/chat", "/sub/chat"]


def wrapped_at_the_root(streams: ResumeStream) -> tuple[ASGIApp, str, list[str]]:
    return streams.wrap(PlainTextResponse("never"), "/"), "", []


# --- fronts: what lies between a caller's URL and the app's scope ---------------------------------------------------


def direct(app: ASGIApp) -> tuple[ASGIApp, str]:
    return app, ""


def uvicorn_root_path(app: ASGIApp) -> tuple[ASGIApp, str]:
    """`--root-path /x` behind a proxy that cuts it off: uvicorn puts it back into the path."""

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/x"}, receive, send)

    return front, "/x"


def hypercorn_root_path(app: ASGIApp) -> tuple[ASGIApp, str]:
    """The same under hypercorn, or with `FastAPI(root_path="/x")`: the path stays without it."""

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["raw_path"].removeprefix(b"/x")
        await app({**scope, "root_path": "/x", "path": unquote(raw.decode()), "raw_path": raw}, receive, send)

    return front, "/x"


def rewriting(app: ASGIApp) -> tuple[ASGIApp, str]:
    """A middleware of the host that cuts a prefix off the path, and forgets `raw_path`."""

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/x", "path": scope["path"].removeprefix("/x")}, receive, send)

    return front, "/x"


def stripping(app: ASGIApp) -> tuple[ASGIApp, str]:
    """A proxy that cuts a prefix off and tells nobody: that is what `public_path` is for."""

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["raw_path"].removeprefix(b"/y")
        await app({**scope, "path": unquote(raw.decode()), "raw_path": raw}, receive, send)

    return front, "/y"


AT_THE_TOP = [installed, installed_at_the_root, wrapped, wrapped_at_the_root]
NESTED = [installed_in_a_sub_app, mounted_by_hand]
WHOLE_PATH = [direct, uvicorn_root_path, stripping]
SHORT_PATH = [hypercorn_root_path, rewriting]
"""Here Starlette itself finds no routes of sub-apps."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arrange", "front"),
    [*product([*AT_THE_TOP, *NESTED], WHOLE_PATH), *product(AT_THE_TOP, SHORT_PATH)],
)
async def test_location_leads_back(arrange: Any, front: Any, provider: ScriptedProvider) -> None:
    """From the gateway, from endpoints of the host's own, and from refusals: each can be followed as it is."""
    public = arrange(resume_stream(provider))[1]
    streams = resume_stream(provider, public_path=f"/y{public}" if front is stripping else None)
    inner, at, endpoints = arrange(streams)
    app, prefix = front(inner)
    async with served(app, streams) as callers:
        reply = await callers.post(f"{prefix}{at}{CHAT}", idempotency_key="k")
        accepted = await callers.post(f"{prefix}{at}{CHAT}", idempotency_key="k", prefer="respond-async")
        reused = await callers.post(f"{prefix}{at}{CHAT}", b"{}", idempotency_key="k")
        reachable = [path for path in endpoints if front in WHOLE_PATH or not path.startswith("/sub")]
        own = [await callers.get(f"{prefix}{path}") for path in reachable]
        assert [answer.status for answer in (reply, accepted, reused)] == [200, 202, 422]
        for answer in (reply, accepted, reused, *own):
            location = answer.headers["location"]
            assert location.startswith(f"{prefix}{at}/streams/{answer.headers['stream-id']}")
            followed = await callers.get(location.partition("?")[0])
            assert followed.status == 200
            assert followed.body == (answer.body if answer in own else reply.body)
            assert (await callers.get(location)).status == 200
    assert len(provider.ledger()) == 1


@pytest.mark.anyio
async def test_an_endpoint_that_knows_no_mount_point_gives_no_location(provider: ScriptedProvider) -> None:
    """Rather than a wrong one: where the faces were mounted by hand, `public_path` says it."""
    for public_path, location in ((None, None), ("/llm", "/llm/streams/")):
        streams = resume_stream(provider, public_path=public_path)
        async with served(Starlette(routes=[endpoint(streams), Mount("/llm", streams.asgi)]), streams) as callers:
            reply = await callers.get("/chat")
        assert reply.status == 200
        assert location is None or reply.headers["location"].startswith(location)
        assert ("location" in reply.headers) == (location is not None)


# --- paths ------------------------------------------------------------------------------------------------------

ODD = "/v1/a%2Fb/c%20d/%E2%82%AC/%ff;p=1/@:$,+!'()*~/e?x=%2F&y=a+b&z"


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"])
@pytest.mark.parametrize("arrange", [installed, installed_in_a_sub_app, wrapped, wrapped_at_the_root])
def test_paths_reach_the_provider_byte_for_byte(arrange: Any, server: Any, provider: ScriptedProvider) -> None:
    """Percent-encoding, invalid UTF-8 and query included, on every server."""
    streams = resume_stream(provider)
    app, at, _ = arrange(streams)
    lifespan = app if arrange is not installed_in_a_sub_app else WithLifespan(app, lambda: streams)
    with running(lifespan, server=server) as url, Raw(url) as client:
        assert client.send(f"{at}/openai{ODD}", b"", method="GET").head()
    assert [call.path for call in provider.ledger()] == [ODD]


@pytest.mark.parametrize(
    ("root", "path", "raw", "first", "rest"),
    [
        ("", "/openai/v1", b"/openai/v1", "openai", b"/v1"),
        ("", "/openai", b"/openai", "openai", b""),
        ("", "/openai/", b"/openai/", "openai", b"/"),
        ("", "/", b"/", "", b""),
        ("", "", b"", "", b""),
        ("/llm", "/llm", b"/llm", "", b""),
        ("/llm", "/llm/", b"/llm/", "", b""),
        ("/llm/", "/llm/openai/v1", b"/llm/openai/v1", "openai", b"/v1"),
        ("/llm", "/llm/open ai/é", b"/llm/open%20ai/%C3%A9", "open ai", b"/%C3%A9"),
        ("/llm", "/llm/openai/a/b", b"/llm/openai/a%2Fb", "openai", b"/a%2Fb"),
        ("/llm", "/llm/openai/a/b", b"/llm/openai%2Fa/b", "openai/a", b"/b"),
        ("/llm", "/llm/openai/v1", b"/llm/openai/v1?x=/y", "openai", b"/v1"),
        ("/llm", "/llm/openai//x", b"/llm/openai//x", "openai", b"//x"),
        ("/llm", "/llm/openai/é x", None, "openai", b"/%C3%A9%20x"),
        ("/x/llm", "/llm/openai/v1", b"/llm/openai/v1", "openai", b"/v1"),
        ("/x/llm", "/openai/v1", b"/openai/v1", "openai", b"/v1"),
        ("/x/llm", "/llm/openai/v1", b"/x/llm/openai/v1", "openai", b"/v1"),
        ("/llm", "/llmx/openai", b"/llmx/openai", "llmx", b"/openai"),
        ("/a b/llm", "/a b/llm/openai/v1", b"/a%20b/llm/openai/v1", "openai", b"/v1"),
    ],
)
def test_the_path_is_split_below_the_mount_point(
    root: str, path: str, raw: bytes | None, first: str, rest: bytes
) -> None:
    """By what was written, not by what it decodes to."""
    scope: Scope = {"type": "http", "root_path": root, "path": path, "raw_path": raw}
    assert split(scope) == (first, rest)


@pytest.mark.anyio
async def test_a_mount_point_in_disguise_is_no_way_in(provider: ScriptedProvider) -> None:
    """`/llm%2Fopenai` decodes to the mount point for the host's router; what follows would be read one segment off."""
    streams = resume_stream(provider)
    app, _, _ = installed(streams)
    async with served(app, streams) as callers:
        for path in ("/llm%2Fstreams/openai/v1/models", "/llm%2Fopenai/v1/models", "/llm%2fopenai"):
            assert (await callers.get(path)).status == 404
        assert (await callers.get("/llm/%73treams")).status == 200
        assert (await callers.get("/llm/open%61i/v1/models")).status == 200
        assert (await callers.get("/llm/openai%2Fv1/models")).status == 404
        assert (await callers.get("/llm/openai/%2e%2E/models")).status == 400
    assert [call.path for call in provider.ledger()] == ["/v1/models"]


# --- what is not relayed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"])
@pytest.mark.parametrize("arrange", [installed, wrapped])
def test_websockets_and_upgrades_are_refused(arrange: Any, server: Any, provider: ScriptedProvider) -> None:
    """501, or where a server has no way to say that, its own refusal; nothing reaches the provider."""
    streams = resume_stream(provider)
    app, at, _ = arrange(streams)
    with running(app, server=server) as url:
        for upgrade, statuses in (
            ("websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", (501, 403)),
            ("tls/1.0", (501,)),
        ):
            with Raw(url) as client:
                client.send(f"{at}/openai/v1/realtime", b"", f"connection: upgrade\r\nupgrade: {upgrade}\r\n", "GET")
                assert int(client.head().split()[1]) in statuses
    assert provider.ledger() == []


@pytest.mark.anyio
async def test_options_is_answered_here(provider: ScriptedProvider) -> None:
    """Without CORS headers, so that no preflight succeeds by itself; nothing reaches the provider."""
    streams = resume_stream(provider)
    app, _, _ = installed(streams)
    async with served(app, streams) as callers:
        reply = await callers.get(
            "/llm" + CHAT, method="OPTIONS", origin="https://a.example", access_control_request_method="POST"
        )
    assert (reply.status, reply.body) == (204, b"")
    assert "POST" in reply.headers["allow"]
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert provider.ledger() == []


# --- who may ----------------------------------------------------------------------------------------------------

Ask = Callable[[Callers, str], Any]

ACTIONS = [
    ("create", "POST", "/llm" + CHAT, 401),
    ("create", "GET", "/llm/openai/v1/models", 401),
    ("create", "POST", "/llm/nothing/x", 401),
    ("list", "GET", "/llm/streams", 401),
    ("delete", "DELETE", "/llm/streams?label=a", 401),
    ("read", "GET", "/llm/streams/{id}", 404),
    ("read", "GET", "/llm/streams/{id}?live=tail", 404),
    ("read", "GET", "/llm/streams/{id}?offset=junk", 404),
    ("read", "HEAD", "/llm/streams/{id}", 404),
    ("read", "GET", "/llm/streams/{id}/info", 404),
    ("stop", "POST", "/llm/streams/{id}/cancel", 404),
    ("delete", "DELETE", "/llm/streams/{id}", 404),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("action", "method", "path", "refusal"), ACTIONS)
async def test_the_hook_is_asked_for_each_action(
    action: str, method: str, path: str, refusal: int, provider: ScriptedProvider
) -> None:
    """None is 401, and 404 where a single stream is named, which then looks like one that is not there."""
    asked: list[str] = []

    async def authorize(conn: HTTPConnection, action: str) -> Principal | None:
        asked.append(action)
        return Principal(ME) if "cookie" in conn.headers else None

    streams = resume_stream(provider, authorize=authorize)
    app, _, _ = installed(streams)
    async with served(app, streams) as callers:
        started = await callers.post("/llm" + CHAT, cookie="a=b")
        asked.clear()
        there = await callers.get(path.format(id=started.headers["stream-id"]), method=method)
        absent = await callers.get(path.format(id="x" * 24), method=method)
        assert asked == [action, action]
        admitted = await callers.get(path.format(id=started.headers["stream-id"]), method=method, cookie="a=b")
    assert there.status == absent.status == refusal
    if refusal == 404 and method != "HEAD":
        assert there.body.replace(started.headers["stream-id"].encode(), b"x" * 24) == absent.body
    assert admitted.status != refusal or "nothing" in path
    assert len(provider.ledger()) == 1 + (method == "POST" and "completions" in path) + ("models" in path)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/llm" + CHAT, "/llm/streams/x"])
async def test_what_the_hook_raises_is_the_hosts_to_answer(path: str, provider: ScriptedProvider) -> None:
    """An HTTPException becomes what it says, as anywhere in the host."""

    async def authorize(conn: HTTPConnection, action: str) -> Principal:
        raise HTTPException(418, "no coffee")

    streams = resume_stream(provider, authorize=authorize)
    app, _, _ = installed(streams)
    async with served(app, streams) as callers:
        reply = await callers.get(path)
    assert (reply.status, reply.json) == (418, {"detail": "no coffee"})


@pytest.mark.anyio
async def test_a_hook_that_returns_something_else_is_a_500_with_a_log(
    provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """`return True` is the natural mistake."""

    async def authorize(conn: HTTPConnection, action: str) -> Any:
        return True

    streams = resume_stream(provider, authorize=authorize)
    app, _, _ = installed(streams)
    async with served(app, streams) as callers:
        reply = await callers.post("/llm" + CHAT)
    assert reply.status == 500
    assert "must return a Principal" in caplog.text
    assert provider.ledger() == []


REMOTE: dict[str, Any] = {"peer": ("192.0.2.1", 5000)}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({}, 200),
        (BEARER, 200),
        (REMOTE, 403),
        ({**REMOTE, **BEARER}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"x_forwarded_for": "127.0.0.1"}, 403),
        ({"host": "evil.example"}, 403),
    ],
)
async def test_server_side_credentials_are_spent_by_this_machine_only(
    how: dict[str, Any], status: int, provider: ScriptedProvider
) -> None:
    """Unless `authorize` says otherwise; `anyone` is the explicit open choice. The caller's own never goes up."""
    upstream = Upstream(provider.url, headers={"authorization": "Bearer ours"})
    for authorize, expected in ((None, status), (anyone, 200)):
        streams = ResumeStream("memory:", {"openai": upstream}, Policy(drain_s=0), authorize)
        app, _, _ = installed(streams)
        async with served(app, streams) as callers:
            reply = await callers.post("/llm" + CHAT, **how)
            listed = await callers.get("/llm/streams", **how)
        assert reply.status == expected
        assert listed.status == expected
    assert {dict(call.headers)["authorization"] for call in provider.ledger()} == {"Bearer ours"}
    assert len(provider.ledger()) == (2 if status == 200 else 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "how",
    [
        {**REMOTE, **BEARER},
        {**BEARER, "origin": "https://evil.example"},
        {**BEARER, "x_forwarded_for": "127.0.0.1"},
        {**BEARER, "host": "evil.example"},
    ],
)
async def test_what_they_bought_is_read_on_this_machine_only(how: dict[str, Any], provider: ScriptedProvider) -> None:
    """The caller's own credential was checked by nobody, and `Bearer test` is easily guessed. A ticket is good
    anywhere, and so is a credential that the provider has checked."""
    ours = Upstream(provider.url, headers={"authorization": "Bearer ours"})
    streams = ResumeStream("memory:", {"openai": ours, "theirs": provider.url}, Policy(drain_s=0))
    app, _, _ = installed(streams)
    async with served(app, streams) as callers:
        stream = (await callers.post("/llm" + CHAT, **BEARER)).headers["stream-id"]
        theirs = (await callers.post("/llm" + CHAT.replace("openai", "theirs"), **BEARER)).headers["stream-id"]
        asks = ("GET ", "GET ?live=tail", "HEAD ", "GET /info", "POST /cancel", "DELETE ")
        for method, _, end in (ask.partition(" ") for ask in asks):
            foreign = await callers.get(f"/llm/streams/{stream}{end}", method=method, **how)
            unknown = await callers.get(f"/llm/streams/{'x' * 24}{end}", method=method, **how)
            assert foreign.status == 404
            assert foreign.body.replace(stream.encode(), b"x" * 24) == unknown.body
        for method, target in (("GET", "/llm/streams"), ("DELETE", "/llm/streams?label=a")):
            listed = await callers.get(target, method=method, **how)
            assert (listed.status, listed.json["title"]) == (403, "Authorize required")
        assert (await callers.get(f"/llm/streams/{stream}?ticket={streams.ticket(stream)}", **how)).status == 200
        assert (await callers.get(f"/llm/streams/{theirs}", **how)).status == 200
        assert (await callers.get(f"/llm/streams/{stream}", **BEARER)).status == 200
        assert len((await callers.get("/llm/streams", **BEARER)).json["streams"]) == 2
