"""Started with its host, stopped after it, found wherever it is mounted."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from resumestream import ConfigError, Guard, Policy, Principal, ResumeStream
from resumestream.errors import NotStarted, StoreError, StoreUnusable
from resumestream.http.lifespan import WithLifespan
from resumestream.testing import running
from resumestream.testing.running import ServerName

from .asgi import Passing, calling
from .own import ME, Talk, data
from .wire import Client

pytestmark = pytest.mark.anyio

Host = Callable[..., Starlette]


def resume_stream(store: str | Path = "memory:", **more: Any) -> ResumeStream:
    return ResumeStream(store, policy=Policy(drain_s=0), **more)


async def works(streams: ResumeStream) -> bool:
    """Whether it is started."""
    try:
        await streams.find(key="k", principal=ME)
    except NotStarted:
        return False
    return True


# --- install ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [FastAPI, Starlette])
async def test_install_starts_first_and_stops_last(make: Host) -> None:
    """The host's own lifespan can use it from its first line to its last, and keeps its state."""
    streams, used = resume_stream(), list[bool]()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
        used.append(await works(streams))
        yield {"theirs": 1}
        used.append(await works(streams))

    app = make(lifespan=lifespan)
    app.add_route("/state", lambda request: JSONResponse({"theirs": request.state.theirs}))
    streams.install(app, "/llm")
    assert not await works(streams)
    with anyio.fail_after(10):
        await anyio.to_thread.run_sync(_starts_and_serves, app, {"/state": {"theirs": 1}})
    assert used == [True, True]
    assert not await works(streams)


@pytest.mark.parametrize("make", [FastAPI, Starlette])
async def test_install_needs_no_lifespan_of_the_host(make: Host) -> None:
    """One line is all, on both loops."""
    streams = resume_stream()
    app = make()
    streams.install(app, "/llm")
    with anyio.fail_after(10):
        async with app.router.lifespan_context(app), calling(app) as callers:
            assert (await callers.get("/llm/healthz")).json == {"status": "ok"}
            assert (await callers.get("/llm/")).status == 404
            assert (await callers.get("/llmx/healthz")).status == 404
    assert not await works(streams)


def _starts_and_serves(app: ASGIApp, answers: dict[str, Any]) -> None:
    with TestClient(app) as client:
        for path, answer in answers.items():
            assert client.get(path).json() == answer


@pytest.mark.parametrize("way", ["install", "wrap"])
@pytest.mark.parametrize("make", [FastAPI, Starlette])
async def test_middleware_added_later_stays_within_the_guard(make: Host, way: str) -> None:
    """The stack is built at the start, and the guard put around it then."""
    streams, app = resume_stream(), make()
    if way == "install":
        streams.install(app, "/llm")
    served = app if way == "install" else streams.wrap(app, "/llm")
    app.add_middleware(Passing)
    app.add_middleware(Passing)

    async def chat(request: Request) -> Response:
        return await streams.response(key="k", source=Talk(*data(1), LookupError()), principal=ME)

    app.add_route("/chat", chat)
    with anyio.fail_after(10):
        async with streams if way == "wrap" else app.router.lifespan_context(app), calling(served) as callers:
            reply = await callers.get("/chat")
    assert (reply.cut, reply.body) == (True, b"data: 1\n\n")


def test_install_after_the_start_is_refused() -> None:
    """The guard could not get outermost any more."""
    app, streams = Starlette(), resume_stream()
    with TestClient(app), pytest.raises(ConfigError, match="where the app is made"):
        streams.install(app)


@pytest.mark.parametrize("path", ["llm", "", "/{tenant}/llm"])
def test_mount_points_that_are_none(path: str) -> None:
    """Said at once, by both ways to mount."""
    streams = resume_stream()
    with pytest.raises(ConfigError, match="begins with '/'"):
        streams.install(Starlette(), path)
    with pytest.raises(ConfigError, match="begins with '/'"):
        streams.wrap(Starlette(), path)


def test_install_takes_no_bare_app() -> None:
    """There `wrap` is the way."""
    with pytest.raises(ConfigError, match="wrap"):
        resume_stream().install(bare)  # type: ignore[arg-type]


# --- started once, and again ------------------------------------------------------------------------------------


async def test_started_twice_is_refused(tmp_path: Path) -> None:
    """Also while it is starting; and the one that runs goes on."""
    streams = resume_stream(tmp_path / "streams.db")
    refused: list[ConfigError] = []
    runs = anyio.Event()

    async def start(stop: anyio.Event) -> None:
        try:
            async with streams:
                runs.set()
                await stop.wait()
        except ConfigError as error:
            refused.append(error)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            stop = anyio.Event()
            for _ in range(3):
                tasks.start_soon(start, stop)
            await runs.wait()
            assert await works(streams)
            stop.set()
    assert [str(error).partition(";")[0] for error in refused] == ["this ResumeStream runs already"] * 2


