"""GW: the gateway."""

from __future__ import annotations

import hashlib

from resumestream.testing.provider import Call, Script

from ..context import Context
from ..paths import CHAT
from ..registry import check

SSE = "text/event-stream"


def the_call(ctx: Context) -> Call:
    """The one call at the upstream, once its request is there. Raises Failed."""
    (call,) = ctx.upstream.wait_for(lambda calls: len(calls) == 1 and calls[0].request_sha256 != "", "one call")
    return call


@check("RS-GW-01")
def request_as_it_came(ctx: Context) -> None:
    """The upstream gets path, query and body byte for byte."""
    target = f"/v1/a%20b%2f{CHAT}?b=2&a=1&c=%2F&d"
    body = b'{ "stream" : true,\r\n "model":"scripted", "messages":[], "x": "\xc3\xa9\\u00e9" }'
    ctx.post(path=target, body=body).has_status(200).end()
    call = the_call(ctx)
    ctx.expect(call.path == target, f"the path {target} at the upstream", call.path)
    seen = call.request_bytes, call.request_sha256
    ctx.expect(seen == (len(body), hashlib.sha256(body).hexdigest()), "the body as it was sent", seen)


@check("RS-GW-02")
def status(ctx: Context) -> None:
    """A recorded call is answered with the upstream's status, whatever it is."""
    for code in (200, 201, 400, 404, 418, 429, 500):
        script = Script(status=code, body=b'data: {"a": 1}\n\n' if code < 300 else b"{}")
        ctx.post(script, key=None).has_status(code).ends_framed().value("stream-id")


BODIES = (
    (b'data: {"a":1}\r\n\r\n: c\r\n\r\nid: 7\r\ndata: x\r\ndata:y\r\n\r\n', SSE),
    (b"data: 1\r\rdata: 2\r\r", SSE),
    (b"data: 1\n\ndata: 2\r\n\r\n\n\ndata: \xff\xfe\n\n", SSE),
    (bytes(range(256)) * 9, "application/octet-stream"),
    (b'{"a": 1}\n{"b": 2}\n', "application/x-ndjson"),
)
"""With a path of no known dialect: what comes through has nothing to do with what it means."""


@check("RS-GW-03")
def bytes_unchanged(ctx: Context) -> None:
    """A body comes through unchanged, whatever its line ends, its media type and the pieces it came in."""
    for body, kind in BODIES:
        for chunking in ("events", "random:7", (1,)):
            script = Script(body=body, headers={"content-type": kind}, chunking=chunking)
            ctx.post(script, path="/v1/anything", key=None).has_status(200).ends_framed().has_body(body)
    answer = ctx.post(Script(tokens=20, chunking="random:3")).has_status(200).ends_framed()
    (call,) = ctx.upstream.calls()[-1:]
    answer.has_payload(ctx.upstream.sent(call))


@check("RS-GW-04")
def passed_through(ctx: Context) -> None:
    """Each other method goes to the upstream and back, makes no stream, and a key beside it has no effect."""
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        ctx.post(Script(body=b'{"a": 1}', headers={"content-type": "application/json"}), key=None).end()
        before = len(ctx.upstream.calls())
        for _ in range(2):
            answer = ctx.ask(method, "/main/v1/files/1", headers={"idempotency-key": ctx.key}).has_status(200)
            answer.ends_framed().lacks_header("stream-id").lacks_header("idempotent-replayed")
            answer.has_body(b"" if method == "HEAD" else b'{"a": 1}')
        seen = [call.method for call in ctx.upstream.calls()[before:]]
        ctx.expect(seen == [method, method], f"two calls {method} at the upstream", seen)


@check("RS-GW-05")
def options(ctx: Context) -> None:
    """OPTIONS is 204 with `Allow`, and the upstream is not asked."""
    ctx.ask("OPTIONS", f"/main{CHAT}").has_status(204).value("allow")
    ctx.upstream.count_is(0)


@check("RS-GW-06")
def other_methods(ctx: Context) -> None:
    """TRACE and a method that nobody knows are 405, and the upstream is not asked."""
    for method in ("TRACE", "PROPFIND"):
        ctx.ask(method, f"/main{CHAT}").is_problem(405, "method-not-allowed")
    ctx.upstream.count_is(0)


@check("RS-GW-07")
def upgrades(ctx: Context) -> None:
    """A request to upgrade the connection is 501, and the upstream is not asked."""
    fields = {"connection": "Upgrade", "upgrade": "example/1"}
    ctx.ask("GET", f"/main{CHAT}", headers=fields).is_problem(501, "upgrade-unsupported")
    ctx.upstream.count_is(0)


@check("RS-GW-08")
def unknown_upstream(ctx: Context) -> None:
    """A first path segment that names no upstream is 404 `unknown-upstream`, for every method."""
    ctx.post(upstream="conformance-nowhere").is_problem(404, "unknown-upstream")
    ctx.get("/conformance-nowhere/v1/models").is_problem(404, "unknown-upstream")
    ctx.upstream.count_is(0)


