"""An ASGI app on a real socket, under a real server, for the length of a `with` block."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Literal

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ServerName = Literal["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"]

_DEADLINE_S = 10.0
"""For the start; and for the stop on top of the grace."""


@contextlib.contextmanager
def running(
    app: ASGIApp, *, server: ServerName = "uvicorn", lifespan: bool = True, grace_s: float = 1.0
) -> Iterator[str]:
    """Serve `app` on a free loopback port, in a thread with a loop of its own; gives `http://127.0.0.1:PORT`.

    It accepts requests when the block begins. An error of the app's lifespan, at the start or at the end, is raised
    here; with `lifespan=False` the app never sees that scope. At the end requests in flight have `grace_s` seconds,
    then they are cancelled. Installs no signal handlers. May be used from sync tests and, as it blocks only for the
    start and the stop, from async ones. Raises ModuleNotFoundError when the server is not installed, TimeoutError when
    it does not start or end in time.
    """
    watched = _Watched(app, lifespan)
    with _listener(server) as listener:
        host, port = listener.getsockname()
        serving = _Serving(server, watched, listener, grace_s)
        try:
            serving.wait_until_started()
            _wait_until_it_accepts((host, port))
            yield f"http://{host}:{port}"
        finally:
            serving.stop()
    if watched.ending_failed:
        raise watched.ending_failed
    serving.result()


class _Watched:
    """The app, with its lifespan seen: servers swallow what it raises, each in its own way."""

    def __init__(self, app: ASGIApp, lifespan: bool) -> None:
        self._app = app if lifespan else _without_lifespan(app)
        self.started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.ending_failed: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        said = ""

        async def seen(message: Message) -> None:
            nonlocal said
            if message["type"] == "lifespan.startup.failed":
                said = message.get("message", "")  # held back: the exception that follows tells more
                return
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self.started.set_result(None)

        try:
            await self._app(scope, receive, seen)
            failure: Exception = RuntimeError(said or "the app's lifespan ended before it said `startup.complete`")
        except Exception as error:
            failure = error
            if self.started.done():
                self.ending_failed = error
                raise
        if not self.started.done():
            self.started.set_exception(failure)
            await send({"type": "lifespan.startup.failed", "message": str(failure)})


def _without_lifespan(app: ASGIApp) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})

    return wrapped


class _Serving:
    """A server in a daemon thread: not even one that hangs keeps the test run from ending."""

    def __init__(self, server: ServerName, app: _Watched, listener: socket.socket, grace_s: float) -> None:
        self._app, self._server, self._grace_s = app, server, grace_s
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._soon: Callable[[Callable[[], None]], object]
        self._endings: list[Callable[[], None]] = []
        """Thread-safe through `_soon`: ask, then cancel."""
        serve, backend = _SERVERS[server]

        async def main() -> None:
            if backend == "trio":
                self._soon = importlib.import_module("trio").lowlevel.current_trio_token().run_sync_soon
            else:
                self._soon = asyncio.get_running_loop().call_soon_threadsafe
            stop = anyio.Event()
            with anyio.CancelScope() as scope:
                self._endings = [stop.set, scope.cancel]
                await serve(app, listener, grace_s, stop)

        def run() -> None:
            try:
                anyio.run(main, backend=backend)
            except BaseException as error:
                self._ended.set_exception(error)
            else:
                self._ended.set_result(None)

        threading.Thread(target=run, name=f"running {server}", daemon=True).start()

    def wait_until_started(self) -> None:
        started = self._app.started
        concurrent.futures.wait((started, self._ended), _DEADLINE_S, concurrent.futures.FIRST_COMPLETED)
        if not started.done() and not self._ended.done():
            raise TimeoutError(f"{self._server} did not start the app within {_DEADLINE_S} s")
        if not started.done():
            self._ended.result()
        started.result(0)

    def stop(self) -> None:
        """Ask, then cancel, then give up."""
        if self._ended.done():
            return
        for end in self._endings:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._soon(end)
            if concurrent.futures.wait([self._ended], self._grace_s + _DEADLINE_S).done:
                return
        raise TimeoutError(f"{self._server} did not stop")

    def result(self) -> None:
        """Raises what broke the server under the test."""
        self._ended.result()


# --- the servers: each serves until `stop`, gives requests in flight `grace_s`, and returns ---------------------------

Serve = Callable[[ASGIApp, socket.socket, float, anyio.Event], Awaitable[None]]


async def _uvicorn(app: ASGIApp, listener: socket.socket, grace_s: float, stop: anyio.Event) -> None:
    import uvicorn

    config: Any = uvicorn.Config(app, lifespan="on", log_config=None)
    config.timeout_graceful_shutdown = grace_s  # typed int, and any number to asyncio
    server = uvicorn.Server(config)

    async def end() -> None:
        server.should_exit = True

    await _until(stop, end, server.serve(sockets=[listener]))


async def _granian(app: ASGIApp, listener: socket.socket, grace_s: float, stop: anyio.Event) -> None:
    # Typed for import strings only; takes an app all the same, but no socket: ours holds the port, without listening.
    embed: Any = importlib.import_module("granian.server.embed")
    requests: set[asyncio.Task[Any]] = set()

    async def tracked(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "lifespan" and task:
            requests.add(task)
            task.add_done_callback(requests.discard)
        await app(scope, receive, send)

    host, port = listener.getsockname()
    server = embed.Server(tracked, address=host, port=port, interface="asgi", log_enabled=False)

    async def end() -> None:
        server.stop()
        await anyio.sleep(grace_s)
        for task in requests:  # its own timeout skips the app's lifespan
            task.cancel()

    await _until(stop, end, server.serve())


async def _hypercorn(app: ASGIApp, listener: socket.socket, grace_s: float, stop: anyio.Event, *, module: str) -> None:
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = logging.getLogger("hypercorn.error")
    config.graceful_timeout = grace_s
    flavour: Any = importlib.import_module(module)
    await flavour.serve(app, config, shutdown_trigger=stop.wait, mode="asgi")


async def _until(stop: anyio.Event, end: Callable[[], Awaitable[None]], serving: Awaitable[None]) -> None:
    async def wait() -> None:
        await stop.wait()
        await end()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await serving
        group.cancel_scope.cancel()


_SERVERS: dict[ServerName, tuple[Serve, str]] = {
    "uvicorn": (_uvicorn, "asyncio"),
    "hypercorn-asyncio": (partial(_hypercorn, module="hypercorn.asyncio"), "asyncio"),
    "hypercorn-trio": (partial(_hypercorn, module="hypercorn.trio"), "trio"),
    "granian": (_granian, "asyncio"),
}


def _listener(server: ServerName) -> socket.socket:
    """A free loopback port."""
    if server != "granian":
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        # asyncio sets it only on sockets that name their protocol, which `create_server` does not: without it, an
        # answer in two writes waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def _wait_until_it_accepts(address: tuple[str, int]) -> None:
    """Granian binds after the app has started, and tells nobody."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            socket.create_connection(address, timeout=_DEADLINE_S).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
