"""A provider on a raw socket that does exactly what its script says, each connection in a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator

from resumestream.upstream import Pool

DEADLINE_S = 10


class Peer:
    """The provider's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

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
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_hang_up(self) -> None:
        """Read and drop until the caller closed, either way."""
        with contextlib.suppress(ssl.SSLError):
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
    with _listening(script, tls) as server:
        try:
            yield server
        finally:
            await server.pool.aclose()


@contextlib.contextmanager
def _listening(script: Script, tls: ssl.SSLContext | None) -> Iterator[Server]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = Server(listener)
    threads: list[threading.Thread] = []

    def handle(sock: socket.socket) -> None:
        sock.settimeout(DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            if tls is not None:
                try:
                    sock = tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
                except (OSError, ssl.SSLError):
                    return  # the caller refused the certificate
                stack.callback(sock.close)
            with contextlib.suppress(ConnectionError):  # a caller who leaves ends the script
                script(Peer(sock), server)

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
