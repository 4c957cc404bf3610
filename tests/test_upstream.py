"""One call over real sockets: what is sent and what is heard."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import pytest
from anyio.abc import SocketAttribute
from anyio.lowlevel import checkpoint

from resumestream.errors import InvalidHeader, UpstreamLost
from resumestream.upstream import Call, Pool, Upstream
from resumestream.upstream.wire import Wire

from .scripted_peer import (
    BIG,
    BODY,
    CHUNKED,
    HEAD,
    SIZED,
    UNFRAMED,
    Peer,
    Server,
    answering,
    call,
    in_time,
    opened,
    said,
    serving,
    whole,
)

pytestmark = pytest.mark.anyio

# --- what is sent -----------------------------------------------------------------------------------------------


@in_time
async def test_a_request_goes_out_as_given() -> None:
    """Method, target, Host, headers and body arrive as they were given, and nothing else does."""
    async with serving(answering(SIZED)) as server:
        answer = await call(server, headers=[(b"x-a", b"1"), (b"x-a", b"2")], target=b"/v1/x%2Fy?k=a%20b").open()
        assert await whole(answer) == BODY
        line = b"POST /v1/x%2Fy?k=a%20b HTTP/1.1\r\n"
        headers = b"host: 127.0.0.1:%d\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 2\r\n\r\n" % server.port
        assert await said(server) == line + headers + b"{}"


@pytest.mark.parametrize(
    ("method", "body", "length", "sent"),
    [
        ("POST", b"", None, b"content-length: 0\r\n\r\n"),
        ("GET", b"", None, b"\r\n\r\n"),
        ("DELETE", b"x", None, b"content-length: 1\r\n\r\nx"),
        ("PUT", [b"ab", b"c"], None, b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        ("PUT", [b"ab", b"c"], 3, b"content-length: 3\r\n\r\nabc"),
        ("POST", [], None, b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("POST", [], 0, b"content-length: 0\r\n\r\n"),
    ],
)
@in_time
async def test_a_body_is_framed(method: str, body: bytes | list[bytes], length: int | None, sent: bytes) -> None:
    """By its length where that is known, else in chunks; no body where a method has none."""
    async with serving(answering(SIZED)) as server:
        pieces = body if isinstance(body, bytes) else piecewise(body)
        await whole(await call(server, method=method, body=pieces, length=length).open())
        request = await said(server)
        assert isinstance(request, bytes)
        assert request.endswith(sent)
        for name in (b"content-length", b"transfer-encoding"):
            assert request.count(name) == sent.count(name)


def piecewise(pieces: list[bytes]) -> Callable[[], Awaitable[bytes]]:
    left = iter([*pieces, b""])

    async def body() -> bytes:
        await checkpoint()
        return next(left)

    return body


@in_time
async def test_a_large_body_arrives_whole() -> None:
    """Also one that no socket buffer holds."""
    body = bytes(range(256)) * 16_384
    async with serving(answering(SIZED)) as server:
        await whole(await call(server, body=body).open())
        request = await said(server)
        assert isinstance(request, bytes)
        assert request.endswith(b"\r\n\r\n" + body)


@in_time
async def test_a_streamed_body_is_not_read_ahead() -> None:
    """While the upstream does not read, the body is not asked for more than the sockets hold."""
    asked = 0
    filled = anyio.Event()

    async def body() -> bytes:
        nonlocal asked
        asked += 1
        if asked * 65_536 >= len(BIG):
            pytest.fail("the whole body was read ahead")
        if asked == 2:
            filled.set()
        return bytes(65_536)

    def script(peer: Peer, server: Server) -> None:
        peer.read_head()
        server.go.acquire()

    async with serving(script) as server:
        async with anyio.create_task_group() as group:
            group.start_soon(call(server, body=body).open)
            await filled.wait()
            for _ in range(1000):  # as many turns as a reader without a brake would need, and more
                await checkpoint()
            group.cancel_scope.cancel()
        server.go.release()


@in_time
async def test_a_body_that_fails_ends_the_call() -> None:
    """What the body raises comes out as it is, and the connection is closed with it."""

    async def body() -> bytes:
        raise KeyError("the caller left")

    async with serving(answering(SIZED)) as server:
        with pytest.raises(KeyError, match="the caller left"):
            await call(server, body=body).open()


@pytest.mark.parametrize("pieces", [[b"abc", b"d"], [b"ab"]], ids=["long", "short"])
@in_time
async def test_a_body_of_another_length_is_refused(pieces: list[bytes]) -> None:
    """It is the caller's mistake, and no request looks whole to the upstream."""
    async with serving(lambda peer, server: peer.wait_for_hang_up()) as server:
        with pytest.raises(InvalidHeader):
            await call(server, body=piecewise(pieces), length=3).open()


def test_a_header_that_cannot_be_sent_is_refused() -> None:
    """Before any connection, and without its value, which may be a credential."""
    with pytest.raises(InvalidHeader) as refused:
        Call("a", Upstream("http://127.0.0.1:1"), Pool(), "POST", b"/", [(b"authorization", b"secret\r\nx: y")])
    assert "secret" not in str(refused.value)
    assert refused.value.__context__ is None


# --- what is heard ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [CHUNKED, SIZED], ids=["chunked", "sized"])
@in_time
async def test_an_answer_in_any_fragments_is_whole(answer: bytes) -> None:
    """Split in two anywhere, or sent byte by byte."""

    def script(peer: Peer, server: Server) -> None:
        for at in range(1, len(answer)):
            peer.read_request()
            peer.send(answer[:at])
            server.go.acquire()
            peer.send(answer[at:])
        peer.read_request()
        for index in range(len(answer)):
            peer.send(answer[index : index + 1])
        peer.wait_for_hang_up()

    async with serving(script) as server:
        for _ in range(len(answer)):
            server.go.release()
            got = await call(server).open()
            assert got.head.status == 200
            assert got.head.get("x-request-id") == "r1"
            assert got.framed
            assert await whole(got) == BODY
    assert server.connections == 1


