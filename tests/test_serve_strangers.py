"""What one connection to `resumestream serve` does to itself is nothing to the others."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from hypercorn.config import Config
from starlette.responses import PlainTextResponse

from resumestream.cli import on_trio
from resumestream.testing.provider import Script, ScriptedProvider

from .clients.plain import Plain
from .command import DEADLINE_S, serving
from .test_serve import BACKENDS, open_chat

FURTHER = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSED = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + FURTHER
"""A second request behind one that said it was the last."""
REFUSED = b"POST /demo/x HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer test\r\n"
REFUSALS = {
    400: REFUSED + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + FURTHER,
    431: REFUSED + b"".join(b"X-%d: 1\r\n" % number for number in range(3000)) + b"\r\n" + FURTHER,
}
AT_ONCE, ROUNDS = 8, 6


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=3)) as provider:
        yield provider


def answers(url: str, packet: bytes) -> list[bytes]:
    """To that packet, sent on several connections at once."""
    address = urlsplit(url)
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(AT_ONCE):
            sock = socket.create_connection((address.hostname, address.port), DEADLINE_S)
            connections.append(stack.enter_context(sock))
            sock.sendall(packet)
        return [everything(sock) for sock in connections]


def everything(sock: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            said += data
    return said


@BACKENDS
def test_no_connection_ends_another(backend: str, provider: ScriptedProvider, tmp_path: Path) -> None:
    """Packets from strangers, who have no credential: an answer that goes on meanwhile comes whole, and so does every
    later one."""
    with serving(provider, tmp_path / "streams.db", "--backend", backend) as server, Plain(server.url) as reader:
        response = open_chat(reader, provider)
        for _ in range(ROUNDS):
            answers(server.url, CLOSED)
        provider.release()
        assert response.read().endswith(b"data: [DONE]\n\n")
        with Plain(server.url) as late:
            assert late.get("/healthz").status == 200
    assert "Traceback" not in server.stderr


@BACKENDS
@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_arrives_whatever_follows(
    backend: str, status: int, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """The connection is closed after it, but not before it was written."""
    with serving(provider, tmp_path / "streams.db", "--backend", backend) as server:
        for said in answers(server.url, REFUSALS[status]):
            assert said.startswith(b"HTTP/1.1 %d " % status)
            head, _, body = said.partition(b"\r\n\r\n")
            assert b"content-length: %d" % len(body) in head.lower()


def test_what_a_connection_raises_ends_only_it(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever hypercorn has wrong: it is logged, and the next connection is served."""

    class Broken(Config):
        raises = True

        def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
            if self.raises:
                raise RuntimeError("hypercorn is broken")
            return []

    async def said_to(address: tuple[str, int], request: bytes) -> bytes:
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(request)
            return b"".join([data async for data in stream])

    async def main() -> None:
        config, started, stop = Broken(), trio.Event(), trio.Event()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))

        async def stopping() -> float:
            await stop.wait()
            return 0.1

        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(on_trio.serve, PlainTextResponse("fine"), config, listener, stopping, started.set)
                await started.wait()
                address = listener.getsockname()
                assert await said_to(address, b"garbage\r\n\r\n") == b""
                config.raises = False
                assert (await said_to(address, CLOSED.removesuffix(FURTHER))).endswith(b"fine")
                stop.set()

    trio.run(main)
    assert "a connection failed" in caplog.text
    assert "hypercorn is broken" in caplog.text
