"""Calls over TLS: who is trusted, and that TLS changes nothing else."""

from __future__ import annotations

import functools
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trustme

from resumestream.errors import UpstreamLost, UpstreamUnreachable
from resumestream.ports import Source
from resumestream.upstream import Upstream

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
    whole,
)

pytestmark = pytest.mark.anyio


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def served(*names: str) -> ssl.SSLContext:
    """A server's side, with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def cafile(tmp_path: Path) -> Iterator[Path]:
    with authority().cert_pem.tempfile(dir=str(tmp_path)) as path:
        yield Path(path)


def tls_call(server: Server, cafile: Path, **rest: Any) -> Source:
    return call(server, upstream=Upstream(server.url("https", "localhost"), verify=cafile), **rest)


@in_time
async def test_calls_over_tls_share_a_connection(cafile: Path) -> None:
    """Trusted by CA file or by a context of one's own; the name may be an address."""
    context = ssl.create_default_context(cafile=cafile)
    for host in ("localhost", "127.0.0.1"):
        async with serving(answering(CHUNKED, SIZED, SIZED), tls=served("localhost", "127.0.0.1")) as server:
            for verify in (cafile, str(cafile)):
                upstream = Upstream(server.url("https", host), verify=verify)
                assert await whole(await call(server, upstream=upstream).open()) == BODY
            assert server.connections == 1
            upstream = Upstream(server.url("https", host), verify=context)
            assert await whole(await call(server, upstream=upstream).open()) == BODY
            assert server.connections == 2  # who trusts otherwise shares nothing


@pytest.mark.parametrize(
    ("names", "trusted", "why"),
    [
        (("other.example",), True, "certificate was not accepted"),
        (("localhost",), False, "certificate was not accepted"),
        (None, True, "check that this port speaks TLS"),
    ],
    ids=["wrong name", "unknown authority", "plain HTTP"],
)
@in_time
async def test_who_is_not_trusted_gets_no_request(
    names: tuple[str, ...] | None, trusted: bool, why: str, cafile: Path
) -> None:
    """The error says why; not a byte of the request was sent."""

    def script(peer: Peer, server: Server) -> None:
        server.said.put(peer.sock.recv(1) if names else "spoke plainly")
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script, tls=served(*names) if names else None) as server:
        upstream = Upstream(server.url("https", "localhost"), verify=cafile if trusted else True)
        with pytest.raises(UpstreamUnreachable, match=why) as refused:
            await call(server, upstream=upstream).open()
        assert f"localhost:{server.port} cannot be reached" in str(refused.value)
    assert [*server.said.queue] == ([] if names else ["spoke plainly"])


@pytest.mark.parametrize("answer", ["silence", "hang-up", "reset"])
@in_time
async def test_a_handshake_that_never_ends_is_bounded(answer: str) -> None:
    """A port that accepts and says nothing, or hangs up, is unreachable after `connect_s` at the latest."""

    def script(peer: Peer, server: Server) -> None:
        peer.sock.recv(65_536)
        if answer == "silence":
            peer.wait_for_hang_up()
        elif answer == "reset":
            peer.reset()

    async with serving(script) as server:
        upstream = Upstream(server.url("https"), connect_s=0.2 if answer == "silence" else 20)
        why = "no connection within 0.2 s" if answer == "silence" else "hung up during the TLS handshake"
        with pytest.raises(UpstreamUnreachable, match=why):
            await call(server, upstream=upstream).open()


@in_time
async def test_cancelling_a_handshake_closes_it(cafile: Path) -> None:
    """At once, though the server says nothing."""

    def script(peer: Peer, server: Server) -> None:
        peer.sock.recv(65_536)
        server.said.put("hello came")
        peer.wait_for_hang_up()

    async with serving(script) as server:
        async with anyio.create_task_group() as group:
            group.start_soon(tls_call(server, cafile).open)
            await said(server)
            group.cancel_scope.cancel()
        await server.hung_up()


