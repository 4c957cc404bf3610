"""The socket under a call: name lookup, TCP and TLS, and a sending half that can be given up."""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Self

import anyio
import anyio.abc
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from ..errors import UpstreamUnreachable
from .config import Origin

_READ_BYTES = 64 * 1024

# A provider may think for minutes without a byte: probes keep the connection alive in NAT tables and find a peer that
# vanished. Anthropic's SDK uses the same times.
_SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None), 60),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), 60),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), 5),
]


class Cut(Exception):
    """TLS ended without its goodbye: anybody on the way can do that, so it is the end of nothing."""


class Wire:
    """A connected byte stream, plain or TLS. One task may send while another receives."""

    def __init__(self, socket_: _Socket, stream: anyio.abc.ByteStream) -> None:
        self._socket = socket_
        self._stream = stream
        self._tls = stream.extra(TLSAttribute.ssl_object, None)
        self._tls_error: ssl.SSLError | None = None

    @classmethod
    async def dial(cls, origin: Origin, connect_s: float) -> Self:
        """Raises UpstreamUnreachable; nothing was sent then but the TLS handshake. If cancelled, it is closed."""
        with anyio.move_on_after(connect_s):
            try:
                return await cls._dial(origin)
            except (OSError, UnicodeError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
                raise _unreachable(origin, _reason(error)) from error
        raise _unreachable(origin, f"no connection within {connect_s:g} s")

    @classmethod
    async def _dial(cls, origin: Origin) -> Self:
        socket_ = _Socket(await anyio.connect_tcp(origin.host, origin.port))
        try:
            socket_.tune()
            if origin.ssl_context is None:
                return cls(socket_, socket_)
            return cls(socket_, await TLSStream.wrap(socket_, hostname=origin.host, ssl_context=origin.ssl_context))
        except BaseException:
            await anyio.aclose_forcefully(socket_)
            raise

    async def send(self, data: bytes) -> None:
        """Returns also where the peer no longer takes it, or the sending was given up: `receive` tells the rest."""
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, ssl.SSLError):
            self.give_up_sending()

    async def receive(self) -> bytes:
        """All that is there, after waiting for something; or none at a proper end. Raises Cut, BrokenResourceError,
        ssl.SSLError."""
        if self._tls_error is not None:
            raise self._tls_error
        try:
            data = await self._stream.receive(_READ_BYTES)
        except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
            # TLS reads on to the socket's end only where no goodbye came. OpenSSL may not mind; that is an option.
            if self._tls is not None and self._socket.ended:
                raise Cut from None
            if isinstance(error, anyio.EndOfStream):
                return b""
            raise
        if self._tls is None:
            return data
        # TLS gives one record, often one event, at a time, however many came in one read.
        pieces = [data]
        while piece := self._decrypted():
            pieces.append(piece)
        return b"".join(pieces)

    @property
    def given_up(self) -> bool:
        return self._socket.given_up

    def give_up_sending(self) -> None:
        """Send nothing more, a send in flight included; receiving goes on."""
        self._socket.give_up_sending()

    def quiet(self) -> bool:
        """Whether the peer neither hung up nor sent anything that nobody asked for. Does not wait."""
        return self._socket.quiet() and (self._tls is None or self._decrypted() is None)

    def _decrypted(self) -> bytes | None:
        """What TLS holds that needs no further read of the socket: bytes, none at its end, None if that is nothing.
        An error is for the next `receive` to raise: OpenSSL forgets it."""
        assert self._tls is not None
        try:
            return self._tls.read(_READ_BYTES)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            self._tls_error = error
            return b""

    async def aclose(self) -> None:
        """At once, without TLS's goodbye, which would wait for the peer. Idempotent."""
        await anyio.aclose_forcefully(self._socket)


class _Socket(anyio.abc.ByteStream):
    """A socket whose sending half can stop while its receiving half goes on, since an answer may come before the whole
    request is sent. It lies below TLS, because TLSStream takes a cancelled send for the end of both halves.
    """

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._sending: anyio.CancelScope | None = None
        self._more = False
        self.ended = False
        self.given_up = False

    def tune(self) -> None:
        raw = self._stream.extra(SocketAttribute.raw_socket)
        for level, option, value in _SOCKET_OPTIONS:
            if option is not None:
                raw.setsockopt(level, option, value)

    async def send(self, item: bytes) -> None:
        if self.given_up:
            return
        # Shielded, so that nothing but giving up ends it: see above. Whoever listens gives up when it is cancelled.
        with anyio.CancelScope(shield=True) as self._sending:
            await self._stream.send(item)
        self._sending = None

    def give_up_sending(self) -> None:
        self.given_up = True
        if self._sending:
            self._sending.cancel()

    async def receive(self, max_bytes: int = _READ_BYTES) -> bytes:
        try:
            data = await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            self.ended = True
            raise
        # asyncio may have read further than we asked: what it holds back, no look at the socket can show.
        self._more = len(data) == max_bytes
        return data

    def quiet(self) -> bool:
        descriptor = self._stream.extra(SocketAttribute.raw_socket).fileno()
        return not self._more and descriptor >= 0 and not _readable(descriptor)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes


def _readable(descriptor: int) -> bool:
    """Data, end or error."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _unreachable(origin: Origin, reason: str) -> UpstreamUnreachable:
    return UpstreamUnreachable(f"{origin} cannot be reached: {reason}. No request was sent; it is safe to try again.")


def _reason(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate was not accepted ({error.verify_message})"
        case ssl.SSLError():
            return f"the TLS handshake failed ({error.reason}); check that this port speaks TLS"
        case socket.gaierror():
            return "its name is not known"
        case BaseExceptionGroup():
            return _reason(error.exceptions[0])
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case OSError(__cause__=BaseException() as cause):
            return _reason(cause)
        case anyio.BrokenResourceError() | anyio.EndOfStream():
            return "it hung up during the TLS handshake"
        case _:
            return "it has no usable host name"
