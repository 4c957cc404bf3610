"""What an attacker sends, a row each: refused with the documented status, and the server serves the next caller."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from resumestream.cli import servers
from resumestream.testing import Script

from .attack import SERVERS, Site, site
from .bare import CLOSED, answer, connected, exchange, request
from .wire import BODY, CHAT

CLOSES = CLOSED.status
"""The server hung up: it need not read what it refuses to its end."""
BEARER = ("Authorization", "Bearer test")
JSON = json.dumps(BODY).encode()


@pytest.fixture(scope="module", params=SERVERS)
def attacked(request: pytest.FixtureRequest) -> Iterator[Site]:
    """On asyncio and on trio."""
    with site(request.param) as attacked:
        yield attacked


# --- paths, hosts, redirects: nothing leaves the configured upstream ---------------------------------------------

PATHS = {
    "..": ("/llm/openai/../x", 400),
    ".. to the host": ("/llm/openai/../../etc/passwd", 400),
    ".. at the end": ("/llm/openai/v1/..", 400),
    "%2e%2e": ("/llm/openai/%2e%2e/x", 400),
    ".%2E": ("/llm/openai/v1/.%2E/x", 400),
    "%2e%2e%2f": ("/llm/openai/%2e%2e%2fx", 400),
    "twice encoded": ("/llm/openai/%252e%252e/x", 400),
    "..%252f": ("/llm/openai/..%252fx", 400),
    "backslash": ("/llm/openai/v1\\..\\x", 400),
    "%5c": ("/llm/openai/v1/..%5cx", 400),
    "path parameter": ("/llm/openai/..;a=b/x", 400),
    "//host": ("/llm/openai//{evil}/x", 400),
    "//host as the upstream": ("/llm//{evil}/x", 404),
    "///": ("/llm/openai///x", 400),
    "URL as the upstream": ("/llm/http://{evil}/x", 404),
    "URL as the upstream, encoded": ("/llm/http%3A%2F%2F{evil}%2Fx", 404),
    "upstream with user info": ("/llm/openai@{evil}/x", 404),
    "upstream with a port": ("/llm/{evil}/x", 404),
    "upstream is ..": ("/llm/../x", 404),
    "upstream is %2e%2e": ("/llm/%2e%2e/x", 404),
    "encoded slash in the upstream": ("/llm/openai%2f..%2fpaid/x", 404),
    "encoded slash in the mount": ("/llm%2fopenai/v1/x", 404),
    "reserved name": ("/llm/metrics/x", 404),
    "stream is ..": ("/llm/streams/../openai", 404),
    "stream is %2e%2e%2f": ("/llm/streams/%2e%2e%2f%2e%2e", 404),
    "encoded CRLF": ("/llm/openai/v1/a%0d%0aHost:%20{evil}", 404),
    "tab": ("/llm/openai/v1/\tx", 400),
    "non-ASCII": ("/llm/openai/v1/\xe9", 400),
    "non-ASCII in the query": ("/llm/openai/v1/x?a=\xe9", 400),
}


@pytest.mark.parametrize("row", PATHS)
def test_no_path_leads_out_of_the_upstream(attacked: Site, row: str) -> None:
    """Refused before any call. What a server does not even read is its own 400."""
    path, status = PATHS[row]
    before = attacked.calls
    for method in ("POST", "GET"):
        data = request(method, path.format(evil=attacked.evil.host), BEARER, ("Idempotency-Key", "p"), body=JSON)
        reply = exchange(attacked.base, data)
        routed = {404, 405} if "/streams/" in path else {status}
        assert reply.status in {*routed, 400}, reply
    assert attacked.calls == before
    attacked.serves()


KEPT = {
    "user info": "/v1/a@b",
    "URL behind a slash": "/v1/http://{evil}/x",
    "colon": "/v1:x@{evil}",
    "encoded slash": "/v1/a%2Fb",
    "encoded NUL": "/v1/%00",
    "host in the query": "/v1/x?url=http://{evil}/&..=/../",
    "@ in the query": "/v1/x?@{evil}",
}


@pytest.mark.parametrize("row", KEPT)
def test_what_cannot_lead_out_goes_up_byte_for_byte(attacked: Site, row: str) -> None:
    """To the configured upstream, below its base path, under its own name."""
    path = KEPT[row].format(evil=attacked.evil.host)
    assert exchange(attacked.base, request("POST", f"/llm/openai{path}", BEARER, body=JSON)).status in (200, 404)
    call = attacked.provider.ledger()[-1]
    assert (call.path, dict(call.headers)["host"]) == (f"/base{path}", attacked.upstream)
    attacked.serves()


HOSTS = ["{evil}", "{evil}@127.0.0.1", "127.0.0.1@{evil}", "127.0.0.1#@{evil}", "evil.example", "[::1", "a b", ""]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("target", ["/llm/openai/v1/x", "http://{evil}/llm/openai/v1/x", "http://{evil}/"])
def test_no_host_leads_out_of_the_upstream(attacked: Site, host: str, target: str) -> None:
    """Neither `Host`, nor the host of a whole URL, nor one a proxy would have named."""
    named = attacked.evil.host
    proxied = (("X-Forwarded-Host", named), ("X-Original-URL", f"http://{named}/"), ("Forwarded", f"host={named}"))
    attacked.provider.script(Script(body=b"{}"))
    data = request("GET", target.format(evil=named), BEARER, *proxied, host=host.format(evil=named))
    before, reply = attacked.calls, exchange(attacked.base, data)
    assert reply.status in (200, 400, 404)
    assert attacked.calls - before == (reply.status == 200)
    if reply.status == 200:
        sent = dict(attacked.provider.ledger()[-1].headers)
        assert sent["host"] == attacked.upstream
        assert not [name for name, value in sent.items() if named in value]
    attacked.serves()


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("to", ["http://{evil}/", "//{evil}/x", "/v1/elsewhere", "file:///etc/passwd", None])
def test_no_redirect_is_followed(attacked: Site, status: int, to: str | None) -> None:
    """502, for a call and for what passes through; a retry gets the same."""
    headers = {} if to is None else {"location": to.format(evil=attacked.evil.host)}
    for method in ("POST", "GET"):
        attacked.provider.script(Script(status=status, body=b"x", headers=headers))
        before = attacked.calls
        reply = attacked.client().ask(method, CHAT, BODY if method == "POST" else None)
        assert (reply.status, reply.json["error"]["code"]) == (502, "upstream-redirect")
        assert reply.headers.get("location", "/llm/").startswith("/llm/")
        assert attacked.calls == before + 1
    attacked.serves()


# --- smuggling: one request is one request -----------------------------------------------------------------------


def raw(*lines: str, body: bytes = b"", target: str = f"/llm{CHAT}") -> bytes:
    head = [f"POST {target} HTTP/1.1", "Host: 127.0.0.1", "Authorization: Bearer test", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


CHUNKED = b"2\r\n{}\r\n0\r\n\r\n"
SECOND = b"GET /llm/openai/v1/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer test\r\n\r\n"

SMUGGLED = {
    "both framings": raw("Content-Length: 5", "Transfer-Encoding: chunked", body=CHUNKED + SECOND),
    "both, the other way": raw("Transfer-Encoding: chunked", "Content-Length: 5", body=CHUNKED + SECOND),
    "two lengths": raw("Content-Length: 2", "Content-Length: 120", body=b"{}" + SECOND),
    "two lengths in one": raw("Content-Length: 2, 120", body=b"{}" + SECOND),
    "signed length": raw("Content-Length: +2", body=b"{}" + SECOND),
    "hexadecimal length": raw("Content-Length: 0x2", body=b"{}" + SECOND),
    "negative length": raw("Content-Length: -2", body=b"{}" + SECOND),
    "huge length": raw("Content-Length: " + "9" * 40, body=b"{}" + SECOND),
    "two encodings": raw("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=CHUNKED + SECOND),
    "unknown encoding": raw("Transfer-Encoding: xchunked", body=CHUNKED + SECOND),
    "encodings in one": raw("Transfer-Encoding: chunked, identity", body=CHUNKED + SECOND),
    "bad chunk size": raw("Transfer-Encoding: chunked", body=b"2;\n{}\r\nzz\r\n\r\n" + SECOND),
    "huge chunk size": raw("Transfer-Encoding: chunked", body=b"f" * 40 + b"\r\n{}" + SECOND),
    "bare CR in a value": raw("X-A: b\rX-Evil: 1", "Content-Length: 2", body=b"{}"),
    "NUL in a value": raw("X-A: b\0X-Evil: 1", "Content-Length: 2", body=b"{}"),
    "space before the colon": raw("X-Evil : 1", "Content-Length: 2", body=b"{}"),
    "no colon": raw("X-Evil", "Content-Length: 2", body=b"{}"),
    "empty name": raw(": X-Evil", "Content-Length: 2", body=b"{}"),
    "fold before any header": b"GET /llm/openai/x HTTP/1.1\r\n X-Evil: 1\r\nHost: 127.0.0.1\r\n\r\n",
    "two targets": b"GET /llm/openai/x /evil HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "garbage": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" * 10 + b"\r\n\r\n",
}


@pytest.mark.parametrize("row", SMUGGLED)
def test_what_could_be_two_requests_is_none(attacked: Site, row: str) -> None:
    """400, or 501 for an encoding nobody knows; the connection is closed, and nothing reached anybody."""
    attacked.serves()
    before = attacked.calls
    with connected(attacked.base) as sock:
        sock.sendall(SMUGGLED[row])
        reply = answer(sock, "POST")
        assert reply.status in (400, 413, 501, CLOSES), reply
        if "x-should-retry" in reply.headers and not reply.cut:  # hypercorn may fall over what follows
            assert reply.json["error"]["code"] == "ambiguous-framing"
        assert answer(sock).status == CLOSES
    assert attacked.calls == before
    attacked.serves()


@pytest.mark.parametrize(
    "line", ["X-A: b\r\n X-Evil: 1", "X-A: b\r\n\tX-Evil: 1", "X-A: b\nX-Evil: 1", "Connection: x-a, authorization-x"]
)
def test_folded_headers_never_become_new_ones_upstream(attacked: Site, line: str) -> None:
    """A server may refuse them, or read one value; a line that ends otherwise than others is a line of the caller's."""
    reply = exchange(attacked.base, raw(line, "Content-Length: 2", body=b"{}"))
    assert reply.status in (200, 400)
    if reply.status == 200:
        sent = dict(attacked.provider.ledger()[-1].headers)
        assert "x-evil" not in sent or "\n" in line.replace("\r\n", "")
        assert not [value for value in sent.values() if "\n" in value or "\r" in value]
    attacked.serves()