@in_time
async def test_records_that_came_together_are_received_together(cafile: Path) -> None:
    """Each event may be a TLS record of its own; those of one read are one piece."""
    records = [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *(b"4\r\n%04d\r\n" % number for number in range(100))]

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        for record in [*records, b"0\r\n\r\n"]:
            peer.tls.seal(record)
        peer.tls.flush()

    async with serving(script, tls=served("localhost")) as server:
        answer = await tls_call(server, cafile).open()
        assert await answer.receive() == b"".join(b"%04d" % number for number in range(100))
        assert await whole(answer) == b""


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("goodbye", [False, True])
@pytest.mark.parametrize("lenient", [False, True])
@in_time
async def test_only_a_goodbye_ends_an_unframed_answer(framed: bool, goodbye: bool, lenient: bool, cafile: Path) -> None:
    """Anybody on the way can send a FIN; TLS says who it came from, whatever the context's options are. A framed answer
    needs no goodbye."""
    context = ssl.create_default_context(cafile=cafile)
    if lenient:
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    else:
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(SIZED if framed else UNFRAMED)
        if goodbye:
            peer.tls.seal_goodbye()
            peer.tls.flush()

    async with serving(script, tls=served("localhost")) as server:
        upstream = Upstream(server.url("https", "localhost"), verify=context)
        answer = await call(server, upstream=upstream).open()
        if framed or goodbye:
            assert await whole(answer) == BODY
        else:
            assert await lost(answer) == (BODY, "connection_closed")


@in_time
async def test_a_broken_record_is_lost(cafile: Path) -> None:
    """What TLS cannot verify is not read; what came before is."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        peer.send(CHUNKED[:-5])
        peer.raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        peer.wait_for_hang_up()

    async with serving(script, tls=served("localhost")) as server:
        assert await lost(await tls_call(server, cafile).open()) == (BODY, "tls_failed")


@in_time
async def test_an_answer_before_the_whole_request_is_heard_over_tls(cafile: Path) -> None:
    """The rest of the body is not sent, and the answer is still read to its end."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\n" + BODY[:4])
        server.go.acquire()
        peer.send(BODY[4:])
        server.go.acquire()

    async with serving(script, tls=served("localhost")) as server:
        answer = await tls_call(server, cafile, body=BIG).open()
        assert answer.head.status == 413
        server.go.release()
        assert await whole(answer) == BODY
        server.go.release()


@in_time
async def test_an_early_answer_and_a_reset_are_heard_or_lost_over_tls(cafile: Path, anyio_backend: str) -> None:
    """TLS takes no answer back that the socket still holds; asyncio drops what it holds when a send fails."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    async with serving(script, tls=served("localhost")) as server:
        for _ in range(20):
            answer = await opened(tls_call(server, cafile, body=BIG))
            if isinstance(answer, UpstreamLost):
                assert anyio_backend == "asyncio" or sys.platform != "linux"
                assert answer.detail in ("connection_reset", "no_answer")
            else:
                assert answer.head.status == 413
                assert await whole(answer) == b""


@pytest.mark.parametrize("stale", ["goodbye", "cut", "spoke unasked"])
@in_time
async def test_a_stale_connection_gets_no_call_over_tls(stale: str, cafile: Path) -> None:
    """Also where the upstream's goodbye, or what it said unasked, came in one read with its answer."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_request()
        if server.connections == 2:
            peer.send(SIZED)
            return
        peer.tls.seal(SIZED)
        if stale == "goodbye":
            peer.tls.seal_goodbye()
        elif stale == "spoke unasked":
            peer.tls.seal(SIZED)
        peer.tls.flush()
        if stale != "cut":
            peer.raw.recv(65_536)

    async with serving(script, tls=served("localhost")) as server:
        assert await whole(await tls_call(server, cafile).open()) == BODY
        if stale == "cut":
            await server.hung_up()
        assert await whole(await tls_call(server, cafile).open()) == BODY
        assert server.connections == 2


@in_time
async def test_cancelling_an_upload_closes_the_connection_over_tls(cafile: Path) -> None:
    """The provider sees it, though it never read on."""

    def script(peer: Peer, server: Server) -> None:
        peer.read_head()
        server.said.put("heard")
        server.go.acquire()
        peer.wait_for_hang_up()

    async with serving(script, tls=served("localhost")) as server:
        async with anyio.create_task_group() as group:
            group.start_soon(opened, tls_call(server, cafile, body=BIG))
            await said(server)
            group.cancel_scope.cancel()
        server.go.release()
        await server.hung_up()


@in_time
async def test_a_client_certificate_that_is_asked_for_is_a_loss(cafile: Path) -> None:
    """TLS 1.3 refuses after the handshake, so the request may have been read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost").configure_cert(context)
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    async with serving(answering(SIZED), tls=context) as server:
        error = await opened(tls_call(server, cafile))
        assert isinstance(error, UpstreamLost)
        assert error.detail in ("tls_failed", "connection_reset")
