"""The gateway over real sockets: what goes up, what comes back, and what is refused before it costs anything."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from resumestream import Policy, Principal, Upstream
from resumestream.testing import Script, ScriptedProvider

from .scripted_peer import Peer, Server, listening
from .wire import BODY, CHAT, Client, served

TOKENS = 5
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=TOKENS)) as provider:
        yield provider


@pytest.fixture(scope="module", params=["uvicorn", "hypercorn-trio"])
def client(request: pytest.FixtureRequest, provider: ScriptedProvider) -> Iterator[Client]:
    """On asyncio and on trio."""
    policy = Policy(drain_s=0, max_request_bytes=100_000, keepalive_s=0.2, first_byte_s=0.6, stall_s=0.6)
    with served(provider, policy=policy, server=request.param) as client:
        yield client


def calls(provider: ScriptedProvider) -> int:
    return len(provider.ledger())


# --- what goes up and comes back --------------------------------------------------------------------------------


def test_only_what_is_the_providers_goes_up(client: Client, provider: ScriptedProvider) -> None:
    """Its own headers and body as sent; ours, the browser's and the proxies' stay here."""
    client.post(
        "headers", cookie="a=b", origin_="", x_custom="kept", stream_label="mine", te="trailers", via="1.1 proxy",
        x_forwarded_for="10.0.0.1", connection="x-hop", x_hop="1", accept_encoding="gzip", last_event_id="theirs",
    )  # fmt: skip
    call = provider.ledger()[-1]
    sent = dict(call.headers)
    assert sent["authorization"] == "Bearer test"
    assert sent["x-custom"] == "kept"
    assert sent["last-event-id"] == "theirs"
    assert sent["accept-encoding"] == "identity"
    assert sent["host"] == urlsplit(provider.url).netloc
    ours = {"cookie", "idempotency-key", "stream-label", "te", "via", "x-forwarded-for", "x-hop", "connection"}
    assert not sent.keys() & ours
    assert int(sent["content-length"]) == len(json.dumps(BODY))


def test_the_answer_is_the_providers_with_ours_beside(client: Client, provider: ScriptedProvider) -> None:
    """Hop-by-hop, cookies, CORS and an upstream's own Stream-* never pass; a replay has no rate limits."""
    given = {
        "set-cookie": "a=b", "access-control-allow-origin": "*", "stream-id": "forged", "location": "/elsewhere",
        "x-ratelimit-remaining": "9", "openai-version": "1", "connection": "x-hop", "x-hop": "1",
        "idempotent-replayed": "true", "cache-control": "public",
    }  # fmt: skip
    provider.script(Script(tokens=TOKENS, headers=given))
    first, replay = client.post("answer"), client.post("answer")
    for reply in (first, replay):
        assert reply.headers["openai-version"] == "1"
        assert reply.headers["cache-control"] == "no-store, no-transform"
        assert reply.headers["x-accel-buffering"] == "no"
        assert reply.headers["location"] == f"/llm/streams/{reply.stream}?live=events"
        assert reply.headers["stream-offset"] == "0000000000000000"
        assert reply.headers["stream-node"] != "forged" != reply.stream
        assert not reply.headers.keys() & {"set-cookie", "access-control-allow-origin", "x-hop"}
    assert (first.headers.get("x-ratelimit-remaining"), replay.headers.get("x-ratelimit-remaining")) == ("9", None)
    assert (first.headers.get("idempotent-replayed"), replay.headers.get("idempotent-replayed")) == (None, "true")
    assert first.body == replay.body
    assert client.get(replay.headers["location"].removeprefix("/llm")).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_methods_pass_through_unrecorded(client: Client, provider: ScriptedProvider, method: str) -> None:
    """Body up, answer down, also a large one; no stream comes of it."""
    body = b"x" * 500_000 if method in ("PUT", "PATCH") else None
    provider.script(Script(body=b"y" * 500_000, headers={"content-type": "text/plain"}))
    reply = client.ask(method, "/openai/v1/files/f%2Fg?a=b", body)
    assert (reply.status, reply.body) == (200, b"y" * 500_000)
    assert "stream-id" not in reply.headers
    call = provider.ledger()[-1]
    assert (call.method, call.path) == (method, "/v1/files/f%2Fg?a=b")
    assert call.request_bytes == len(body or b"")


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PURGE"])
@pytest.mark.parametrize("path", ["/openai/v1/files", "/streams", "/healthz"])
def test_no_other_method_is_relayed(client: Client, provider: ScriptedProvider, method: str, path: str) -> None:
    """An upstream that answers TRACE would tell the operator's credential."""
    before = len(provider.ledger())
    reply = client.ask(method, path)
    assert (reply.status, reply.json["type"]) == (405, "urn:resumestream:problem:method-not-allowed")
    assert reply.headers["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert len(provider.ledger()) == before


def test_head_passes_through(client: Client, provider: ScriptedProvider) -> None:
    """Status and headers without a body."""
    provider.script(Script(body=b"", headers={"x-size": "7"}))
    reply = client.ask("HEAD", "/openai/v1/files/f")
    assert (reply.status, reply.body, reply.headers["x-size"]) == (200, b"", "7")
    assert provider.ledger()[-1].method == "HEAD"


def test_a_pass_through_that_breaks_stays_broken(client: Client, provider: ScriptedProvider) -> None:
    """Whatever the method."""
    provider.script(Script(body=b"y" * 5000, framing="chunked", fault="fin", at_byte=1000))
    reply = client.get("/openai/v1/models")
    assert (reply.cut, len(reply.body)) == (True, 1000)


def test_a_definite_refusal_is_verbatim_for_all_and_releases_the_key(
    client: Client, provider: ScriptedProvider
) -> None:
    """Status, headers and body; readable by id afterwards; the next POST asks the provider again."""
    before = calls(provider)
    provider.script(Script(status=429, headers={"x-odd": "1"}), Script(status=503), Script(tokens=TOKENS))
    first, second, third = client.post("refused"), client.post("refused"), client.post("refused")
    assert [reply.status for reply in (first, second, third)] == [429, 503, 200]
    assert first.headers["x-odd"] == "1"
    assert "error" in first.json
    assert calls(provider) - before == 3
    assert len({reply.stream for reply in (first, second, third)}) == 3
    kept = client.get(f"/streams/{first.stream}")
    assert (kept.status, kept.body, kept.headers["stream-outcome"]) == (200, first.body, "provider_error")
    assert client.ask("HEAD", f"/streams/{first.stream}").headers["stream-upstream-status"] == "429"
    assert client.get(f"/streams/{third.stream}/info").json["previous"] == second.stream


def test_a_recorded_retry_after_is_an_answer_without_a_call(client: Client, provider: ScriptedProvider) -> None:
    """With the time that remains."""
    provider.script(Script(status=429, headers={"retry-after": "30"}))
    first, before = client.post("later"), calls(provider)
    second = client.post("later")
    assert (second.status, second.body, second.stream) == (429, first.body, first.stream)
    assert 0 < int(second.headers["retry-after"]) <= 30
    assert calls(provider) == before


def test_an_error_as_the_first_event_releases_the_key(client: Client, provider: ScriptedProvider) -> None:
    """Inside a 200, too; after an event it does not."""
    provider.script(Script(tokens=TOKENS, error_at=0), Script(tokens=TOKENS, error_at=2))
    first, second = client.post("in-band"), client.post("in-band")
    assert first.stream != second.stream
    assert b'"error"' in first.body
    again = client.post("in-band")
    assert (again.stream, again.body) == (second.stream, second.body)
    assert client.ask("HEAD", f"/streams/{second.stream}").headers["stream-outcome"] == "provider_error"


def test_a_redirect_is_not_followed(client: Client, provider: ScriptedProvider) -> None:
    """502, naming it, and for a recorded call the stream."""
    for ask in (lambda: client.post("redirect"), lambda: client.get("/openai/v1/models")):
        provider.script(Script(status=307, headers={"location": "http://127.0.0.1:1/"}))
        reply = ask()
        assert (reply.status, reply.json["type"]) == (502, "urn:resumestream:problem:upstream-redirect")
    provider.script(Script(status=307, headers={"location": "http://127.0.0.1:1/"}))
    reply = client.post("redirect-told")
    assert reply.headers["location"] == f"/llm/streams/{reply.stream}"
    assert client.get(f"{reply.headers['location'].removeprefix('/llm')}/info").json["upstream_status"] == 307


def test_a_compressed_answer_is_kept_as_it_came(client: Client, provider: ScriptedProvider) -> None:
    """Though identity was asked for: bytes with their Content-Encoding, by every way to read them."""
    body = bytes(range(256)) * 4
    provider.script(Script(body=body, headers={"content-type": "text/event-stream", "content-encoding": "gzip"}))
    reply = client.post("gzip")
    assert (reply.body, reply.headers["content-encoding"]) == (body, "gzip")
    page = client.get(f"/streams/{reply.stream}")
    assert (page.body, page.headers["content-encoding"], page.headers["stream-outcome"]) == (body, "gzip", "completed")


# --- keys and headers of ours -----------------------------------------------------------------------------------


def test_resuming_by_key_at_an_offset(client: Client, provider: ScriptedProvider) -> None:
    """From there on, in the provider's own form; an unknown key starts nothing."""
    whole, before = client.post("resume"), calls(provider)
    at = whole.body.index(b"\n\n") + 2
    for headers in ({"stream_offset": str(at)}, {"last_event_id": f"{at:016}"}):
        reply = client.post("resume", **headers)
        assert (reply.body, reply.headers["stream-offset"]) == (whole.body[at:], f"{at:016}")
        reply = client.post("never", **headers)
        assert (reply.status, reply.json["error"]["code"]) == (412, "nothing-to-resume")
    assert client.post("resume", stream_offset="99999").status == 416
    assert client.post("resume", stream_offset="x").status == 400
    assert calls(provider) == before


def test_respond_async(client: Client, provider: ScriptedProvider) -> None:
    """202 with a place to read once the claim is durable; the official SDKs get their stream all the same."""
    reply = client.post("async", prefer="respond-async")
    assert (reply.status, reply.body, reply.headers["preference-applied"]) == (202, b"", "respond-async")
    assert reply.headers["location"] == f"/llm/streams/{reply.stream}"
    followed = client.get(f"/streams/{reply.stream}?live=tail")
    assert followed.body == client.post("async").body
    again = client.post("async", prefer="respond-async")
    assert (again.status, again.headers["stream-outcome"]) == (202, "completed")
    assert "stream-outcome" not in reply.headers
    assert "prefer" not in dict(provider.ledger()[-1].headers)
    assert client.post("async", prefer="respond-async", user_agent="OpenAI/Python 3.52.0").status == 200


def test_keep_alives_are_for_readers_only(client: Client, provider: ScriptedProvider) -> None:
    """A silent stream gets them, in no log; not where exact bytes are asked for."""
    provider.script(Script(tokens=TOKENS, hold_at=1))
    reading = client.open("POST", CHAT, BODY, idempotency_key="quiet")
    exact = client.open("POST", CHAT, BODY, idempotency_key="quiet", stream_exact="true")
    seen = b""
    while not seen.endswith(b"\n:\n"):
        seen += reading.read(1)
    provider.release()
    whole, plain = reading.rest(), exact.rest()
    assert plain.body == client.get(f"/streams/{plain.stream}").body
    assert (seen + whole.body).replace(b"\n:\n", b"\n") == plain.body


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"idempotency_key": "a b"}, 400, "invalid-header"),
        ({"idempotency_key": "x" * 256}, 400, "invalid-header"),
        ({"idempotency_key": "k", "stream_scope": "s"}, 400, "invalid-header"),
        ({"idempotency_key": "k", "stream_retain": "-1"}, 400, "invalid-header"),
        ({"idempotency_key": "k", "stream_on_disconnect": "explode"}, 400, "invalid-header"),
        ({"idempotency_key": "k", "stream_label": ",".join("abcdefghi")}, 400, "invalid-header"),
        ({"idempotency_key": "k", "stream_match": "body"}, 400, "invalid-header"),
        ({"idempotency_key": "new", "stream_retry": "nothing"}, 422, "retry-mismatch"),
        ({"stream_offset": "0"}, 412, "nothing-to-resume"),
        ({"idempotency_key": "k", "authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln"}, 400, "principal-unstable"),
    ],
)  # fmt: skip
def test_wrong_headers_are_refused(
    client: Client, provider: ScriptedProvider, headers: dict[str, str], status: int, code: str
) -> None:
    """With a problem and an error that SDKs show, and no call."""
    before = calls(provider)
    reply = client.ask("POST", CHAT, BODY, **headers)
    assert (reply.status, reply.json["type"]) == (status, f"urn:resumestream:problem:{code}")
    assert reply.json["error"]["code"] == code
    assert reply.headers["x-should-retry"] == "false"
    assert calls(provider) == before


