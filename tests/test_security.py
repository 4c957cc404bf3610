"""What an attacker sends, a row each: refused with the documented status, and the server serves the next caller."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from resumestream import Policy, Principal, ResumeStream, Upstream
from resumestream.cli import servers
from resumestream.identity import sign_ticket
from resumestream.model import StreamId
from resumestream.testing import Script, ScriptedProvider, running

from .bare import CLOSED, answer, connected, exchange, request
from .wire import BODY, CHAT, Client, Reply

SERVERS = ["uvicorn", "hypercorn-trio"]
CLOSES = CLOSED.status
"""The server hung up: it need not read what it refuses to its end."""
BEARER = ("Authorization", "Bearer test")
JSON = json.dumps(BODY).encode()
LIMITS = {"max_request_bytes": 100_000, "receive_s": 0.3, "max_head_bytes": 12_000}


class Evil:
    """Whoever redirects, Host tricks and odd paths would have us call."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.called = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._listener.accept()[0].close()
                self.called += 1

    def close(self) -> None:
        self._listener.close()


@dataclass
class Site:
    """A server under attack. `client` is who it is for."""

    provider: ScriptedProvider
    streams: ResumeStream
    base: str
    evil: Evil
    upstream: str

    def client(self, credential: str = "test") -> Client:
        return Client(f"{self.base}/llm", authorization=f"Bearer {credential}")

    @property
    def calls(self) -> int:
        return len(self.provider.ledger())

    def serves(self) -> None:
        """One normal call and its replay, whatever the attack left of the provider's script."""
        self.provider.reset()
        first, again = self.client().post("normal"), self.client().post("normal")
        assert (first.status, again.status, again.headers["idempotent-replayed"]) == (200, 200, "true")
        assert first.body == again.body
        assert self.evil.called == 0


@contextlib.contextmanager
def site(server: Any, authorize: Any = None) -> Iterator[Site]:
    with contextlib.closing(Evil()) as evil, ScriptedProvider(default=Script(tokens=3)) as provider:
        upstreams = {
            "openai": Upstream(f"{provider.url}/base"),
            "paid": Upstream(f"{provider.url}/base", headers={"authorization": "Bearer operators"}),
        }
        policy = Policy(drain_s=0, settle_s=0.05, first_byte_s=5, **LIMITS)  # type: ignore[arg-type]
        streams = ResumeStream("memory:", upstreams, policy, authorize)
        host = Starlette()
        streams.install(host, "/llm")
        with running(host, server=server) as base:
            yield Site(provider, streams, base, evil, provider.url.removeprefix("http://"))


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


# --- other people's streams --------------------------------------------------------------------------------------

STATES = ["pending", "streaming", "completed", "failed", "refused", "cancelled", "expired", "deleted"]
ROUTES = [
    ("GET", "", {}),
    ("GET", "?offset=0", {}),
    ("GET", "?offset=99999", {}),
    ("GET", "?offset=nonsense", {}),
    ("GET", "?offset=now&live=nonsense", {}),
    ("GET", "?from_event=99999", {}),
    ("GET", "?live=tail", {}),
    ("GET", "?live=events", {}),
    ("GET", "", {"last_event_id": "0000000000000000"}),
    ("GET", "?ticket=", {}),
    ("GET", "?ticket=v1.e30.00", {}),
    ("HEAD", "", {}),
    ("GET", "/info", {}),
    ("POST", "/cancel", {}),
    ("DELETE", "", {}),
    ("DELETE", "?forget=true", {}),
    ("DELETE", "?forget=nonsense", {}),
]  # fmt: skip


def made(site: Site, state: str) -> str:
    """A stream of `owner` in that state."""
    provider, owner = site.provider, site.client("owner")
    scripts = {
        "pending": Script(fault="stall", before_head=True),
        "streaming": Script(tokens=3, hold_at=1),
        "failed": Script(fault="fin", at_event=1),
        "refused": Script(status=401),
        "cancelled": Script(tokens=3, hold_at=1),
    }
    provider.script(scripts.get(state, Script(tokens=3)))
    headers = {"stream_label": state, "stream_retain": "0" if state == "expired" else ""}
    if state in ("pending", "streaming", "cancelled"):
        stream = owner.post(f"is-{state}", prefer="respond-async", **headers).stream
        provider.wait_for(lambda calls: bool(calls) and calls[-1].held, timeout_s=5)
    else:
        stream = owner.post(f"is-{state}", **headers).stream
    if state == "cancelled":
        assert owner.ask("POST", f"/streams/{stream}/cancel").status == 202
        owner.get(f"/streams/{stream}?live=tail")
    if state == "deleted":
        assert owner.ask("DELETE", f"/streams/{stream}").status == 204
    if state == "expired":
        owner.get(f"/streams/{stream}?live=tail")
    return stream