# --- sizes and times ---------------------------------------------------------------------------------------------


def many(count: int, size: int) -> list[tuple[str, str]]:
    return [(f"x{number}", "a" * size) for number in range(count)]


SIZES: dict[str, tuple[Callable[[], bytes], set[int]]] = {
    "100k headers": (lambda: request("GET", "/llm/openai/x", BEARER, *many(100_000, 1)), {431, 400, CLOSES}),
    "400 empty headers": (lambda: request("GET", "/llm/openai/x", BEARER, *many(400, 0)), {431}),
    "one header of 1 MB": (lambda: request("GET", "/llm/openai/x", BEARER, *many(1, 1_000_000)), {431, 400, CLOSES}),
    "one header over the cap": (lambda: request("GET", "/llm/openai/x", BEARER, *many(1, 12_000)), {431}),
    "a name over the cap": (lambda: request("GET", "/llm/openai/x", BEARER, ("x" * 12_000, "")), {431}),
    "on /streams": (lambda: request("GET", "/llm/streams", BEARER, *many(1, 12_000)), {431}),
    "on a preflight": (lambda: request("OPTIONS", "/llm/streams", *many(1, 12_000)), {431}),
    "a path over the cap": (lambda: request("GET", "/llm/openai/" + "x" * 12_000, BEARER), {414}),
    "a query over the cap": (lambda: request("GET", "/llm/openai/x?" + "x" * 12_000, BEARER), {414}),
    "a path of 1 MB": (lambda: request("GET", "/llm/openai/" + "x" * 1_000_000, BEARER), {414, 431, 400, CLOSES}),
    "a huge body with a key": (
        lambda: request("POST", f"/llm{CHAT}", BEARER, ("Idempotency-Key", "k"), body=b"x" * 200_000),
        {413},
    ),
    "a huge body in chunks": (
        lambda: raw("Idempotency-Key: k", "Transfer-Encoding: chunked", body=b"30d40\r\n" + b"x" * 200_000 + b"\r\n"),
        {413},
    ),
    "a huge body that is only said": (
        lambda: raw("Idempotency-Key: k", "Content-Length: 10000000000", body=b"x"),
        {413},
    ),
    "a huge body on /streams": (
        lambda: request("POST", "/llm/streams/x/cancel", BEARER, body=b"x" * 200_000),
        {413},
    ),
    "a long key": (lambda: request("POST", f"/llm{CHAT}", BEARER, ("Idempotency-Key", "k" * 256), body=JSON), {400}),
    "a credential for a label": (
        lambda: request("POST", f"/llm{CHAT}", BEARER, ("Stream-Label", "sk-" + "a1" * 20), body=JSON),
        {400},
    ),
    "nine labels": (lambda: request("POST", f"/llm{CHAT}", BEARER, *[("Stream-Label", "l")] * 9, body=JSON), {400}),
    "a list of 2000": (lambda: request("GET", "/llm/streams?limit=2000", BEARER), {400}),
    "an endless offset": (lambda: request("GET", f"/llm/streams?limit={'9' * 5000}", BEARER), {400}),
}  # fmt: skip


