"""A reader's answer: one status line, then the log as it comes, then an end that says how the stream ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

import anyio
from starlette.types import Receive, Scope, Send

from ..errors import ResumeStreamError, StoreError, StreamGone, StreamNotFound
from ..model import Page, StreamInfo
from ..tail import Tail
from .guard import cut

logger = logging.getLogger("resumestream")


class Form(Protocol):
    """How pages become body bytes on one face."""

    keepalive: bytes | None
    """What a silent reader gets; None: nothing."""

    def body(self, page: Page) -> bytes: ...

    def end(self, info: StreamInfo) -> bytes | None:
        """The last bytes of the body; None: the answer must end visibly cut."""
        ...

    def leave(self) -> bytes | None:
        """The last bytes when this server cannot go on though the stream may; None: cut."""
        ...


class LogAnswer:
    """Streams one tail. All refusals come before it: once called, it sends its status line."""

    def __init__(
        self,
        tail: Tail,
        form: Form,
        *,
        status: int,
        headers: Iterable[tuple[str, str]],
        keepalive_s: float,
        send_s: float,
        on_start: Callable[[], None] = lambda: None,
        on_end: Callable[[int], None] = lambda payload_bytes: None,
    ) -> None:
        self._tail, self._form = tail, form
        self._status = status
        self._headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._keepalive_s = keepalive_s if form.keepalive else float("inf")
        self._send_s = send_s
        self._on_start, self._on_end = on_start, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole answer. Never raises for what the stream or the client does; cancelled, the answer is cut."""
        began = self._tail.at
        try:
            headers, self._headers = self._headers, []
            await send({"type": "http.response.start", "status": self._status, "headers": headers})
            del headers
            self._on_start()
            last = b"" if scope["method"] == "HEAD" else await self._pump(send)
            if last is not None:
                await send({"type": "http.response.body", "body": last, "more_body": False})
                return
        except BaseException:
            cut(scope)  # a middleware that swallows this must not end the answer as if it were whole
            raise
        finally:
            self._on_end(self._tail.at - began)
        cut(scope)

    async def _pump(self, send: Send) -> bytes | None:
        """Body messages up to the end; returns the last bytes, or None for a cut."""
        form, ended = self._form, False
        while not ended:
            if form.keepalive and await self._silent():
                body = form.keepalive
            else:
                try:
                    page = await self._tail.receive()
                except anyio.EndOfStream:
                    return b""
                except ResumeStreamError as error:
                    if isinstance(error, StoreError):
                        logger.warning("a reader was cut: %s", error.message)
                    return None if isinstance(error, StreamGone | StreamNotFound) else form.leave()
                body, ended = form.body(page), page.info is not None
                if page.info and (end := form.end(page.info)) is not None:
                    return body + end
                del page
            if body and not await self._send(send, body):
                return None
            del body  # or it would be held while the next one is waited for
        return None

    async def _silent(self) -> bool:
        """Whether it is time for a keep-alive: all that is there was sent, to an event's end, and nothing more came."""
        if not self._tail.waits:
            return False
        with anyio.move_on_after(self._keepalive_s) as silence:
            await self._tail.wait()
        return silence.cancelled_caught

    async def _send(self, send: Send, body: bytes) -> bool:
        """False when the client took nothing for `send_s`: it is cut, the drain and other readers go on."""
        with anyio.move_on_after(self._send_s):
            try:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            except OSError:  # what ASGI 2.4 has servers raise when the client is gone
                return False
            return True
        logger.info("a reader took nothing for %g s and was cut", self._send_s)
        return False
