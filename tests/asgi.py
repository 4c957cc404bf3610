"""Callers of an ASGI app on the test's own loop: each sees what a server would send, and leaves when the test says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import anyio
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope

LOCAL = ("127.0.0.1", 5000)


class Passing(BaseHTTPMiddleware):
    """A host's middleware: ends every answer cleanly by itself, as each BaseHTTPMiddleware does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


class Caller:
    """One request and its answer as it comes. `cut`: the app ended it without the final body message."""

    def __init__(self, scope: Scope, body: bytes) -> None:
        self._scope, self._request = scope, [{"type": "http.request", "body": body, "more_body": False}]
        self._left, self._ended, self._changed = anyio.Event(), anyio.Event(), anyio.Event()
        self._start: Message | None = None
        self.body = b""
        self.cut = True

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self._receive, self._send)
        finally:
            self._ended.set()
            self._changed.set()

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        if self._left.is_set():
            return  # servers say nothing
        if message["type"] == "http.response.start":
            assert self._start is None
            self._start = message
        else:
            assert self._start is not None
            self.body += message.get("body", b"")
            self.cut = message.get("more_body", False)
        self._changed.set()

    async def _until(self, met: Callable[[], bool]) -> None:
        while not met():
            assert not self._ended.is_set(), f"the answer ended: {self._start}, {self.body!r}"
            self._changed = anyio.Event()
            await self._changed.wait()

    async def started(self) -> None:
        """The status line is here."""
        await self._until(lambda: self._start is not None)

    async def until(self, marker: bytes) -> None:
        """The marker is in the body."""
        await self._until(lambda: marker in self.body)

    async def ended(self) -> Caller:
        """The app is done with the request."""
        await self._ended.wait()
        return self

    def leave(self) -> None:
        """As a caller does that dies."""
        self._left.set()

    @property
    def status(self) -> int:
        assert self._start is not None
        return int(self._start["status"])

    @property
    def headers(self) -> Mapping[str, str]:
        assert self._start is not None
        return {name.decode().lower(): value.decode() for name, value in self._start["headers"]}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str, str]]:
        """Name and data of each event, as an EventSource hands them on."""
        found = []
        for block in self.body.decode().split("\n\n"):
            fields = [line.partition(": ") for line in block.split("\n")]
            data = [value for name, _, value in fields if name == "data"]
            if data:
                found.append((next((value for name, _, value in fields if name == "event"), ""), "\n".join(data)))
        return found

    @property
    def last_event_id(self) -> str:
        """Of the last event that came whole."""
        return self.body.decode().rpartition("id: ")[2].partition("\n")[0]


class Callers:
    """`open` asks and reads on in the background, `get` and `post` read to the end."""

    def __init__(self, app: ASGIApp, tasks: anyio.abc.TaskGroup) -> None:
        self._app, self._tasks = app, tasks

    def open(
        self, target: str, method: str = "GET", body: bytes = b"", *, peer: tuple[str, int] = LOCAL, **headers: str
    ) -> Caller:
        path, _, query = target.partition("?")
        lines = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
            "client": peer,
            "server": ("localhost", 80),
            "state": {},
        }
        caller = Caller(scope, body)
        self._tasks.start_soon(caller.run, self._app)
        return caller

    async def get(self, target: str, **more: Any) -> Caller:
        return await self.open(target, **more).ended()

    async def post(self, target: str, body: bytes = b'{"stream":true}', **more: Any) -> Caller:
        """A JSON body, by default of a call that streams."""
        return await self.open(target, "POST", body, content_type="application/json", **more).ended()


@asynccontextmanager
async def calling(app: ASGIApp) -> AsyncIterator[Callers]:
    """Callers of an app that runs already; those that still read at the end leave."""
    async with anyio.create_task_group() as tasks:
        yield Callers(app, tasks)
        tasks.cancel_scope.cancel()