def test_installed_twice_fails_the_start() -> None:
    """Not at the first request."""
    streams, app = resume_stream(), Starlette()
    streams.install(app, "/a")
    streams.install(app, "/b")
    with pytest.raises(ConfigError, match="runs already"), TestClient(app):
        pass


def test_it_starts_again_after_an_end(tmp_path: Path) -> None:
    """As tests do, with a `TestClient` each; what was stored is there again."""
    streams, app = resume_stream(tmp_path / "streams.db"), Starlette()

    async def chat(request: Request) -> Response:
        source = Talk(*data(1), None) if request.method == "POST" else None
        return await streams.response(key="k", source=source, principal=ME)

    app.add_route("/chat", chat, methods=["GET", "POST"])
    streams.install(app)
    with TestClient(app) as client:
        first = client.post("/chat")
    with TestClient(app) as client:
        again = client.get("/chat")
    assert (first.text, again.text) == ("data: 1\n\n", "data: 1\n\n")
    assert again.headers["stream-id"] == first.headers["stream-id"]


async def test_a_start_that_failed_can_be_tried_again(tmp_path: Path) -> None:
    """Nothing is left behind by it."""
    path = tmp_path / "streams.db"
    damaged(path)
    streams = resume_stream(path)
    with anyio.fail_after(10):
        with pytest.raises(StoreUnusable):
            async with streams:
                pass
        assert not await works(streams)
        path.unlink()
        async with streams:
            assert await works(streams)


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database, and it is longer than the header of one would be" * 20)


@pytest.mark.parametrize("way", ["install", "wrap", "lifespan"])
def test_a_damaged_store_fails_the_hosts_start(way: str, tmp_path: Path) -> None:
    """With our message, which names the file; the host's own start-up does not run."""
    path = tmp_path / "streams.db"
    damaged(path)
    streams, started = resume_stream(path), list[bool]()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        started.append(True)
        yield

    app: ASGIApp = Starlette(lifespan=streams.lifespan if way == "lifespan" else lifespan)
    if way == "wrap":
        app = streams.wrap(app)
    elif way == "install":
        streams.install(app)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"streams\.db"), running(app):
        pass
    with pytest.raises(StoreError, match=r"streams\.db"), TestClient(app):
        pass
    assert started == []


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"])
def test_a_damaged_store_fails_every_servers_start(server: Any, tmp_path: Path) -> None:
    """Visibly: the server does not serve."""
    path, app = tmp_path / "streams.db", Starlette()
    damaged(path)
    resume_stream(path).install(app)
    with pytest.raises(StoreUnusable, match=r"streams\.db"), running(app, server=server):
        pass


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"])
def test_two_servers_serve_one_store(server: Any, tmp_path: Path) -> None:
    """What one of them was asked for, the other answers."""
    path, first, second = tmp_path / "streams.db", Starlette(), Starlette()
    for app in (first, second):
        resume_stream(path).install(app)
    with running(first, server=server) as one, running(second, server=server) as other:
        for url in (one, other):
            assert Client(url).get("/llm/healthz").json == {"status": "ok"}


# --- wrap -------------------------------------------------------------------------------------------------------


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await PlainTextResponse("bare")(scope, receive, send)


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-trio"])
def test_wrap_a_bare_app(server: Any) -> None:
    """It has no lifespan; ours runs all the same."""
    streams = resume_stream()
    with running(streams.wrap(bare, "/llm"), server=server) as url:
        assert Client(url).get("/llm/healthz").json == {"status": "ok"}
        for path in ("/", "/llmx", "/x/llm/healthz"):
            assert Client(url).get(path).body == b"bare"


def test_wrap_an_app_with_a_lifespan() -> None:
    """Its state is kept, and it may use ours from its start to its end."""
    streams, used = resume_stream(), list[bool]()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
        used.append(await works(streams))
        yield {"theirs": 1}
        used.append(await works(streams))

    def state(request: Request) -> Response:
        return JSONResponse({"theirs": request.state.theirs})

    app = streams.wrap(Starlette(lifespan=lifespan, routes=[Route("/state", state)]))
    _starts_and_serves(app, {"/state": {"theirs": 1}, "/llm/healthz": {"status": "ok"}})
    assert used == [True, True]


async def test_wrap_an_app_whose_start_up_fails(tmp_path: Path) -> None:
    """The server hears of it, and the store is free again."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    path = tmp_path / "streams.db"
    app = resume_stream(path).wrap(Starlette(lifespan=lifespan))
    with pytest.raises(LookupError), TestClient(app):
        pass
    with pytest.raises(LookupError), running(app):
        pass
    with anyio.fail_after(10):
        async with resume_stream(path) as other:
            assert await works(other)


# --- by hand ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["lifespan", "async with"])
@pytest.mark.parametrize("make", [FastAPI, Starlette])
def test_explicit_lifespan_and_mount(make: Host, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Works, and says once that the guard is missing, unless it is there."""
    streams = resume_stream()

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        async with streams:
            yield

    app = make(lifespan=streams.lifespan if way == "lifespan" else own)
    app.mount("/llm", streams.asgi)
    guarded = Guard(app)
    for served, warnings in ((guarded, 0), (app, 1), (app, 0)):
        caplog.clear()
        with TestClient(served) as client:
            assert client.get("/llm/healthz").json() == {"status": "ok"}
            assert client.get("/llm/healthz").json() == {"status": "ok"}
        assert [record.levelno for record in caplog.records].count(logging.WARNING) == warnings