def looks(reply: Reply, stream: str) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but its date and the id that was asked for."""
    headers = {name: value for name, value in reply.headers.items() if name != "date"}
    return reply.status, headers, reply.body.replace(stream.encode(), b"ID")


@pytest.mark.parametrize("state", STATES)
def test_what_is_not_yours_is_not_there(attacked: Site, state: str) -> None:
    """On every route, in every state: the 404 of an id that never was, byte for byte; and nothing changes."""
    owner, foreign = attacked.client("owner"), attacked.client("foreign")
    stream = made(attacked, state)
    never = "0" * len(stream)
    before = owner.get(f"/streams/{stream}/info")
    nobody = Client(f"{attacked.base}/llm", authorization="", x_forwarded_for="192.0.2.1")
    tickets = [
        attacked.streams.ticket(stream, ttl_s=0),
        attacked.streams.ticket(never, allow=["read", "stop", "delete"]),
    ]
    with_tickets = [(method, f"{path}?ticket={ticket}", {}) for method, path, _ in ROUTES[:1] for ticket in tickets]
    for client in (foreign, nobody):
        for method, path, headers in [*ROUTES, *with_tickets]:
            there = client.ask(method, f"/streams/{stream}{path}", **headers)
            not_there = client.ask(method, f"/streams/{never}{path}", **headers)
            assert there.status == 404, (method, path)
            assert looks(there, stream) == looks(not_there, never), (method, path)
    assert before.status == (410 if state in ("expired", "deleted") else 200)
    assert owner.get(f"/streams/{stream}/info").json == before.json
    assert owner.get(f"/streams?label={state}").json["streams"][0]["id"] == stream
    attacked.provider.release()
    owner.ask("DELETE", f"/streams/{stream}?forget=true")
    attacked.serves()


def test_neither_keys_nor_labels_nor_cursors_lead_to_others(attacked: Site) -> None:
    """They find, consent to, delete and count one's own; a foreign id is one that never was."""
    owner, foreign = attacked.client("owner"), attacked.client("foreign")
    stream = owner.post("shared-key", stream_label="shared").stream
    foreigns = foreign.post("shared-key", stream_label="of-foreign")
    assert foreigns.stream != stream
    assert "idempotent-replayed" not in foreigns.headers
    for query in ("label=shared", "state=sealed&label=shared"):
        assert foreign.get(f"/streams?{query}").json == {"streams": []}
    assert [found["id"] for found in foreign.get("/streams?key=shared-key").json["streams"]] == [foreigns.stream]
    never = "0" * len(stream)
    for ask in (
        lambda which: foreign.get(f"/streams?after={which}"),
        lambda which: foreign.post("shared-key", stream_retry=which),
        lambda which: foreign.post("another-key", stream_retry=which),
    ):
        there, not_there = ask(stream), ask(never)
        assert there.status in (400, 422)
        assert looks(there, stream) == looks(not_there, never)
    assert foreign.ask("DELETE", "/streams?label=shared&forget=true").status == 204
    assert owner.get(f"/streams/{stream}").status == 200
    assert owner.post("shared-key", stream_label="shared").stream == stream
    attacked.serves()


# --- tickets -----------------------------------------------------------------------------------------------------


def forged(site: Site, stream: str, other: str) -> Iterator[tuple[str, str]]:
    """Every ticket that must not do, and why."""
    good = site.streams.ticket(stream)
    version, payload, mac = good.split(".")
    _, others, _ = site.streams.ticket(other).split(".")
    _, stops, _ = site.streams.ticket(stream, allow=["stop", "delete"]).split(".")
    yield from ((f"cut at {at}", good[:at]) for at in range(len(good)))
    for at in range(0, len(good), 3):
        yield f"character {at}", good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
    yield "longer", good + "0"
    yield "a part more", good + ".x"
    yield "another version", f"v2.{payload}.{mac}"
    yield "no version", f"{payload}.{mac}"
    yield "no signature", f"{version}.{payload}."
    yield "upper case", f"{version}.{payload}.{mac.upper()}"
    yield "another stream's claims", f"{version}.{others}.{mac}"
    yield "other claims", f"{version}.{stops}.{mac}"
    yield "another stream's", site.streams.ticket(other)
    yield "another action's", site.streams.ticket(stream, allow=["stop", "delete"])
    yield "expired", site.streams.ticket(stream, ttl_s=0)
    yield "another secret's", sign_ticket([b"guess" * 8], StreamId(stream), ["read"], None)
    yield "no secret's", sign_ticket([b""], StreamId(stream), ["read"], None)
    yield "padded", f"{version}.{payload}=.{mac}"
    yield "huge", f"{version}.{'A' * 8000}.{mac}"
    yield "not ASCII", f"{version}.{payload}.%F0%9F%8E%AB"
    yield "NUL", f"{good}%00"
    yield "the second of two", f"&ticket={good}&ticket=x"
    yield "empty", ""


