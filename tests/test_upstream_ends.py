"""How every kind of end of a call is told apart: cut, garbage, unreachable, cancelled, let go."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pytest

from resumestream.errors import UpstreamLost, UpstreamUnreachable
from resumestream.ports import Source
from resumestream.upstream import Call, Upstream

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
    lost,
    opened,
    said,
    serving,
)

pytestmark = pytest.mark.anyio

# --- ends that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [CHUNKED, SIZED], ids=["chunked", "sized"])
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@in_time
async def test_a_connection_cut_at_any_byte_is_lost(answer: bytes, reset: bool) -> None:
    """Before the head there is no answer; in the body, all that came is given first, and then how it was lost."""

    def script(peer: Peer, server: Server) -> None:
        cut = server.connections - 1
        peer.read_request()
        peer.send(answer[:cut])
        if reset:
            peer.reset()

    head = answer.index(b"\r\n\r\n") + 4
    async with serving(script) as server:
        for cut in range(len(answer)):
            got = await opened(call(server))
            if isinstance(got, UpstreamLost):
                assert cut < head or reset
                assert got.detail == ("connection_reset" if reset else "no_answer")
                assert not got.retry
                continue
            body, detail = await lost(got)
            assert detail == ("connection_reset" if reset else "connection_closed")
            assert cut >= head
            if reset:
                assert BODY.startswith(body)
            elif answer is SIZED:
                assert body == answer[head:cut]
            else:
                assert body == b"".join((b"ab\r\nc"[: max(0, cut - head - 7)], b"defg"[: max(0, cut - head - 17)]))


@in_time
async def test_a_reset_of_an_unframed_answer_is_no_end() -> None:
    """An RST is never taken for the end of a body that ends with its connection."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(UNFRAMED)
        server.go.acquire()
        peer.reset()

    async with serving(script) as server:
        answer = await call(server).open()
        server.go.release()
        body, detail = await lost(answer)
        assert BODY.startswith(body)
        assert detail == "connection_reset"


GARBAGE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "bytes": b"\x16\x03\x01\x00\xff" * 10 + b"\r\n\r\n",
    "lengths that differ": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length that is none": HEAD + b"Content-Length: -1\r\n\r\n",
    "a header without a name": HEAD + b": x\r\n\r\n",
    "an unknown coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "status 999": b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n",
    "status 42": b"HTTP/1.1 042 No\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
@in_time
async def test_what_is_not_http_is_lost(answer: bytes) -> None:
    """And none of it is in the error."""
    async with serving(answering(answer)) as server:
        with pytest.raises(UpstreamLost) as error:
            await call(server).open()
    assert error.value.detail == "bad_framing"
    assert error.value.__context__ is None
    assert str(error.value).startswith(f"127.0.0.1:{server.port} ")


@pytest.mark.parametrize("bad", [b"zz\r\n", b"3\r\nabcX\r\n", b"123456789012345678901\r\n", b"0\r\n: x\r\n\r\n"])
@in_time
async def test_bad_chunks_end_what_came_before(bad: bytes) -> None:
    """The good chunks of the same read are given first."""
    async with serving(answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n" + bad)) as server:
        body, detail = await lost(await call(server).open())
    assert body in (b"ab", b"ababc")
    assert detail == "bad_framing"


# --- no connection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "why"),
    [("127.0.0.1", "connection refused"), ("localhost", "connection refused"), ("no-such-host.invalid", "name")],
)
@in_time
async def test_where_nobody_listens_nothing_was_sent(host: str, why: str) -> None:
    """The error names host, port and cause, and nothing of the request."""
    async with serving(answering()) as server:
        pass
    source = Call(
        "x", Upstream(server.url(host=host)), server.pool, "POST", b"/p?key=secret", [(b"x-api-key", b"secret")]
    )
    with pytest.raises(UpstreamUnreachable) as refused:
        await source.open()
    assert refused.value.retry
    assert f"{host}:{server.port} cannot be reached" in str(refused.value)
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


# --- letting go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["before the head", "in the upload", "in the body"])
@in_time
async def test_cancelling_closes_the_connection(stage: str) -> None:
    """The provider sees it at once, and nothing half used is left to be used again."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_head()
        if stage == "in the body":
            peer.send(CHUNKED[:-5])
        server.said.put("heard")
        if stage == "in the upload":
            server.go.acquire()
        peer.wait_for_hang_up()

    head = anyio.Event()

    async def make(source: Source) -> None:
        answer = await source.open()
        head.set()
        try:
            while True:
                await answer.receive()
        finally:
            await answer.aclose()

    async with serving(script) as server:
        async with anyio.create_task_group() as group:
            group.start_soon(make, call(server, body=BIG if stage == "in the upload" else b"{}"))
            await said(server)
            if stage == "in the body":
                await head.wait()
            group.cancel_scope.cancel()
        server.go.release()
        await server.hung_up()
        assert not any(server.pool._idle.values())


@in_time
async def test_cancelling_a_receive_closes_the_connection() -> None:
    """Before anybody lets go of the answer."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(CHUNKED[:-5])
        peer.wait_for_hang_up()

    async with serving(script) as server:
        answer = await call(server).open()
        assert await answer.receive()
        with anyio.move_on_after(0.05) as scope:
            while True:
                await answer.receive()
        assert scope.cancelled_caught
        await server.hung_up()
        await answer.aclose()


@in_time
async def test_an_answer_let_go_in_its_middle_is_closed() -> None:
    """The provider sees the hang-up; letting go twice is letting go once."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(CHUNKED[:-5])
        peer.wait_for_hang_up()

    async with serving(script) as server:
        answer = await call(server).open()
        await answer.aclose()
        await answer.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await answer.receive()
        await server.hung_up()
