"""One provider call over HTTP: the `Source` and `Answer` of the ports."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import h11

from ..errors import InvalidHeader, UpstreamLost
from ..model import Head, Headers, Remote
from ..redaction import Redactor
from .config import Origin, Upstream
from .connection import Body, Connection
from .headers import RawHeaders, credentials_in, recorded
from .pool import Pool
from .target import credentials_of

# How much of a body is handed to the socket at a time: enough to be cheap, and to stop soon after an early answer.
_SLICE_BYTES = 64 * 1024

Kept = Callable[[int, RawHeaders], Headers]
"""What is kept of an answer's headers, given its status."""
Found = Callable[[RawHeaders], Remote | None]
"""Where a call that succeeded goes on if the connection is lost, as its answer's headers say."""


class Call:
    """A request, ready to be made, once. `headers` are what `forwarded` gave, `target` what `target` gave.

    `body` is bytes, or an async function that gives the next piece and at the end an empty one; then `length` is its
    whole length in bytes, or None where that is not known. `kept` says what the answer's `head` has of its headers:
    the rest is let go, since the answer may take an hour; `found` sees all. Raises InvalidHeader for what HTTP/1.1
    cannot carry.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        pool: Pool,
        method: str,
        target: bytes,
        headers: RawHeaders,
        body: bytes | Body = b"",
        *,
        length: int | None = None,
        kept: Kept = recorded,
        found: Found = lambda headers: None,
    ) -> None:
        self.upstream = name
        self._kept, self._found = kept, found
        self._config = upstream
        self._pool = pool
        self._body: Body | None = _slices(body) if isinstance(body, bytes) else body
        framing = _framing(method, len(body) if isinstance(body, bytes) else length)
        host = (b"host", upstream.origin.authority.encode("ascii"))
        self._request = _request(method, target, [host, *headers, *framing])

    async def open(self) -> HttpAnswer:
        """Raises UpstreamUnreachable, UpstreamLost, and whatever `body` raises; if cancelled, the connection is
        closed at once and the call may have been billed."""
        connection = await self._pool.connect(self._config.origin, self._config.connect_s)
        body, self._body = self._body, None  # the answer may take an hour; a body sent is let go
        assert body is not None
        response = await connection.request(self._request, body)
        try:
            return self._answer(connection, response.status_code, list(response.headers))
        except BaseException:
            await connection.aclose()
            raise

    def _answer(self, connection: Connection, status: int, headers: RawHeaders) -> HttpAnswer:
        head, redactor = Head(status, self._kept(status, headers)), None
        if not head.ok:
            redactor = Redactor((*credentials_in(self._request.headers), *credentials_of(self._request.target)))
            head = Head(head.status, tuple((name, redactor.text(value)) for name, value in head.headers))
        framed = _is_framed(self._request.method, head, headers)
        found = self._found(headers) if head.ok else None
        origin = self._config.origin
        return HttpAnswer(self._pool, origin, connection, head, framed=framed, redactor=redactor, remote=found)


class HttpAnswer:
    """The upstream's answer; it holds its connection until `aclose`.

    A refusal is read by people, logged and kept, and some quote the credential that they refuse, which may be the
    operator's: its `redactor` stars that out, and whatever has the shape of one.
    """

    def __init__(
        self,
        pool: Pool,
        origin: Origin,
        connection: Connection,
        head: Head,
        *,
        framed: bool,
        redactor: Redactor | None = None,
        remote: Remote | None = None,
    ) -> None:
        self._pool = pool
        self._origin = origin
        self._connection: Connection | None = connection
        self.head, self.framed, self.remote = head, framed, remote
        is_text = head.get("content-encoding") in (None, "identity")
        self._redactor = redactor if is_text else None

    async def receive(self) -> bytes:
        """All body bytes that came with one read of the socket. Raises EndOfStream, UpstreamLost, and
        ClosedResourceError after `aclose`. If cancelled, the connection is closed."""
        if self._connection is None:
            raise anyio.ClosedResourceError
        if self._redactor is None:
            return await self._connection.receive()
        return await self._receive_redacted(self._connection, self._redactor)

    async def _receive_redacted(self, connection: Connection, redactor: Redactor) -> bytes:
        while True:
            try:
                data = redactor.feed(await connection.receive())
            except (anyio.EndOfStream, UpstreamLost):
                if data := redactor.rest():
                    return data  # the next call raises it again
                raise
            if data:
                return data

    async def cancel(self) -> None:
        pass

    async def aclose(self) -> None:
        """Reuse the connection after a framed end, close it otherwise. Idempotent, does not wait."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(self._origin, connection)


def _is_framed(method: bytes, head: Head, headers: RawHeaders) -> bool:
    if method == b"HEAD" or head.status in (204, 304):
        return True
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


def _framing(method: str, length: int | None) -> RawHeaders:
    if length is None:
        return [(b"transfer-encoding", b"chunked")]
    if length == 0 and method not in ("POST", "PUT", "PATCH"):
        return []
    return [(b"content-length", str(length).encode())]


def _request(method: str, target: bytes, headers: RawHeaders) -> h11.Request:
    try:
        return h11.Request(method=method, target=target, headers=list(headers))
    except h11.LocalProtocolError:
        pass  # its text quotes values, which may be credentials
    raise InvalidHeader("A request header has characters that HTTP/1.1 cannot carry; see RFC 9110, section 5.5.")


def _slices(body: bytes) -> Body:
    rest = memoryview(body)

    async def next_slice() -> bytes:
        nonlocal rest
        piece, rest = bytes(rest[:_SLICE_BYTES]), rest[_SLICE_BYTES:]
        if not rest:
            rest = memoryview(b"")  # an empty view would still hold the whole body
        return piece

    return next_slice
