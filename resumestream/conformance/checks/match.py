"""MATCH: which requests are the same."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..paths import CHAT, MESSAGES, request_body
from ..registry import check


@check("RS-MATCH-01")
def another_body(ctx: Context) -> None:
    """Another body with the same key is 422 `key-reused`, which names the stream; nothing is called."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    refused = ctx.post(body=request_body(CHAT, temperature=0.5))
    problem = refused.is_problem(422, "key-reused")
    refused.has_header("location", f"{ctx.root}/streams/{first.stream}").has_header("x-should-retry", "false")
    refused.expect(problem.get("stream_id") == first.stream, f"stream_id {first.stream}", problem)
    ctx.upstream.count_is(1)


@check("RS-MATCH-02")
def json_is_canonical(ctx: Context) -> None:
    """JSON that differs in the order of members, in spaces and in escapes is the same."""
    one = '{"model": "scripted", "stream": true, "messages": [{"role": "user", "content": "é"}]}'.encode()
    other = b'{ "messages":[{"content":"\\u00e9","role":"user"}],\n"stream":true,"model":"scripted"}'
    first = ctx.post(Script(tokens=5), body=one).ends_framed()
    ctx.post(body=other).has_status(200).has_header("stream-id", first.stream).ends_framed()


@check("RS-MATCH-03")
def headers_do_not_count(ctx: Context) -> None:
    """Other headers, retry counters of SDKs among them, make no other request."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    others = {"user-agent": "other/2", "x-stainless-retry-count": "1", "accept": "text/plain", "x-anything": "1"}
    ctx.post(headers=others).has_status(200).has_header("stream-id", first.stream).ends_framed()


@check("RS-MATCH-04")
def order_of_the_query(ctx: Context) -> None:
    """The order of the query's parameters does not count, their values do."""
    first = ctx.post(Script(tokens=5), path=f"{CHAT}?a=1&b=2").ends_framed()
    ctx.post(path=f"{CHAT}?b=2&a=1").has_status(200).has_header("stream-id", first.stream).ends_framed()
    ctx.post(path=f"{CHAT}?b=2&a=3").is_problem(422, "key-reused")


@check("RS-MATCH-05")
def the_path_counts(ctx: Context) -> None:
    """The same body to another path is another request."""
    ctx.post(Script(tokens=5)).ends_framed()
    ctx.post(path=f"/elsewhere{CHAT}").is_problem(422, "key-reused")
    ctx.upstream.count_is(1)


@check("RS-MATCH-06")
def the_media_type_counts(ctx: Context) -> None:
    """The same body as another media type is another request; a parameter makes no difference."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    same = {"content-type": "Application/JSON; charset=utf-8"}
    ctx.post(headers=same).has_status(200).has_header("stream-id", first.stream).ends_framed()
    ctx.post(headers={"content-type": "text/plain"}).is_problem(422, "key-reused")


@check("RS-MATCH-07")
def match_key(ctx: Context) -> None:
    """`Stream-Match: key` attaches whatever the body."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    again = ctx.post(body=request_body(CHAT, temperature=1), headers={"stream-match": "key"}).has_status(200)
    again.has_header("stream-id", first.stream).ends_framed()
    ctx.upstream.count_is(1)


def _multipart(boundary: str) -> tuple[bytes, dict[str, str]]:
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue\r\n--{boundary}--\r\n'
    return part.encode(), {"content-type": f"multipart/form-data; boundary={boundary}"}


@check("RS-MATCH-08")
def multipart(ctx: Context) -> None:
    """A multipart body with another boundary is the same."""
    (one, its), (other, others) = _multipart("aaaaaaaa"), _multipart("bbbbbbbb")
    first = ctx.post(Script(tokens=5), body=one, headers=its).ends_framed()
    ctx.post(body=other, headers=others).has_header("stream-id", first.stream).ends_framed()


@check("RS-MATCH-09")
def raw_bytes(ctx: Context) -> None:
    """A body that is no JSON is compared byte by byte."""
    kind = {"content-type": "text/plain"}
    first = ctx.post(Script(tokens=5), path=MESSAGES, body=b"one  two", headers=kind).ends_framed()
    ctx.post(path=MESSAGES, body=b"one  two", headers=kind).has_header("stream-id", first.stream).ends_framed()
    ctx.post(path=MESSAGES, body=b"one two", headers=kind).is_problem(422, "key-reused")