@in_time
async def test_the_head_comes_before_the_body() -> None:
    """`open` returns at the head; each piece is there as soon as it is sent."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in (b"2\r\nab\r\n", b"2\r\ncd\r\n", b"0\r\n\r\n"):
            server.go.acquire()
            peer.send(piece)

    async with serving(script) as server:
        answer = await call(server).open()
        server.go.release()
        assert await answer.receive() == b"ab"
        server.go.release()
        assert await answer.receive() == b"cd"
        server.go.release()
        assert await whole(answer) == b""


@in_time
async def test_what_came_together_is_received_together() -> None:
    """A hundred chunks in one segment are one piece, so that they become one write and one send."""
    chunks = b"".join(b"4\r\n%04d\r\n" % number for number in range(100))
    async with serving(answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")) as server:
        answer = await call(server).open()
        assert await answer.receive() == b"".join(b"%04d" % number for number in range(100))
        assert await whole(answer) == b""


@in_time
async def test_a_coded_body_is_kept_as_it_came() -> None:
    """gzip that nobody asked for is not undone, and its header says so."""
    coded = gzip.compress(b"hello" * 100)
    async with serving(
        answering(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded) + coded)
    ) as server:
        answer = await call(server).open()
        assert answer.head.get("content-encoding") == "gzip"
        assert await whole(answer) == coded


@in_time
async def test_interim_answers_are_skipped() -> None:
    """100, 102 and 103 are not the answer."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n"
    async with serving(answering(interim + SIZED)) as server:
        answer = await call(server).open()
        assert answer.head.status == 200
        assert answer.head.get("link") is None
        assert await whole(answer) == BODY


@pytest.mark.parametrize(
    ("method", "answer", "status"),
    [
        ("HEAD", HEAD + b"Content-Length: 9\r\n\r\n", 200),
        ("HEAD", HEAD + b"\r\n", 200),
        ("POST", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304),
        ("POST", HEAD + b"Content-Length: 0\r\n\r\n", 200),
    ],
)
@in_time
async def test_an_answer_without_a_body_ends_at_once(method: str, answer: bytes, status: int) -> None:
    """Whatever its headers say, and its connection is good for another."""
    async with serving(answering(answer, SIZED)) as server:
        got = await call(server, method).open()
        assert (got.head.status, got.framed) == (status, True)
        assert await whole(got) == b""
        assert await whole(await call(server).open()) == BODY
    assert server.connections == 1


@in_time
async def test_a_redirect_is_not_followed() -> None:
    """It is an answer like any other."""
    async with serving(
        answering(b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    ) as server:
        answer = await call(server).open()
        assert (answer.head.status, answer.head.get("location")) == (307, "http://127.0.0.1:1/")
        assert await whole(answer) == b""


@in_time
async def test_an_unframed_answer_ends_with_its_connection() -> None:
    """It says of itself that its end proves nothing."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(UNFRAMED)

    async with serving(script) as server:
        answer = await call(server).open()
        assert not answer.framed
        assert await whole(answer) == BODY


@in_time
async def test_a_large_head_is_read_and_an_endless_one_is_not() -> None:
    """40 KiB pass; what never ends is cut off instead of kept."""

    def endless(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:  # until the caller hangs up
            peer.send(b"X-More: " + b"x" * 8000 + b"\r\n")

    def large(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(HEAD)
        for _ in range(80):  # too many sends for one read
            peer.send(b"X-Large: " + b"x" * 500 + b"\r\n")
        peer.send(SIZED.removeprefix(HEAD))

    async with serving(large) as server:
        assert await whole(await call(server).open()) == BODY
    async with serving(endless) as server:
        with pytest.raises(UpstreamLost) as refused:
            await call(server).open()
    assert refused.value.detail == "bad_framing"


@in_time
async def test_a_silent_connection_is_probed() -> None:
    """A provider may think for longer than a NAT table remembers its caller."""
    async with serving(answering(SIZED)) as server:
        wire = await Wire.dial(Upstream(server.url()).origin, connect_s=5)
        raw = wire._stream.extra(SocketAttribute.raw_socket)
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await wire.aclose()


# --- early answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@in_time
async def test_an_answer_before_the_whole_request_is_heard(streamed: bool) -> None:
    """An upstream that refuses a body it does not read is understood; the rest of the body is not sent, and the
    connection is not used again."""

    async def body() -> bytes:
        return bytes(65_536)

    def script(peer: Peer, server: Server) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\n" + BODY)
        server.go.acquire()

    async with serving(script) as server:
        for connections in (1, 2):
            answer = await call(server, body=body if streamed else BIG).open()
            assert answer.head.status == 413
            assert await whole(answer) == BODY
            assert server.connections == connections
        server.go.release(2)


@in_time
async def test_an_early_answer_and_a_reset_are_heard_or_lost() -> None:
    """Who hangs up on an unread body may take its own answer back (RFC 9112, section 9.6): no other error comes of it,
    and no wait."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as server:
        for _ in range(20):
            answer = await opened(call(server, body=BIG))
            if isinstance(answer, UpstreamLost):
                assert answer.detail in ("connection_reset", "no_answer")
            else:
                assert answer.head.status == 413
                assert await whole(answer) == b""


@in_time
async def test_an_early_answer_ends_a_body_that_never_comes() -> None:
    """Nothing waits for the caller's next piece once the upstream has answered."""
    async with serving(lambda peer, server: peer.send(SIZED)) as server:
        answer = await call(server, body=anyio.sleep_forever).open()
        assert await whole(answer) == BODY