@check("RS-GW-09")
def no_way_out(ctx: Context) -> None:
    """A path that could climb above the upstream's is 400, however it is encoded, and the upstream is not asked."""
    climbing = ("/v1/../../x", "/v1/%2e%2e/x", "/v1/%252e%252e/x", "//example.com/x", "/v1\\..\\x", "/..")
    for path in climbing:
        ctx.post(path=path).is_problem(400, "invalid-query")
        ctx.get(f"/main{path}").is_problem(400, "invalid-query")
    ctx.upstream.count_is(0)


@check("RS-GW-10")
def redirects(ctx: Context) -> None:
    """A redirect of the upstream becomes 502, and it is not followed."""
    for code in (301, 307):
        script = Script(status=code, headers={"location": f"{CHAT}?elsewhere"})
        ctx.post(script, key=None).is_problem(502, "upstream-redirect")
    ctx.upstream.count_is(2)


OURS = {
    "x-idempotency-key": "",
    "stream-label": "one",
    "stream-on-disconnect": "continue",
    "stream-exact": "true",
    "stream-retain": "60",
    "stream-match": "key",
}


@check("RS-GW-11")
def own_headers_stay(ctx: Context) -> None:
    """Headers of this protocol do not reach the upstream, nor does its own preference within `Prefer`."""
    own = {**OURS, "x-idempotency-key": ctx.key}
    ctx.post(headers={**own, "prefer": "respond-async, wait=5"}).has_status(202).end()
    ctx.post(key=None, headers={"stream-scope": ctx.key, "stream-occurrence": "1"}).has_status(200).end()
    names = {*own, "idempotency-key", "stream-scope", "stream-occurrence"}
    calls = ctx.upstream.wait_for(lambda calls: len(calls) == 2, "two calls")
    seen = {name for call in calls for name, _ in call.headers} & names
    ctx.expect(not seen, "none of this protocol's headers at the upstream", sorted(seen))
    preferred = [value.strip() for call in calls for name, value in call.headers if name == "prefer"]
    ctx.expect(preferred == ["wait=5"], "prefer: wait=5 at the upstream", preferred)
    failed = ctx.post(Script(tokens=5, fault="rst", at_event=2), Script(tokens=5), key=f"{ctx.key}-2").end()
    ctx.sealed(failed.stream)
    ctx.post(key=f"{ctx.key}-2", headers={"stream-retry": failed.stream}).has_status(200).ends_framed()
    found = [name for call in ctx.upstream.count_is(4) for name, _ in call.headers if name == "stream-retry"]
    ctx.expect(not found, "no stream-retry at the upstream", found)


CONNECTION = (
    *("keep-alive", "x-hop", "cookie", "origin", "referer", "sec-fetch-mode", "sec-ch-ua", "proxy-authorization"),
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"),
)


@check("RS-GW-12")
def connection_headers_stay(ctx: Context) -> None:
    """What belongs to the caller's connection, browser or proxies does not reach the upstream."""
    fields = {**dict.fromkeys(CONNECTION, ctx.key), "connection": "keep-alive, x-hop", "te": "trailers"}
    ctx.post(headers=fields).has_status(200).end()
    seen = [name for name, value in the_call(ctx).headers if value in (ctx.key, fields["te"], fields["connection"])]
    ctx.expect(not seen, f"none of {', '.join(fields)} at the upstream", seen)


@check("RS-GW-13")
def other_headers_go_on(ctx: Context) -> None:
    """Every other header of the caller reaches the upstream with its value, its credential among them."""
    own = {
        **ctx.caller,
        "accept": "text/event-stream",
        "content-type": "application/json; charset=utf-8",
        "user-agent": "conformance/1 (x; y)",
        "x-anything": 'a,  b;c="d"',
        "anthropic-version": "2023-06-01",
        "x-stainless-retry-count": "0",
        "openai-organization": "org-1",
    }
    ctx.post(headers=own).has_status(200).end()
    seen = dict(the_call(ctx).headers)
    missing = {name: value for name, value in own.items() if seen.get(name) != value}
    ctx.expect(not missing, f"at the upstream {missing}", {name: seen.get(name) for name in missing})


@check("RS-GW-14")
def no_coding_is_asked_for(ctx: Context) -> None:
    """The upstream is asked for the answer as it is, whatever codings the caller takes."""
    ctx.post(headers={"accept-encoding": "gzip, br"}).has_status(200).end()
    ctx.get("/main/v1/models", headers={"accept-encoding": "gzip"}).has_status(200).end()
    fields = [field for call in ctx.upstream.calls() for field in call.headers]
    seen = [value for name, value in fields if name == "accept-encoding"]
    ctx.expect(seen == ["identity"] * 2, "accept-encoding: identity at the upstream", seen)


@check("RS-GW-15")
def the_head_does_not_wait(ctx: Context) -> None:
    """The status line and headers come while the upstream has not sent a byte of the body."""
    answer = ctx.post(Script(tokens=5, hold_at=0)).has_status(200).has_header("content-type", f"{SSE}; charset=utf-8")
    answer.expect(answer.body == b"", "no body yet", answer.body)
    ctx.upstream.release()
    answer.until_events(5).ends_framed()


