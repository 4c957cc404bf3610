"""One HTTP/1.1 connection: h11 over a wire, one request at a time."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Self

import anyio
import anyio.lowlevel
import h11

from ..errors import InvalidHeader, UpstreamLost
from .config import Origin
from .wire import Cut, Wire

Body = Callable[[], Awaitable[bytes]]
"""Gives the next piece of a request body; an empty one ends it."""

# What an answer's head may take. h11's own 16 KiB is also node's limit; four times that leaves room for the cookies,
# policies and rate limits of a provider behind proxies, and still bounds what a hostile one can make us keep.
_HEAD_BYTES = 64 * 1024

_FRAMINGS = {b"transfer-encoding", b"content-length"}

LOST = {
    "no_answer": "closed the connection without an answer",
    "connection_closed": "closed the connection in the middle of its answer",
    "connection_reset": "broke the connection",
    "tls_failed": "broke the rules of TLS",
    "bad_framing": "sent something that is not HTTP/1.1",
}
"""`UpstreamLost.detail` and what it says of the upstream."""


class Connection:
    """`request`, then `receive` until EndOfStream; then, where `renew` agrees, again."""

    def __init__(self, origin: Origin, wire: Wire) -> None:
        self._origin = origin
        self._wire = wire
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        self._reset()

    def _reset(self) -> None:
        self._response: h11.Response | None = None
        self._answered = self._ambiguous = False
        self._parts: list[bytes] = []
        self._ended = False
        self._lost: str | None = None
        self._sent = False
        self._body_error: Exception | None = None

    @classmethod
    async def dial(cls, origin: Origin, connect_s: float) -> Self:
        """Raises UpstreamUnreachable."""
        return cls(origin, await Wire.dial(origin, connect_s))

    async def request(self, request: h11.Request, body: Body) -> h11.Response:
        """Send, and listen meanwhile: an upstream may refuse before it has read the whole body, which is then not sent
        to its end. Returns the final answer's head; 1xx are skipped.

        Raises UpstreamLost, and whatever `body` raises; the connection is closed then, as it is when cancelled.
        """
        opening = self._h11.send(request)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._send, opening, body, group.cancel_scope)
                try:
                    await self._listen()
                finally:
                    if not self._sent:
                        self._wire.give_up_sending()
                    group.cancel_scope.cancel()
            if self._body_error is not None:
                raise self._body_error
            response, self._response = self._response, None
            if response is None:
                raise self._failure()
        except BaseException:
            await self.aclose()
            raise
        return response

    async def receive(self) -> bytes:
        """All body bytes that came with one read of the socket, never none. Raises EndOfStream, UpstreamLost.
        If cancelled, the connection is closed."""
        while not self._parts:
            if self._ended:
                raise anyio.EndOfStream
            if self._lost:
                raise self._failure()
            await self._read()
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    def renew(self) -> bool:
        """Whether it can carry another request; if so it is ready for it."""
        ended = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if not ended or self._wire.given_up or self._h11.trailing_data != (b"", False) or self._ambiguous:
            return False
        self._h11.start_next_cycle()
        self._reset()
        return True

    def quiet(self) -> bool:
        """Whether nothing came in since: an upstream that hung up, or spoke unasked, must not get a billable call."""
        return self._wire.quiet()

    async def aclose(self) -> None:
        """At once. Idempotent."""
        await self._wire.aclose()

    async def _send(self, pending: bytes, body: Body, scope: anyio.CancelScope) -> None:
        try:
            while piece := await body():
                pending += self._h11.send(h11.Data(data=piece))
                await self._wire.send(pending)
                pending = b""
                if self._wire.given_up:
                    return
            if pending := pending + self._h11.send(h11.EndOfMessage()):
                await self._wire.send(pending)
            self._sent = True
        except h11.LocalProtocolError:
            self._body_error = InvalidHeader("The request body is not as long as its Content-Length says.")
            scope.cancel()
        except Exception as error:
            self._body_error = error
            scope.cancel()

    async def _listen(self) -> None:
        while not self._answered and not self._lost:
            await self._read()
        if not self._sent:
            # The last piece may have left and its sender not yet run on.
            await anyio.lowlevel.checkpoint()

    async def _read(self) -> None:
        try:
            data = await self._wire.receive()
        except Cut:
            self._lost = self._closed
        except anyio.BrokenResourceError:
            self._lost = "connection_reset"
        except ssl.SSLError:
            self._lost = "tls_failed"
        except BaseException:
            await self.aclose()
            raise
        else:
            self._h11.receive_data(data)
            self._parse(otherwise="bad_framing" if data else self._closed)

    def _parse(self, otherwise: str) -> None:
        try:
            while not self._ended:
                match self._h11.next_event():
                    case h11.Data(data=data):
                        self._parts.append(data)
                    case h11.Response() as response:
                        if response.status_code > 599:  # no ASGI server could pass it on
                            self._lost = "bad_framing"
                            return
                        self._response, self._answered = response, True
                        # Two framings in one answer: somebody else may see its end elsewhere (RFC 9112 §6.3).
                        self._ambiguous = {name for name, _ in response.headers} >= _FRAMINGS
                    case h11.EndOfMessage():
                        self._ended = True
                    case h11.NEED_DATA | h11.PAUSED | h11.ConnectionClosed():
                        return
        except h11.RemoteProtocolError:
            self._lost = otherwise

    @property
    def _closed(self) -> str:
        return "connection_closed" if self._answered else "no_answer"

    def _failure(self) -> UpstreamLost:
        detail = self._lost or "no_answer"
        return UpstreamLost(f"{self._origin} {LOST[detail]}. The call may have been billed.", detail=detail)
