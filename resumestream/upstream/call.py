"""One provider call over HTTP: the `Source` and `Answer` of the ports."""

from __future__ import annotations

from collections.abc import Iterable

import anyio
import h11

from ..errors import InvalidHeader, UpstreamLost
from ..model import Head
from ..redaction import Redactor
from .config import Origin, Upstream
from .connection import Body, Connection
from .headers import RawHeaders, credentials_in, recorded
from .pool import Pool
from .target import credentials_of

# How much of a body is handed to the socket at a time: enough to be cheap, and to stop soon after an early answer.
_SLICE_BYTES = 64 * 1024


class Call:
    """A request, ready to be made, once. `headers` are what `forwarded` gave, `target` what `target` gave.

    `body` is bytes, or an async function that gives the next piece and at the end an empty one; then `length` is its
    whole length in bytes, or None where that is not known. Raises InvalidHeader for what HTTP/1.1 cannot carry.
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
    ) -> None:
        self.upstream = name
        self._config = upstream
        self._pool = pool
        self._body: Body | None = _slices(body) if isinstance(body, bytes) else body
        framing = _framing(method, len(body) if isinstance(body, bytes) else length)
        host = (b"host", upstream.origin.authority.encode("ascii"))
        self._request = _request(method, target, [host, *headers, *framing])

    async def open(self) -> HttpAnswer:
        """Raises UpstreamUnreachable, UpstreamLost, and whatever `body` raises; if cancelled, the connection is
        closed at once and the call may have been billed."""
        origin = self._config.origin
        connection = await self._pool.connect(origin, self._config.connect_s)
        body, self._body = self._body, None  # the answer may take an hour; a body sent is let go
        assert body is not None
        response = await connection.request(self._request, body)
        sent = (*credentials_in(self._request.headers), *credentials_of(self._request.target))
        return HttpAnswer(self._pool, origin, connection, self._request.method, response, sent)


class HttpAnswer:
    """The upstream's answer; it holds its connection until `aclose`.

    A refusal is read by people, logged and kept, and some quote the credential that they refuse, which may be the
    operator's: `sent`, and whatever has the shape of one, is starred out of its headers and its body.
    """

    def __init__(
        self,
        pool: Pool,
        origin: Origin,
        connection: Connection,
        method: bytes,
        response: h11.Response,
        sent: Iterable[str] = (),
    ) -> None:
        self._pool = pool
        self._origin = origin
        self._connection: Connection | None = connection
        self.raw_headers: RawHeaders = (headers := list(response.headers))
        """As received; `head` has those that a record keeps."""
        self.head = Head(response.status_code, recorded(response.status_code, headers))
        self._redactor: Redactor | None = None
        if not self.head.ok:
            redactor = Redactor(sent)
            texts = tuple((name, redactor.text(value)) for name, value in self.head.headers)
            self.head = Head(response.status_code, texts)
            if self.head.get("content-encoding") in (None, "identity"):  # else it is no text
                self._redactor = redactor
        self.framed = (
            method == b"HEAD"
            or response.status_code in (204, 304)
            or any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)
        )

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

    async def aclose(self) -> None:
        """Reuse the connection after a framed end, close it otherwise. Idempotent, does not wait."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(self._origin, connection)


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