def test_no_forged_ticket_does(attacked: Site) -> None:
    """404, as if there were no stream, also where the caller's credential would do: a ticket is what was shown."""
    owner = attacked.client("owner")
    stream, other = owner.post("ticketed").stream, owner.post("other").stream
    nobody = Client(f"{attacked.base}/llm", authorization="", origin="https://evil.example")
    good = attacked.streams.ticket(stream)
    count = 0
    for why, ticket in forged(attacked, stream, other):
        reply = nobody.get(f"/streams/{stream}?ticket={ticket}")
        assert reply.status == 404, why
        count += 1
    assert count > 150
    assert nobody.get(f"/streams/{stream}?ticket={good}").status == 200
    assert nobody.ask("HEAD", f"/streams/{stream}?ticket={good}").status == 200
    for method, path, status in [
        ("POST", f"/streams/{stream}/cancel", 404),
        ("DELETE", f"/streams/{stream}", 404),
        ("GET", f"/streams/{other}", 404),
        ("GET", f"/streams/{stream}/other", 404),
        ("GET", "/streams", 403),
        ("DELETE", "/streams?label=x", 403),
        ("GET", "/openai/v1/models", 403),
        ("POST", CHAT, 403),
    ]:
        mark = "&" if "?" in path else "?"
        assert nobody.ask(method, f"{path}{mark}ticket={good}").status == status, (method, path)
    attacked.serves()


# --- drive-bys: web pages, rebinding and proxies -----------------------------------------------------------------

