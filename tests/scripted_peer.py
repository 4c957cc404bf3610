"""A provider on a raw socket that does exactly what its script says, each connection in a thread of its own; and the
way to call it."""

from __future__ import annotations

import contextlib
import functools
import queue
import re
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest

from resumestream.errors import UpstreamLost
from resumestream.ports import Answer, Source
from resumestream.upstream import Call, Pool, Upstream

DEADLINE_S = 10
_T = TypeVar("_T")

HEAD = b"HTTP/1.1 200 OK\r\nX-Request-Id: r1\r\n"
BODY = b"ab\r\ncdefg"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nab\r\nc\r\n4\r\ndefg\r\n0\r\n\r\n"
SIZED = HEAD + b"Content-Length: 9\r\n\r\n" + BODY
UNFRAMED = HEAD + b"\r\n" + BODY
BIG = bytes(8 * 1024 * 1024)
"""More than the socket buffers of both ends hold."""


class Tls:
    """The provider's end of TLS, which sends its records when the script says so."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._until_done(self._tls.do_handshake)

    def recv(self, size: int) -> bytes:
        return self._until_done(functools.partial(self._tls.read, size))

    def sendall(self, data: bytes) -> None:
        self.seal(data)
        self.flush()

    def seal(self, data: bytes) -> None:
        """Make a record and hold it back."""
        self._tls.write(data)

    def seal_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()

    def flush(self) -> None:
        self._sock.sendall(self._outgoing.read())

    def _until_done(self, act: Callable[[], _T]) -> _T:
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                self.flush()
                data = self._sock.recv(65536)
                self._incoming.write(data) if data else self._incoming.write_eof()
            except ssl.SSLError:
                self.flush()  # the alert
                raise
            else:
                self.flush()
                return done


class Peer:
    """The provider's end of one connection."""

    def __init__(self, raw: socket.socket, tls: Tls | None) -> None:
        self.raw = raw
        self._tls = tls
        self.sock = tls or raw
        self.buffer = b""

    @property
    def tls(self) -> Tls:
        assert self._tls is not None
        return self._tls

    def read_head(self) -> bytes:
        """Through the empty line."""
        while b"\r\n\r\n" not in self.buffer:
            self._read_more()
        head, end, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head + end

    def read_request(self) -> bytes:
        """One request, head and body as they came."""
        head = self.read_head()
        if length := re.search(rb"content-length: (\d+)", head):
            size = int(length[1])
            while len(self.buffer) < size:
                self._read_more()
        elif b"transfer-encoding: chunked" in head:
            while not self.buffer.endswith(b"0\r\n\r\n"):
                self._read_more()
            size = len(self.buffer)
        else:
            size = 0
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return head + body

    def _read_more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionResetError("the caller hung up")
        self.buffer += data

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """RST instead of FIN."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()

    def wait_for_hang_up(self) -> None:
        """Read and drop until the caller closed, either way."""
        while self.sock.recv(65536):
            pass


class Server:
    """`connections` counts, `said` has what the scripts report, `go` is what they wait for, `pool` the caller's end."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.connections = 0
        self.said: queue.Queue[object] = queue.Queue()
        self.go = threading.Semaphore(0)
        self.pool = Pool()
        self.ended = threading.Semaphore(0)

    async def hung_up(self) -> None:
        """Until one more script has ended, and with it its connection."""
        assert await anyio.to_thread.run_sync(self.ended.acquire, True, DEADLINE_S)

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}"


Script = Callable[[Peer, Server], None]


def answering(*answers: bytes) -> Script:
    """Each request of a connection gets the next of these answers; then it stays open until the caller goes."""

    def script(peer: Peer, server: Server) -> None:
        for answer in answers:
            server.said.put(peer.read_request())
            peer.send(answer)
        peer.wait_for_hang_up()

    return script


@contextlib.asynccontextmanager
async def serving(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that runs `script` for each connection until the block ends; then the pool is closed, every script has
    ended and so every connection has."""
    with listening(script, tls) as server:
        try:
            yield server
        finally:
            await server.pool.aclose()


@contextlib.contextmanager
def listening(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """The same for tests without a loop of their own, and without a pool."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = Server(listener)
    threads: list[threading.Thread] = []

    def handle(sock: socket.socket) -> None:
        sock.settimeout(DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.ExitStack() as stack:
            stack.callback(server.ended.release)
            stack.callback(sock.close)
            # A caller who leaves, or does not trust us, ends the script.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                script(Peer(sock, Tls(sock, tls) if tls else None), server)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            thread = threading.Thread(target=handle, args=(sock,))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(DEADLINE_S)
        for thread in threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a script still runs: the caller never closed its connection"


# --- the caller -------------------------------------------------------------------------------------------------


def in_time(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """No await without a deadline."""

    @functools.wraps(test)
    async def bounded(*args: object, **kwargs: object) -> None:
        with anyio.fail_after(20):
            await test(*args, **kwargs)

    return bounded


def call(server: Server, method: str = "POST", *, upstream: Upstream | None = None, **rest: Any) -> Source:
    """A call to that server, of no special kind where nothing is given."""
    given = {"target": b"/v1/x", "headers": [], "body": b"{}"} | rest
    return Call("openai", upstream or Upstream(server.url()), server.pool, method, **given)


async def whole(answer: Answer) -> bytes:
    """The body to its proper end."""
    body, end = await drained(answer)
    assert isinstance(end, anyio.EndOfStream)
    return body


async def lost(answer: Answer) -> tuple[bytes, str]:
    """What came before the connection was lost, and how it was."""
    body, end = await drained(answer)
    assert isinstance(end, UpstreamLost)
    return body, end.detail


async def drained(answer: Answer) -> tuple[bytes, Exception]:
    """The body and its end, which is the same however often one asks."""
    pieces: list[bytes] = []
    try:
        while True:
            pieces.append(await answer.receive())
    except (anyio.EndOfStream, UpstreamLost) as error:
        end = error
    assert all(pieces)
    with pytest.raises(type(end)) as again:
        await answer.receive()
    assert str(again.value) == str(end)
    await answer.aclose()
    return b"".join(pieces), end


async def opened(source: Source) -> Answer | UpstreamLost:
    """The answer, or how it was lost before its head."""
    try:
        return await source.open()
    except UpstreamLost as error:
        return error


async def said(server: Server) -> Any:
    """What a script reports next."""
    return await anyio.to_thread.run_sync(lambda: server.said.get(timeout=10))