# --- not started ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["mount", "install without with", "sub-app"])
def test_not_started_the_first_request_has_the_lines_to_add(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """A Mount gets no lifespan; nor does an app under a `TestClient` without `with`."""
    streams, app = resume_stream(), Starlette()
    if way == "mount":
        app.mount("/llm", streams.asgi)
    elif way == "install without with":
        streams.install(app)
    else:
        inner = FastAPI()
        streams.install(inner, "/")
        app.mount("/llm", inner)
    client = TestClient(app)
    for path in ("/llm/openai/v1/models", "/llm/streams/x", "/llm/healthz"):
        reply = client.get(path)
        assert reply.status_code == 503
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers["x-should-retry"] == "false"
        for line in (
            'streams.install(app, "/llm")',
            "lifespan=streams.lifespan",
            "async with streams",
            "with TestClient",
        ):
            assert line in reply.json()["detail"]
            assert line in caplog.text


def test_the_faces_alone_have_no_lifespan() -> None:
    """As the root of a server they answer as everywhere where they were not started."""
    with running(resume_stream().asgi, lifespan=False) as url:
        assert Client(url).get("/healthz").status == 503


# --- configuration ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["streams", "ds", "usage", "healthz", "readyz", "metrics", "ui", "", "a/b", "..", ".a", "a b", "ä", "a" * 65],
)
def test_names_that_no_upstream_can_have(name: str) -> None:
    """One path segment, and none of ours."""
    with pytest.raises(ConfigError, match="upstream name"):
        ResumeStream("memory:", {name: "http://localhost"})


@pytest.mark.parametrize(
    "how",
    [
        {"store": ""},
        {"store": "redis://x"},
        {"upstreams": {"a": "not a url"}},
        {"public_path": "llm"},
        {"public_path": "https://example.com/llm"},
    ],
)
def test_wrong_values_are_refused_before_anything_starts(how: dict[str, Any]) -> None:
    """Where they are written."""
    with pytest.raises(ConfigError):
        ResumeStream(**{"store": "memory:", **how})


async def test_the_resolved_store_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """So that nobody wonders which file it is."""
    caplog.set_level(logging.INFO, "resumestream")
    with anyio.fail_after(10):
        async with resume_stream(tmp_path / "streams.db"):
            pass
    assert str(tmp_path / "streams.db") in caplog.text


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"])
@pytest.mark.parametrize("running_already", [False, True])
def test_the_faces_as_the_whole_app(
    server: ServerName, running_already: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """They start themselves, unless they run; and nobody warns of middleware that is not there."""
    streams = ResumeStream("memory:", policy=Policy(drain_s=0))

    app = WithLifespan(streams.asgi, lambda: streams) if running_already else streams.asgi
    with running(app, server=server) as base:
        assert Client(base).get("/readyz").status == 200
    assert not [record for record in caplog.records if record.name == "resumestream"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"store": None}, "store is a NoneType"),
        ({"store": object()}, "store is a object"),
        ({"store": "redis://x"}, "not understood"),
        ({"upstreams": ["openai"]}, "upstreams is a list"),
        ({"upstreams": {"openai": "api.openai.com"}}, "http:// or https://"),
        ({"policy": {"retain_s": 1}}, "policy is a dict"),
        ({"authorize": "me"}, "authorize is a str"),
    ],
)
def test_wrong_arguments_are_refused_where_they_are_written(wrong: dict[str, Any], said: str) -> None:
    """Before anything starts, naming what is wrong and what is right."""
    with pytest.raises(ConfigError, match=said):
        ResumeStream(**{"store": "memory:", **wrong})


def test_a_principal_is_somebody() -> None:
    """An empty id would be shared by everyone a careless hook does not know."""
    for wrong in ("", None):
        with pytest.raises(ConfigError, match="Principal"):
            Principal(wrong)  # type: ignore[arg-type]


def test_a_hook_that_is_not_async(caplog: pytest.LogCaptureFixture) -> None:
    """The programmer reads what is wrong; the caller gets a problem."""
    app = Starlette()
    ResumeStream("memory:", authorize=lambda conn, action: Principal("me")).install(app)  # type: ignore[arg-type, return-value]
    with TestClient(app) as client:
        assert client.get("/llm/streams").status_code == 500
    assert "authorize is not async" in caplog.text