@pytest.mark.parametrize("row", SIZES)
def test_what_is_too_large_is_refused(attacked: Site, row: str) -> None:
    """By us with 413, 414 or 431; what is larger than the server itself reads, by the server with a 400, or cut."""
    make, statuses = SIZES[row]
    attacked.serves()
    before = attacked.calls
    reply = exchange(attacked.base, make())
    assert reply.status in statuses, reply
    ours = {413: "request-too-large", 414: "target-too-long", 431: "head-too-large"}.get(reply.status, "")
    assert ours in reply.body.decode("latin-1") or len(statuses) > 1  # the server's own has no body
    assert attacked.calls == before
    attacked.serves()


SLOW = {
    "with a key": ("POST", f"/llm{CHAT}", "Idempotency-Key: slow\r\n"),
    "without a key": ("POST", f"/llm{CHAT}", ""),
    "too large to be recorded": ("POST", f"/llm{CHAT}", "X-Large: 1\r\n"),
    "straight through": ("PUT", "/llm/openai/v1/files", ""),
    "to /streams": ("POST", "/llm/streams/x/cancel", ""),
}


@pytest.mark.parametrize("trickles", [False, True], ids=["stops", "trickles"])
@pytest.mark.parametrize("row", SLOW)
def test_a_slow_body_is_408(attacked: Site, row: str, trickles: bool) -> None:
    """Whether it stops or drips; the connection is closed, and the server serves others meanwhile."""
    method, target, header = SLOW[row]
    length = 200_000 if "Large" in header else 5_000
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test\r\n{header}"
    head += f"Content-Length: {length}\r\n\r\n"
    with connected(attacked.base) as sock:
        sock.sendall(head.encode() + b"{")
        assert attacked.client().post("meanwhile").status == 200
        while trickles:
            sock.settimeout(0.05)
            try:
                sock.sendall(b"x")
                trickles = not sock.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                continue
            except OSError:
                break
        sock.settimeout(5)
        reply = answer(sock, method)
        assert reply.status == 408, reply
        assert reply.json["type"] == "urn:resumestream:problem:request-timeout"
        assert reply.headers["connection"] == "close"
        with contextlib.suppress(OSError):
            assert sock.recv(1) == b""
    if "Idempotency" in header:
        again = attacked.client().post("slow", stream_offset="0")
        assert again.json["error"]["code"] == "nothing-to-resume"  # nothing was claimed
    attacked.serves()