@pytest.mark.parametrize(
    "path",
    ["/openai/../../etc", "/openai/v1/%2e%2e/x", "/openai//evil.example/x", "/openai/v1\\x", "/openai/%2E%2e%2fx"],
)
def test_paths_cannot_leave_the_upstream(client: Client, provider: ScriptedProvider, path: str) -> None:
    """400 before any call."""
    before = calls(provider)
    assert client.ask("POST", path, BODY, idempotency_key="path").status == 400
    assert calls(provider) == before


def test_a_body_over_the_cap(client: Client, provider: ScriptedProvider) -> None:
    """413 with a key; without one it passes through, all of it and unrecorded."""
    body, before = b"x" * 200_000, calls(provider)
    reply = client.ask("POST", CHAT, body, idempotency_key="large")
    assert (reply.status, reply.json["error"]["code"]) == (413, "request-too-large")
    assert calls(provider) == before
    provider.script(Script(body=b"{}"))
    reply = client.ask("POST", CHAT, body)
    assert (reply.status, "stream-id" in reply.headers) == (200, False)
    assert provider.ledger()[-1].request_bytes == len(body)


def test_who_may(client: Client, provider: ScriptedProvider) -> None:
    """Without a credential: programs on this machine only."""
    assert client.ask("POST", CHAT, BODY, authorization="").status == 200
    for headers in ({"origin": "http://evil.example"}, {"x_forwarded_for": "1.2.3.4"}, {"host": "evil.example"}):
        reply = client.ask("POST", CHAT, BODY, authorization="", **headers)
        assert (reply.status, reply.json["error"]["code"]) == (403, "authorize-required")
    assert client.ask("OPTIONS", CHAT, None, origin="http://evil.example").status == 204