@check("RS-GW-16")
def events_do_not_wait(ctx: Context) -> None:
    """Each whole event comes while the upstream waits before the next one."""
    answer = ctx.post(Script(tokens=5, hold_at=1)).until_events(1)
    watched = ctx.read(answer.stream, "live=events").until_events(1)
    ctx.upstream.release()
    answer.ends_framed()
    watched.ends_framed()


@check("RS-GW-17")
def attached_while_pending(ctx: Context) -> None:
    """Who asks again before the upstream has answered gets its status and headers once they are there."""
    script = Script(status=201, body=b"data: 1\n\n", headers={"x-request-id": "req_1"}, fault="stall", before_head=True)
    first = ctx.post(script, path="/v1/anything")
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held before its head")
    second = ctx.post(path="/v1/anything")
    ctx.upstream.release()
    stream = first.has_status(201).ends_framed().stream
    second.has_status(201).has_header("stream-id", stream).has_header("x-request-id", "req_1").ends_framed()
    ctx.upstream.count_is(1)


@check("RS-GW-18")
def respond_async(ctx: Context) -> None:
    """`Prefer: respond-async` is 202 with the stream's place, before the upstream has answered."""
    answer = ctx.post(Script(tokens=5, fault="stall", before_head=True), headers={"prefer": "respond-async"})
    answer.has_status(202).has_header("preference-applied", "respond-async")
    answer.has_header("location", f"{ctx.root}/streams/{answer.stream}").ends_framed()
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held before its head")
    ctx.upstream.release()
    ctx.post().has_status(200).has_header("stream-id", answer.stream).ends_framed()
    ctx.upstream.count_is(1)


@check("RS-GW-19")
def no_202_for_sdks(ctx: Context) -> None:
    """An official SDK, which cannot use a 202, gets the answer."""
    for agent in ("OpenAI/Python 2.1.0", "AsyncOpenAI/Python 2.1.0", "Anthropic/JS 0.60.0", "google-genai-sdk/1.2.0"):
        fields = {"prefer": "respond-async", "user-agent": agent}
        ctx.post(Script(tokens=1), key=None, headers=fields).has_status(200).until_events(1).ends_framed()


@check("RS-GW-20")
def last_event_id(ctx: Context) -> None:
    """A `Last-Event-ID` of 16 digits is the place to resume at; any other goes to the upstream."""
    first = ctx.post(Script(tokens=9), headers={"last-event-id": "17"}).has_status(200).ends_framed()
    seen = dict(the_call(ctx).headers).get("last-event-id")
    ctx.expect(seen == "17", "last-event-id: 17 at the upstream", seen)
    at = len(first.events[0].raw)
    resumed = ctx.post(headers={"last-event-id": f"{at:016}"}).has_status(200)
    resumed.has_header("stream-offset", f"{at:016}").has_body(first.payload[at:])
    ctx.upstream.count_is(1)


@check("RS-GW-21")
def reserved_names(ctx: Context) -> None:
    """Names that are reserved lead to no upstream: what the server has not there itself is 404 `not-found`."""
    for name in ("streams", "ds", "usage", "healthz", "readyz", "metrics", "ui"):
        ctx.post(upstream=name).is_problem(404, "not-found")
    ctx.upstream.count_is(0)


@check("RS-GW-22")
def half_a_body(ctx: Context) -> None:
    """A POST whose caller leaves before its body came whole is not called."""
    fields = ("idempotency-key", ctx.key), ("content-type", "application/json"), ("content-length", "1000")
    half = ctx.wire("POST", f"/main{CHAT}", *fields, body=b'{"model": ')
    ctx.ask("POST", f"/main{CHAT}", wire=half).leave()
    # A call for it would be there before one that was asked for later.
    ctx.post(Script(tokens=1)).has_status(200).ends_framed().lacks_header("idempotent-replayed")
    ctx.upstream.count_is(1)


@check("RS-GW-23")
def ambiguous_framing(ctx: Context) -> None:
    """Content-Length beside Transfer-Encoding is 400, and the connection is closed."""
    fields = ("content-length", "5"), ("transfer-encoding", "chunked")
    ambiguous = ctx.wire("POST", f"/main{CHAT}", *fields, body=b"0\r\n\r\n")
    ctx.ask("POST", f"/main{CHAT}", wire=ambiguous).has_status(400).closes()
    ctx.upstream.count_is(0)


@check("RS-GW-24")
def http_1_0(ctx: Context) -> None:
    """A live answer that could be cut without anybody seeing it is refused on HTTP/1.0."""
    held = ctx.post(Script(tokens=5, hold_at=2)).until_events(2)
    path = f"/streams/{held.stream}?live=tail"
    ctx.ask("GET", path, wire=ctx.wire("GET", path, version="1.0")).is_problem(505, "http-version-unsupported")
    ctx.upstream.release()
    held.ends_framed()
