"""GW: the gateway."""

from __future__ import annotations

import hashlib

from resumestream.testing.provider import Call, Script

from ..context import Context
from ..paths import CHAT
from ..registry import check


def the_call(ctx: Context) -> Call:
    """The one call at the upstream, once its request is there. Raises Failed."""
    (call,) = ctx.upstream.wait_for(lambda calls: len(calls) == 1 and calls[0].request_sha256 != "", "one call")
    return call


@check("RS-GW-01")
def verbatim(ctx: Context) -> None:
    """A POST through the gateway is answered with the provider's status and bytes."""
    answer = ctx.post(Script(tokens=20)).has_status(200).ends_framed()
    answer.has_header("content-type", "text/event-stream; charset=utf-8")
    answer.has_payload(ctx.upstream.sent(the_call(ctx)))


@check("RS-GW-02")
def path_and_query(ctx: Context) -> None:
    """The upstream gets the path behind its name and the query, as the caller wrote them."""
    target = f"/v1/a%20b{CHAT}?b=2&a=1&c=%2F"
    ctx.post(path=target).has_status(200)
    call = the_call(ctx)
    ctx.expect(call.path == target, target, call.path)


@check("RS-GW-03")
def request_body(ctx: Context) -> None:
    """The upstream gets the request's body byte for byte."""
    body = b'{ "stream" : true,\r\n "model":"scripted", "messages":[], "x": "\xc3\xa9\\u00e9" }'
    ctx.post(body=body).has_status(200)
    call = the_call(ctx)
    seen = call.request_bytes, call.request_sha256
    ctx.expect(seen == (len(body), hashlib.sha256(body).hexdigest()), "the body as it was sent", seen)


OURS = {
    "idempotency-key": "k",
    "stream-label": "one",
    "stream-on-disconnect": "continue",
    "stream-exact": "true",
    "stream-retain": "60",
    "stream-match": "key",
    "stream-anything": "later",
}


@check("RS-GW-04")
def own_headers_stay(ctx: Context) -> None:
    """Headers of this protocol do not reach the upstream."""
    ctx.post(headers={**OURS, "idempotency-key": ctx.key}).has_status(200)
    names = {name for name, _ in the_call(ctx).headers}
    ctx.expect(not names & set(OURS), "none of this protocol's headers at the upstream", sorted(names & set(OURS)))


@check("RS-GW-05")
def other_headers_go_on(ctx: Context) -> None:
    """Every other header of the caller reaches the upstream, its credential among them."""
    own = {**ctx.caller, "user-agent": "conformance/1", "x-anything": "a, b", "anthropic-version": "2023-06-01"}
    ctx.post(headers=own).has_status(200)
    seen = dict(the_call(ctx).headers)
    ctx.expect(own.items() <= seen.items(), f"{own} at the upstream", seen)


@check("RS-GW-06")
def connection_headers_stay(ctx: Context) -> None:
    """What belongs to the caller's connection, browser or proxies does not reach the upstream."""
    names = ("cookie", "origin", "sec-fetch-mode", "x-forwarded-for", "forwarded", "via", "te", "keep-alive", "x-hop")
    values = dict.fromkeys(names, "x") | {"connection": "keep-alive, x-hop", "te": "trailers"}
    ctx.post(headers=values).end()
    seen = {name for name, _ in the_call(ctx).headers} & set(names)
    ctx.expect(not seen, f"none of {', '.join(names)} at the upstream", sorted(seen))


@check("RS-GW-07")
def no_coding_is_asked_for(ctx: Context) -> None:
    """The upstream is asked for the answer as it is, whatever codings the caller takes."""
    ctx.post(headers={"accept-encoding": "gzip, br"}).has_status(200)
    seen = dict(the_call(ctx).headers).get("accept-encoding")
    ctx.expect(seen == "identity", "accept-encoding: identity at the upstream", seen)


@check("RS-GW-08")
def answer_headers(ctx: Context) -> None:
    """The provider's headers come through, but for those that are its connection's, its origin's or this protocol's."""
    kept = {"x-request-id": "req_1", "openai-version": "2020-10-01", "x-ratelimit-remaining-tokens": "9"}
    dropped = {
        "set-cookie": "a=b",
        "access-control-allow-origin": "*",
        "stream-id": "theirs",
        "stream-outcome": "completed",
        "idempotent-replayed": "true",
        "location": "/theirs",
        "keep-alive": "timeout=5",
        "x-accel-buffering": "yes",
    }
    answer = ctx.post(Script(headers={**kept, **dropped})).has_status(200)
    for name, value in kept.items():
        answer.has_header(name, value)
    for name, value in dropped.items():
        answer.expect(answer.get(name) != value, f"no {name} of the provider", answer.get(name))