async def test_a_head_without_an_end_does_not_stay(
    anyio_backend: servers.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`serve` closes a connection that brings no whole head in time, or too much of one, and serves the others."""
    monkeypatch.setattr(servers, "HEAD_S", 0.5)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    accepts, stop = anyio.Event(), anyio.Event()

    async def stopping() -> float:
        await stop.wait()
        return 0.1

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def ask() -> list[int]:
        with connected(url) as silent, connected(url) as slow, connected(url) as kept:
            slow.sendall(b"GET / HTTP/1.1\r\nhost:")
            statuses = []
            for _ in range(2):
                kept.sendall(request("GET", "/"))
                statuses.append(answer(kept).status)
            kept.sendall(b"GET /")
            while True:
                try:
                    slow.sendall(b" ")
                    slow.settimeout(0.05)
                    if not slow.recv(1):
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            assert silent.recv(1) == b""
            assert kept.recv(1) == b""
            assert exchange(url, b"GET /" + b"x" * 1_000_000).status in (400, 431, CLOSES)
            return [*statuses, exchange(url, request("GET", "/")).status]

    with anyio.fail_after(10), contextlib.closing(listener):
        async with anyio.create_task_group() as tasks:
            serve = servers.server(anyio_backend)
            tasks.start_soon(serve, app, listener, stopping, accepts.set)
            await accepts.wait()
            assert await anyio.to_thread.run_sync(ask) == [204, 204, 204]
            stop.set()
