"""Connections are used again only where that cannot cost a billable call."""

from __future__ import annotations

import anyio
import anyio.to_thread
import h11
import pytest

from resumestream.errors import UpstreamLost
from resumestream.upstream import Upstream
from resumestream.upstream import pool as pool_module

from .scripted_peer import (
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
    said,
    serving,
    whole,
)

pytestmark = pytest.mark.anyio


@in_time
async def test_calls_in_a_row_share_a_connection() -> None:
    """Chunked or sized, once each answer ended as framed."""
    async with serving(answering(CHUNKED, SIZED, CHUNKED)) as server:
        for _ in range(3):
            assert await whole(await call(server).open()) == BODY
    assert server.connections == 1


@in_time
async def test_calls_at_once_have_their_own_connections() -> None:
    """None waits for another, and no answer gets to another's caller."""

    def script(peer: Peer, server: Server) -> None:
        while True:
            body = peer.read_request().partition(b"\r\n\r\n")[2]
            server.said.put("read")
            server.go.acquire()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def echo(server: Server, text: bytes) -> None:
        assert await whole(await call(server, body=text).open()) == text

    async with serving(script) as server:
        for _ in range(2):
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(echo, server, b"call %d" % number)
                for _ in range(20):
                    await said(server)
                server.go.release(20)
        assert server.connections == 20


ONCE = {
    "closed by its header": HEAD + b"Connection: close\r\nContent-Length: 9\r\n\r\n" + BODY,
    "HTTP/1.0": SIZED.replace(b"1.1", b"1.0"),
    "two framings": CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1),
    "more than its answer": SIZED + SIZED,
}


@pytest.mark.parametrize("answer", ONCE.values(), ids=ONCE.keys())
@in_time
async def test_a_doubtful_connection_is_used_once(answer: bytes) -> None:
    """What it would say next may not be the answer to what is asked next."""
    async with serving(answering(answer, answer)) as server:
        for _ in range(2):
            assert await whole(await call(server).open()) == BODY
    assert server.connections == 2


@in_time
async def test_an_unframed_answer_uses_its_connection_up() -> None:
    """Its end was the end of the connection."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(UNFRAMED)

    async with serving(script) as server:
        for _ in range(2):
            assert await whole(await call(server).open()) == BODY
    assert server.connections == 2


@pytest.mark.parametrize("stale", ["closed", "reset", "spoke unasked"])
@in_time
async def test_a_stale_connection_gets_no_call(stale: str) -> None:
    """An idle connection that the upstream closed, or spoke on, is let go before the request is sent."""

    def script(peer: Peer, server: Server) -> None:
        server.said.put(peer.read_request())
        peer.send(SIZED)
        if server.connections == 1:
            server.go.acquire()
            if stale == "reset":
                peer.reset()
            elif stale == "spoke unasked":
                peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            server.said.put("stale")
        if stale == "spoke unasked":
            peer.wait_for_hang_up()

    async with serving(script) as server:
        assert await whole(await call(server).open()) == BODY
        await said(server)
        server.go.release()
        assert await said(server) == "stale"
        if stale == "closed":
            await server.hung_up()
        assert await whole(await call(server).open()) == BODY
        assert server.connections == 2


@in_time
async def test_what_the_loop_read_ahead_is_not_the_next_answer() -> None:
    """Also where an answer nobody asked for hides behind one that fills a read to its last byte."""
    head = HEAD + b"Content-Length: %d\r\n\r\n"
    filling = head % (65_536 - len(head % 65_000)) + bytes(65_536 - len(head % 65_000))
    async with serving(answering(filling + SIZED.replace(BODY, b"unasked!!"), SIZED)) as server:
        await whole(await call(server).open())
        await whole(await call(server).open())
        assert server.connections == 2


@in_time
async def test_a_call_on_a_connection_that_dies_is_not_repeated() -> None:
    """The request was sent, so it may have been billed: the caller hears so, and the upstream hears nothing more."""

    def script(peer: Peer, server: Server) -> None:
        server.said.put(peer.read_request())
        peer.send(SIZED)
        server.said.put(peer.read_request())

    async with serving(script) as server:
        assert await whole(await call(server).open()) == BODY
        with pytest.raises(UpstreamLost) as error:
            await call(server).open()
        assert error.value.detail == "no_answer"
        assert server.connections == 1
        assert server.said.qsize() == 2


@in_time
async def test_an_idle_connection_is_given_up_before_the_upstream_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `IDLE_S` it is closed at the next use of the pool, whatever that is for."""
    async with serving(answering(SIZED, SIZED)) as server, serving(answering(SIZED)) as other:
        other.pool = server.pool
        assert await whole(await call(server).open()) == BODY
        monkeypatch.setattr(pool_module, "IDLE_S", 0)
        assert await whole(await call(other).open()) == BODY
        await server.hung_up()
        assert await whole(await call(server).open()) == BODY
        assert server.connections == 2


@in_time
async def test_only_so_many_are_kept_and_the_latest_is_used_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is above the limit is closed; the one that was idle for the shortest time is the likeliest alive."""
    monkeypatch.setattr(pool_module, "IDLE_PER_ORIGIN", 2)

    def script(peer: Peer, server: Server) -> None:
        number = b"%09d" % server.connections
        while True:
            peer.read_request()
            peer.send(HEAD + b"Content-Length: 9\r\n\r\n" + number)

    async with serving(script) as server:
        held = [await call(server).open() for _ in range(3)]
        assert [await whole(answer) for answer in held] == [b"%09d" % number for number in (1, 2, 3)]
        await server.hung_up()
        assert await whole(await call(server).open()) == b"%09d" % 2
        assert server.connections == 3


@in_time
async def test_a_connection_whose_sending_was_given_up_is_not_used_again() -> None:
    """Its upstream may still wait for the rest of the request."""
    async with serving(answering(SIZED)) as server:
        connection = await server.pool.connect(Upstream(server.url()).origin, connect_s=5)
        request = h11.Request(method="GET", target="/", headers=[("host", "x")])

        async def no_body() -> bytes:
            return b""

        await connection.request(request, no_body)
        assert await connection.receive() == BODY
        connection._wire.give_up_sending()
        assert not connection.renew()
        await connection.aclose()


@in_time
async def test_closing_the_pool_closes_what_is_idle() -> None:
    """And nothing that is in use."""
    async with serving(answering(CHUNKED, SIZED)) as server:
        used = await call(server).open()
        await whole(await call(server).open())
        await server.pool.aclose()
        await server.hung_up()
        assert await whole(used) == BODY
        assert server.connections == 2
