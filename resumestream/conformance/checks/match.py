"""MATCH: which requests are the same."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT, request_body
from ..registry import check


def attached(answer: Answer, first: Answer) -> None:
    answer.has_status(200).has_header("stream-id", first.stream).has_header("idempotent-replayed", "true").ends_framed()


@check("RS-MATCH-01")
def another_request(ctx: Context) -> None:
    """Another body with the same key is 422 `key-reused`, which names the stream; nothing is called."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    refused = ctx.post(body=request_body(CHAT, temperature=0.5))
    problem = refused.is_problem(422, "key-reused")
    refused.has_header("location", f"{ctx.root}/streams/{first.stream}")
    refused.expect(problem.get("stream_id") == first.stream, f"stream_id {first.stream}", problem)
    ctx.upstream.count_is(1)


@check("RS-MATCH-02")
def json_of_the_same_value(ctx: Context) -> None:
    """JSON that differs in white space and in the order of its members matches."""
    one = b'{"model": "scripted", "stream": true, "messages": [{"role": "user", "content": "hello"}]}'
    other = b'{ "messages":[{"content":"hello","role":"user"}],\r\n\t"stream":true,"model":"scripted"}\n'
    first = ctx.post(Script(tokens=5), body=one).ends_framed()
    attached(ctx.post(body=other), first)


VALUES = (
    *('{"a": 1}', '{"a": "1"}', '{"a": [1, 2]}', '{"a": [2, 1]}', '{"a": null}', "{}", '{"a": true}', '{"b": 1}'),
    *('{"seed": 9007199254740992}', '{"seed": 9007199254740993}'),  # one number where they are read as floats
)


@check("RS-MATCH-03")
def json_of_other_values(ctx: Context) -> None:
    """JSON of another value does not match, in whatever it differs."""
    for index, value in enumerate(VALUES):
        key = f"{ctx.key}-{index}"
        ctx.post(Script(body=b"data: 1\n\n"), path="/v1/x", key=key, body=value.encode()).has_status(200).end()
        for other in VALUES:
            if other != value:
                ctx.post(path="/v1/x", key=key, body=other.encode()).is_problem(422, "key-reused")
    ctx.upstream.count_is(len(VALUES))


@check("RS-MATCH-04")
def other_media_types(ctx: Context) -> None:
    """A body that is no JSON matches if every byte is the same, and not by what it may mean."""
    kind = {"content-type": "text/plain"}
    body = b'{"a": 1, "b": 2}'
    first = ctx.post(Script(tokens=5), body=body, headers=kind).ends_framed()
    attached(ctx.post(body=body, headers=kind), first)
    ctx.post(body=b'{"b": 2, "a": 1}', headers=kind).is_problem(422, "key-reused")


def multipart(boundary: str, value: str) -> tuple[bytes, dict[str, str]]:
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n{value}\r\n--{boundary}--\r\n'
    return part.encode(), {"content-type": f"multipart/form-data; boundary={boundary}"}


@check("RS-MATCH-05")
def multipart_boundaries(ctx: Context) -> None:
    """A multipart body with another boundary matches, one with another part does not."""
    body, fields = multipart("aaaaaaaa", "value")
    first = ctx.post(Script(tokens=5), body=body, headers=fields).ends_framed()
    body, fields = multipart("bbbbbbbbbb", "value")
    attached(ctx.post(body=body, headers=fields), first)
    body, fields = multipart("aaaaaaaa", "other")
    ctx.post(body=body, headers=fields).is_problem(422, "key-reused")


@check("RS-MATCH-06")
def paths(ctx: Context) -> None:
    """The same body to another path does not match."""
    ctx.post(Script(tokens=5)).ends_framed()
    for path in (f"/elsewhere{CHAT}", f"{CHAT}/", "/v1/chat%2Fcompletions"):
        ctx.post(path=path).is_problem(422, "key-reused")
    ctx.upstream.count_is(1)


@check("RS-MATCH-07")
def queries(ctx: Context) -> None:
    """The order of the query's parameters does not count; their names and values do."""
    first = ctx.post(Script(tokens=5), path=f"{CHAT}?a=1&b=2").ends_framed()
    attached(ctx.post(path=f"{CHAT}?b=2&a=1"), first)
    for query in ("?b=2&a=3", "?a=1", "?a=1&b=2&c=3", ""):
        ctx.post(path=f"{CHAT}{query}").is_problem(422, "key-reused")
    ctx.upstream.count_is(1)


@check("RS-MATCH-08")
def credentials_in_the_query(ctx: Context) -> None:
    """A credential in the query may change."""
    first = ctx.post(Script(tokens=5), path=f"{CHAT}?a=1&api_key=aaaaaaaaaaaaaaaa").ends_framed()
    attached(ctx.post(path=f"{CHAT}?api_key=bbbbbbbbbbbbbbbb&a=1"), first)


@check("RS-MATCH-09")
def headers(ctx: Context) -> None:
    """Other headers, retry counters of SDKs and parameters of the media type among them, may change."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    others = {
        "user-agent": "other/2",
        "x-stainless-retry-count": "1",
        "accept": "text/plain",
        "x-anything": "1",
        "content-type": "application/json; charset=utf-8",
        "stream-label": "another",
    }
    attached(ctx.post(headers=others), first)


@check("RS-MATCH-10")
def media_types(ctx: Context) -> None:
    """The same bytes as another media type do not match."""
    ctx.post(Script(tokens=5)).ends_framed()
    ctx.post(headers={"content-type": "text/plain"}).is_problem(422, "key-reused")
    ctx.upstream.count_is(1)


@check("RS-MATCH-11")
def match_key(ctx: Context) -> None:
    """`Stream-Match: key` attaches whatever the request is."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    chosen = {"stream-match": "key"}
    attached(ctx.post(body=request_body(CHAT, temperature=1), headers=chosen), first)
    attached(ctx.post(path="/v1/elsewhere?a=1", body=b"x", headers={**chosen, "content-type": "text/plain"}), first)
    ctx.upstream.count_is(1)


@check("RS-MATCH-12")
def match_of_something_else(ctx: Context) -> None:
    """`Stream-Match` with another value, or without a key, is 400 and makes no call."""
    ctx.post(headers={"stream-match": "body"}).is_problem(400, "invalid-header")
    ctx.post(key=None, headers={"stream-match": "key"}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)