@check("RS-GW-09")
def other_methods_pass_through(ctx: Context) -> None:
    """A GET goes to the provider and back, and makes no stream, even with a key."""
    answer = ctx.get("/main/v1/models", headers={"idempotency-key": ctx.key}).has_status(200).ends_framed()
    answer.lacks_header("stream-id")
    answer.has_body(ctx.upstream.sent(the_call(ctx)))
    ctx.get("/main/v1/models", headers={"idempotency-key": ctx.key}).has_status(200).end()
    ctx.upstream.count_is(2)


@check("RS-GW-10")
def options_stay_here(ctx: Context) -> None:
    """OPTIONS is answered without the upstream."""
    answer = ctx.ask("OPTIONS", f"/main{CHAT}").end()
    answer.expect(answer.status < 300, "a status below 300", answer.status)
    ctx.upstream.count_is(0)


@check("RS-GW-11")
def no_upgrade(ctx: Context) -> None:
    """A request to upgrade is refused with 501, and nothing is called."""
    key = {"connection": "Upgrade", "upgrade": "example/1"}
    ctx.post(headers=key).is_problem(501, "upgrade-unsupported")
    ctx.upstream.count_is(0)


@check("RS-GW-12")
def redirects_are_not_followed(ctx: Context) -> None:
    """A redirect of the upstream becomes 502, and the one call is all."""
    ctx.post(Script(status=307, headers={"location": "/elsewhere"})).is_problem(502, "upstream-redirect")
    ctx.upstream.count_is(1)


@check("RS-GW-13")
def unknown_upstream(ctx: Context) -> None:
    """A path below no configured upstream is 404 `unknown-upstream`."""
    ctx.post(upstream="conformance-nowhere").is_problem(404, "unknown-upstream")
    ctx.upstream.count_is(0)


@check("RS-GW-14")
def the_head_does_not_wait(ctx: Context) -> None:
    """The status line and headers come as soon as the upstream's do, before any byte of the body."""
    answer = ctx.post(Script(tokens=5, hold_at=0)).has_status(200)
    ctx.upstream.wait_for(lambda calls: calls[0].held, "a call that is held before its first byte")
    answer.expect(answer.body == b"", "no body yet", answer.body)
    ctx.upstream.release()
    answer.ends_framed()


@check("RS-GW-15")
def attached_while_pending(ctx: Context) -> None:
    """Who asks again before the upstream has answered waits for its status, and gets that same answer."""
    first = ctx.post(Script(status=200, fault="stall", before_head=True))
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held before its head")
    second = ctx.post()
    ctx.upstream.release()
    one, two = first.ends_framed(), second.ends_framed()
    two.has_header("stream-id", one.stream).has_payload(one.payload)
    ctx.upstream.count_is(1)


@check("RS-GW-16")
def reserved_names(ctx: Context) -> None:
    """A POST below a name that is reserved leads to no upstream."""
    for name in ("streams", "ds", "usage", "healthz", "readyz", "metrics", "ui"):
        answer = ctx.post(upstream=name).end()
        answer.expect(answer.status in (404, 405), "404 or 405", answer.status)
    ctx.upstream.count_is(0)


@check("RS-GW-17")
def no_way_out(ctx: Context) -> None:
    """A path that climbs above the upstream's is refused."""
    for path in ("/v1/../../admin", "/v1/%2e%2e/%2e%2e/admin"):
        ctx.post(path=path).is_problem(400, "invalid-query")
    ctx.upstream.count_is(0)


@check("RS-GW-18")
def http_1_0(ctx: Context) -> None:
    """A live answer that could be cut without anybody seeing it is refused on HTTP/1.0."""
    held = ctx.post(Script(tokens=5, hold_at=2)).until_events(2)
    path = f"{ctx.root}/streams/{held.stream}?live=tail"
    lines = [f"GET {path} HTTP/1.0", f"Host: {ctx.authority}", f"Authorization: {ctx.caller['authorization']}"]
    raw = "\r\n".join([*lines, "", ""]).encode()
    ctx.ask("GET", f"/streams/{held.stream}?live=tail", wire=raw).is_problem(505, "http-version-unsupported")