DRIVE_BYS = {
    "form on a page": {"origin": "https://evil.example", "content_type": "text/plain"},
    "sandboxed frame": {"origin": "null"},
    "page of this very server": {"origin": "http://127.0.0.1:8787", "sec_fetch_site": "same-origin"},
    "page on another port": {"origin": "http://127.0.0.1:3000", "sec_fetch_site": "same-site"},
    "fetch without CORS": {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    "image": {"sec_fetch_site": "cross-site", "sec_fetch_dest": "image"},
    "page of an odd site": {"sec_fetch_site": "nobody-knows"},
    "DNS rebinding": {"host": "evil.example"},
    "DNS rebinding with a port": {"host": "evil.example:8787"},
    "rebinding, same origin": {"host": "evil.example", "sec_fetch_site": "same-origin"},
    "loopback in a name": {"host": "127.0.0.1.evil.example"},
    "X-Forwarded-For": {"x_forwarded_for": "192.0.2.1"},
    "X-Forwarded-For, loopback": {"x_forwarded_for": "127.0.0.1"},
    "X-Forwarded-Host": {"x_forwarded_host": "localhost"},
    "Forwarded": {"forwarded": "for=192.0.2.1;host=localhost"},
    "X-Real-IP": {"x_real_ip": "127.0.0.1"},
    "Via": {"via": "1.1 proxy"},
    "tunnel": {"cf_connecting_ip": "192.0.2.1"},
    "Tailscale": {"tailscale_user_login": "ann@example"},
}


@pytest.mark.parametrize("row", DRIVE_BYS)
def test_no_drive_by_passes_the_loopback_rule(attacked: Site, row: str) -> None:
    """Nobody's call, the operator's credential, a credential that a page could write into its URL: 403 before any call.
    What was bought so is not there."""
    drive_by, nobody = DRIVE_BYS[row], Client(f"{attacked.base}/llm", authorization="")
    cross_site = drive_by.get("sec_fetch_site", drive_by.get("origin", "same-origin")) != "same-origin"
    local = nobody.post("local").stream
    paid = nobody.ask("POST", "/paid/v1/chat/completions", BODY, idempotency_key="paid").stream
    before = attacked.calls
    asked = [
        *(
            (method, path, "")
            for method in ("POST", "GET", "PUT", "DELETE")
            for path in (CHAT, "/paid/v1/chat/completions")
        ),
        ("POST", "/paid/v1/chat/completions", "Bearer guess"),
        ("GET", "/streams", ""),
        ("GET", "/streams", "Bearer guess"),
        ("DELETE", "/streams?label=x", ""),
        *([("POST", f"{CHAT}?key=guess", "")] if cross_site else []),
    ]
    for method, path, credential in asked:
        body = BODY if method in ("POST", "PUT") else None
        reply = nobody.ask(method, path, body, authorization=credential, **drive_by)
        assert (reply.status, reply.json["type"].rpartition(":")[2]) == (403, "authorize-required"), (method, path)
    for stream in (local, paid):
        for method, path in (("GET", ""), ("GET", "/info"), ("POST", "/cancel"), ("DELETE", "")):
            assert nobody.ask(method, f"/streams/{stream}{path}", **drive_by).status == 404
    assert attacked.calls == before
    assert nobody.get(f"/streams/{local}").status == 200
    attacked.serves()


PREFLIGHT = {
    "origin": "https://evil.example",
    "access_control_request_method": "POST",
    "access_control_request_headers": "authorization, idempotency-key",
    "access_control_request_private_network": "true",
}


@pytest.mark.parametrize(
    "path", [CHAT, "/paid/v1/x", "/nobody/x", "/streams", "/streams/x", "/streams/x/cancel", "/healthz"]
)
def test_no_preflight_succeeds(attacked: Site, path: str) -> None:
    """Answered here with nothing that a browser takes for a yes; nor does any answer to a page say so."""
    before = attacked.calls
    reply = attacked.client().ask("OPTIONS", path, **PREFLIGHT)
    assert (reply.status, reply.body) == (204, b"")
    assert not [name for name in reply.headers if name.startswith("access-control-")]
    assert attacked.calls == before
    given = {"access-control-allow-origin": "*", "access-control-allow-credentials": "true"}
    attacked.provider.script(Script(tokens=3, headers=given), Script(tokens=3, headers=given))
    for method in ("POST", "GET"):
        reply = attacked.client().ask(method, CHAT, BODY if method == "POST" else None, origin="https://evil.example")
        assert reply.status in (200, 404)
        assert not [name for name in reply.headers if name.startswith("access-control-")]
        assert reply.headers["x-content-type-options"] == "nosniff"
    attacked.serves()


# --- the order of refusals ---------------------------------------------------------------------------------------


async def nobody_may(conn: HTTPConnection, action: str) -> Principal | None:
    return Principal("ann") if conn.headers.get("authorization") == "Bearer ann" else None


@pytest.fixture(scope="module", params=SERVERS)
def hooked(request: pytest.FixtureRequest) -> Iterator[Site]:
    with site(request.param, nobody_may) as hooked:
        yield hooked


WRONG: list[tuple[str, str, dict[str, str], int, int]] = [
    ("POST", CHAT, {}, 401, 200),
    ("POST", CHAT, {"idempotency_key": "a b"}, 401, 400),
    ("POST", CHAT, {"idempotency_key": "k", "stream_scope": "s"}, 401, 400),
    ("POST", CHAT, {"stream_offset": "0"}, 401, 412),
    ("POST", CHAT, {"stream_retain": "x"}, 401, 400),
    ("POST", "/nobody/v1/x", {}, 401, 404),
    ("POST", "/openai/v1/../x", {}, 401, 400),
    ("GET", "/openai/v1/..%2fx", {}, 401, 400),
    ("GET", "/nobody/x", {}, 401, 404),
    ("GET", "/streams", {}, 401, 200),
    ("GET", "/streams?limit=x", {}, 401, 400),
    ("GET", "/streams?after=x", {}, 401, 400),
    ("DELETE", "/streams", {}, 401, 400),
    ("GET", "/streams/x?offset=x", {}, 404, 404),
    ("POST", "/streams/x/cancel", {}, 404, 404),
]


@pytest.mark.parametrize(("method", "path", "headers", "nobodys", "anns"), WRONG)
def test_who_may_not_learns_nothing_else(
    hooked: Site, method: str, path: str, headers: dict[str, str], nobodys: int, anns: int
) -> None:
    """The hook comes before everything that could be wrong; on a single stream its no is a 404."""
    body = BODY if method == "POST" else None
    assert hooked.client("bob").ask(method, path, body, **headers).status == nobodys
    assert hooked.client("ann").ask(method, path, body, **headers).status == anns


def test_on_one_stream_404_then_410_then_400(hooked: Site) -> None:
    """Whatever else is wrong with the question."""
    ann, bob = hooked.client("ann"), hooked.client("bob")
    stream = ann.post("order").stream
    wrong = ("?offset=x", "?offset=99999", "?live=x", "?from_event=x")
    assert [bob.get(f"/streams/{stream}{query}").status for query in wrong] == [404] * 4
    assert [ann.get(f"/streams/{stream}{query}").status for query in wrong] == [400, 416, 400, 400]
    ann.ask("DELETE", f"/streams/{stream}")
    assert [bob.get(f"/streams/{stream}{query}").status for query in wrong] == [404] * 4
    assert [ann.get(f"/streams/{stream}{query}").status for query in wrong] == [410] * 4


def test_a_ticket_is_not_asked_of_the_hook(hooked: Site) -> None:
    """It is signed for whoever holds it."""
    stream = hooked.client("ann").post("for-bob").stream
    assert hooked.client("bob").get(f"/streams/{stream}?ticket={hooked.streams.ticket(stream)}").status == 200
