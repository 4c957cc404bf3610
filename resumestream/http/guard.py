"""Keeps a cut answer cut, whatever middleware of the host lies between.

A stream that was cut short must reach its reader as a broken body. An app breaks one by returning without the final
body message; but every `BaseHTTPMiddleware` sends that message itself as soon as the app has returned. So the guard
lies outermost, and withholds the final message of an answer that was marked as cut. Returning without it makes
uvicorn, hypercorn and granian close that one HTTP/1.1 connection in mid-body; raising would do the same and log a
traceback. On HTTP/2 granian resets the stream, but hypercorn leaves it open, never ended: serve HTTP/1.1 there.
"""

from __future__ import annotations

import logging

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import VersionUnsupported

logger = logging.getLogger("resumestream")

NO_GUARD = (
    "resumestream runs without its guard: a middleware of this app may turn a cut answer into a clean end. "
    "Use streams.install(app, path) or streams.wrap(app, path), or put resumestream.Guard around the whole app."
)

_MARK = "resumestream.guard"


class _Cut:
    """One answer's mark. Middleware copies scopes, never their values, so every copy of the scope shares it."""

    marked = False


class Guard:
    """The outermost ASGI app. A guard within a guard is a plain pass."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _MARK in scope:
            return await self.app(scope, receive, send)
        cut = _Cut()

        async def send_unless_end(message: Message) -> None:
            if cut.marked:
                if message["type"] == "http.response.start":
                    message = _without_length(message, scope)
                elif _is_final(message):
                    return
            await send(message)

        return await self.app({**scope, _MARK: cut}, receive, send_unless_end)


def cut(scope: Scope) -> None:
    """Mark this answer as cut; its sender then returns without the final body message. Without a guard a middleware of
    the host may turn that into a clean end: see `GuardCheck`."""
    guard: _Cut | None = scope.get(_MARK)
    if guard is not None:
        guard.marked = True


class GuardCheck:
    """Says once that the guard is missing: at the first request that would have needed it."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, scope: Scope) -> None:
        if _MARK not in scope and not self._said:
            self._said = True
            logger.warning(NO_GUARD)


def finishing(scope: Scope, send: Send, within_s: float) -> Send:
    """`send`, with the final message of the answer safe from cancellation; a client that does not take it in time is
    cut. From within that send hypercorn tells the app that the client is gone, and has yet to close the connection."""

    async def sending(message: Message) -> None:
        if not _is_final(message):
            await send(message)
            return
        with anyio.move_on_after(within_s, shield=True) as sent:
            await send(message)
        if sent.cancelled_caught:
            cut(scope)

    return sending


def is_http_1_0(scope: Scope) -> bool:
    """Whether a body without a length ends with its connection, cut or not. Servers spell the version differently."""
    return scope["http_version"] in ("1.0", "1")


def require_cuttable(scope: Scope) -> None:
    """Raises VersionUnsupported on HTTP/1.0."""
    if is_http_1_0(scope):
        raise VersionUnsupported(
            "A live answer needs HTTP/1.1: on HTTP/1.0 a broken one looks complete. Behind nginx set "
            "proxy_http_version 1.1."
        )


def _is_final(message: Message) -> bool:
    kind: str = message["type"]
    return kind == "http.response.trailers" or (kind == "http.response.body" and not message.get("more_body"))


def _without_length(start: Message, scope: Scope) -> Message:
    """A middleware that collected the cut answer counted it: with that length it would look whole."""
    if is_http_1_0(scope):
        return start  # no chunks here: without the length nothing would show the cut
    headers = [(name, value) for name, value in start.get("headers", ()) if name.lower() != b"content-length"]
    return {**start, "headers": headers}
