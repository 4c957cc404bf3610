"""`running`: an app on a real socket under each server, its lifespan, its errors and its end."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from resumestream.testing import running as exported
from resumestream.testing.running import _SERVERS, ServerName, running

SERVERS: tuple[ServerName, ...] = get_args(ServerName)
DEADLINE_S = 10

pytestmark = pytest.mark.parametrize("server", SERVERS)


class App:
    """Counts in chunks; `/slow` stops after the first."""

    def __init__(self, *, up: Exception | None = None, down: Exception | None = None) -> None:
        self.seen: list[str] = []
        self.up, self.down = up, down

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for stage, error in (("startup", self.up), ("shutdown", self.down)):
                assert (await receive())["type"] == f"lifespan.{stage}"
                self.seen.append(stage)
                if error:
                    raise error
                await send({"type": f"lifespan.{stage}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for k in range(3):
                await send({"type": "http.response.body", "body": b"%d" % k, "more_body": True})
                if scope["path"] == "/slow":
                    self.seen.append("waiting")
                    await anyio.sleep_forever()
        finally:
            self.seen.append("request over")
        await send({"type": "http.response.body"})


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as response:
        body: bytes = response.read()
        return body


def test_it_serves_and_stops(server: ServerName) -> None:
    """A streamed answer over a real socket, the lifespan around it, and afterwards a free port."""
    app = App()
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with running(app, server=server) as url:
        assert app.seen == ["startup"]
        assert get(url) == b"012"
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == signals
    assert app.seen == ["startup", "request over", "shutdown"]
    with pytest.raises(urllib.error.URLError):
        get(url)


def test_two_at_once(server: ServerName) -> None:
    """Each has a port of its own."""
    with running(App(), server=server) as one, running(App(), server=server) as other:
        assert one != other
        assert get(one) == get(other) == b"012"


def test_without_lifespan(server: ServerName) -> None:
    """The app never sees that scope."""
    app = App(up=ValueError("not to be raised"))
    with running(app, server=server, lifespan=False) as url:
        assert get(url) == b"012"
    assert app.seen == ["request over"]


def test_a_start_that_fails_is_raised_here(server: ServerName) -> None:
    """The app's own exception, and the block never begins."""
    with pytest.raises(LookupError, match="no store"), running(App(up=LookupError("no store")), server=server):
        pytest.fail("began")


def test_a_start_that_is_refused_is_raised_with_its_message(server: ServerName) -> None:
    """`lifespan.startup.failed` without an exception has only words."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "the disk is read-only"})

    with pytest.raises(RuntimeError, match="the disk is read-only"), running(app, server=server):
        pytest.fail("began")


def test_an_end_that_fails_is_raised_here(server: ServerName) -> None:
    """Servers only log it."""
    with pytest.raises(LookupError, match="not sealed"), running(App(down=LookupError("not sealed")), server=server):
        pass


def test_an_error_of_the_block_is_its_own(server: ServerName) -> None:
    """What the test raises comes out, also when the end fails as well."""
    with pytest.raises(ZeroDivisionError), running(App(down=LookupError("not sealed")), server=server):
        raise ZeroDivisionError


def test_an_open_request_has_its_grace_and_then_ends(server: ServerName) -> None:
    """Stopping is bounded, the request is cancelled and the lifespan still ends in order."""
    app = App()
    with socket.socket() as reader:
        reader.settimeout(DEADLINE_S)
        with running(app, server=server, grace_s=0.2) as url:
            reader.connect(("127.0.0.1", int(url.rpartition(":")[2])))
            reader.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            assert reader.recv(1)
            began = time.monotonic()
        # From Python 3.12.1 on asyncio's servers wait for open connections, and hypercorn sets no limit to that: it is
        # cancelled, and the app hears of no shutdown.
        waits = server == "hypercorn-asyncio" and sys.version_info >= (3, 12)
        assert 0.2 <= time.monotonic() - began < (15 if waits else 3)
    assert app.seen == ["startup", "waiting", "request over", *([] if waits else ["shutdown"])]


def test_starlette_with_state(server: ServerName) -> None:
    """A framework's app, with what its lifespan yields."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"greeting": "hello"}

    async def greet(request: Any) -> StreamingResponse:
        return StreamingResponse(iter([request.state.greeting, "!"]))

    with exported(Starlette(routes=[Route("/", greet)], lifespan=lifespan), server=server) as url:
        assert get(url) == b"hello!"


def test_a_starlette_start_that_fails_keeps_its_exception(server: ServerName) -> None:
    """Starlette says `startup.failed` first, with a traceback as its message; the exception is what is raised."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        raise LookupError("no store")
        yield

    with pytest.raises(LookupError, match="no store"), running(Starlette(lifespan=lifespan), server=server):
        pytest.fail("began")


@pytest.mark.anyio
async def test_it_can_be_used_from_a_loop(server: ServerName) -> None:
    """The server's loop is another one, whatever the test's is."""
    with anyio.fail_after(DEADLINE_S), running(App(), server=server) as url:
        assert await anyio.to_thread.run_sync(get, url) == b"012"


def test_a_server_that_is_not_installed(server: ServerName, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the module."""
    package = server.partition("-")[0]
    modules = [name for name in sys.modules if name == package or name.startswith(package + ".")]
    for name in {*modules, package}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=package), running(App(), server=server):
        pytest.fail("began")


def test_a_loop_that_cannot_begin(server: ServerName, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told as what it is, not as a server that does not stop."""
    serve, _ = _SERVERS[server]
    monkeypatch.setitem(_SERVERS, server, (serve, "no-such-loop"))
    with pytest.raises(LookupError, match="no-such-loop"), running(App(), server=server):
        pytest.fail("began")


def test_a_server_that_breaks_is_told_at_the_end(server: ServerName, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when every request went well."""
    serve, backend = _SERVERS[server]

    async def broken(*arguments: Any) -> None:
        await serve(*arguments)
        raise ZeroDivisionError

    monkeypatch.setitem(_SERVERS, server, (broken, backend))
    with pytest.raises(ZeroDivisionError), running(App(), server=server) as url:
        assert get(url) == b"012"


def test_no_thread_is_left(server: ServerName) -> None:
    """The server's thread ends with the block."""
    with running(App(), server=server) as url:
        get(url)
    deadline = time.monotonic() + DEADLINE_S
    while any(thread.name == f"running {server}" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