def test_unknown_upstream(client: Client) -> None:
    """404 that names those there are."""
    reply = client.ask("POST", "/opnai/v1/chat/completions", BODY, idempotency_key="k")
    assert (reply.status, "openai" in reply.json["detail"]) == (404, True)


# --- upstreams that fail ----------------------------------------------------------------------------------------


def test_an_unreachable_upstream(provider: ScriptedProvider) -> None:
    """502 that says why; nothing was sent, so the key is free and asking again can help."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    upstreams = Upstream(f"http://127.0.0.1:{port}")
    with served(provider, upstreams={"openai": provider.url, "dead": upstreams}) as client:
        first = client.ask("POST", "/dead/v1/chat/completions", BODY, idempotency_key="k")
        second = client.ask("POST", "/dead/v1/chat/completions", BODY, idempotency_key="k")
        assert first.status == second.status == 502
        assert first.stream != second.stream
        assert f"127.0.0.1:{port}" in first.json["detail"]
        assert "x-should-retry" not in first.headers
        assert client.get("/dead/v1/models").status == 502


def test_a_silent_upstream(client: Client, provider: ScriptedProvider) -> None:
    """504, and never again by itself: it may have been billed."""
    provider.script(Script(fault="stall", before_head=True))
    first, before = client.post("silent"), calls(provider)
    assert (first.status, first.json["outcome"], first.headers["x-should-retry"]) == (504, "stalled", "false")
    assert f"Stream-Retry: {first.stream}" in first.json["detail"]
    assert client.post("silent").stream == first.stream
    assert calls(provider) == before
    provider.release()
    consent = client.post("silent", stream_retry=first.stream)
    assert (consent.status, calls(provider)) == (200, before + 1)
    provider.script(Script(fault="stall", before_head=True))
    assert client.get("/openai/v1/models").status == 504
    provider.release()


def test_an_answer_that_breaks_before_its_head(client: Client, provider: ScriptedProvider) -> None:
    """502 for all who wait and all who come, without another call."""
    provider.script(Script(fault="fin", before_head=True))
    first, before = client.post("headless"), calls(provider)
    assert (first.status, first.headers["stream-outcome"]) == (502, "truncated")
    assert client.post("headless").status == 502
    assert calls(provider) == before


def test_a_failed_answer_without_events(client: Client, provider: ScriptedProvider) -> None:
    """Live it breaks; late callers get 502 with the outcome, and the partial by id."""
    provider.script(Script(body=b'{"half": "of it"}', framing="chunked", fault="fin", at_byte=8, headers=JSON))
    live = client.ask("POST", CHAT, {**BODY, "stream": False}, idempotency_key="json-cut")
    late = client.ask("POST", CHAT, {**BODY, "stream": False}, idempotency_key="json-cut")
    assert (live.status, live.cut) in ((200, True), (502, False))
    assert (late.status, late.json["outcome"]) == (502, "truncated")
    assert client.get(f"/streams/{late.stream}").body == b'{"half":'


def test_a_caller_that_leaves_before_the_head(client: Client, provider: ScriptedProvider) -> None:
    """Without a key nobody can find the stream again, so the call is given up; with one it goes on."""
    for key in ("", "leaves"):
        provider.script(Script(tokens=TOKENS, fault="stall", before_head=True))
        url = urlsplit(client.base)
        with socket.create_connection((url.hostname, url.port)) as sock:
            head = f"idempotency-key: {key}\r\n" if key else ""
            sock.sendall(
                f"POST /llm{CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer test\r\n{head}"
                "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}".encode()
            )
            provider.wait_for(lambda calls: calls[-1].held)
        if key:
            provider.release()
            provider.wait_for(lambda calls: calls[-1].finished)
            assert not provider.ledger()[-1].disconnected
        else:
            provider.wait_for(lambda calls: calls[-1].disconnected)
            provider.release()


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-asyncio", "hypercorn-trio", "granian"])
def test_a_caller_that_leaves_an_answered_upload(server: str, provider: ScriptedProvider) -> None:
    """The upstream answers before it has the body, and nobody reads the rest: the leave is seen all the same."""

    def early(peer: Peer, server: Server) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nearly")
        peer.wait_for_hang_up()

    with listening(early) as upstream, served(provider, upstreams={"early": upstream.url()}, server=server) as client:
        url = urlsplit(client.base)
        with socket.create_connection((url.hostname, url.port), 10) as sock:
            sock.sendall(
                b"PUT /llm/early/v1/files/f HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer test\r\n"
                b"content-length: 1000000\r\n\r\n" + b"x" * 1000
            )
            answer = b""
            while b"early" not in answer:
                answer += sock.recv(65536)
            assert not upstream.ended.acquire(blocking=False)
        assert upstream.ended.acquire(timeout=5)


def test_a_body_that_says_it_is_too_large_is_not_waited_for(client: Client) -> None:
    """413 from its length alone."""
    url = urlsplit(client.base)
    with socket.create_connection((url.hostname, url.port), timeout=5) as sock:
        sock.sendall(
            f"POST /llm{CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer test\r\nidempotency-key: k\r\n"
            "content-type: application/json\r\ncontent-length: 900000\r\n\r\n{".encode()
        )
        assert sock.recv(100).startswith(b"HTTP/1.1 413 ")


def test_an_offset_behind_every_kind_of_line_end(client: Client, provider: ScriptedProvider) -> None:
    """Every id that an EventSource is given is one that it can come back with."""
    events = [
        b"data: a\n\n",
        b"data: b\r\n\r\n",
        b"data: c\n\r\n",
        b"data: d\r\n\n",
        b"data: e\r\r\n",
        b"data: f\r\r",
        b"data: g\r\r",
    ]
    provider.script(Script(body=b"".join(events), headers={"content-type": "text/event-stream"}))
    stream = client.ask("POST", "/openai/v1/plain", BODY, idempotency_key="ends").stream
    ids = [
        line[4:].decode()
        for line in client.get(f"/streams/{stream}?live=events").body.splitlines()
        if line[:3] == b"id:"
    ]
    assert len(ids) == len(events)
    for index, last_id in enumerate(ids[:-1]):
        reply = client.get(f"/streams/{stream}", last_event_id=last_id)
        assert (reply.status, reply.body.count(b"data: ")) == (200, len(events) - 1 - index)


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-trio"])
def test_headers_that_cannot_be_made(provider: ScriptedProvider, server: str, caplog: pytest.LogCaptureFixture) -> None:
    """500 of our own, and the reason in our log only; nobody is called."""

    async def vault(principal: Principal) -> dict[str, str]:
        raise RuntimeError("the vault is sealed")

    upstreams = {"openai": Upstream(provider.url, headers=vault)}
    before = len(provider.ledger())
    with served(provider, server=server, upstreams=upstreams) as client:
        for reply in (client.post("k"), client.post(), client.get("/openai/v1/models")):
            assert (reply.status, reply.headers["content-type"]) == (500, "application/problem+json")
            assert reply.json["error"]["code"] == "headers-failed"
            assert b"vault" not in reply.body
            assert "x-should-retry" not in reply.headers
    assert caplog.text.count("RuntimeError: the vault is sealed") == 3
    assert len(provider.ledger()) == before
