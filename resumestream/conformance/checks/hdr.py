"""HDR: the headers of answers."""

from __future__ import annotations

import gzip

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check


def reads(ctx: Context, stream: str) -> list[Answer]:
    """Every way to read a stream that its key means."""
    queries = ("", "offset=0", "live=tail", "live=events")
    return [ctx.post(), *(ctx.read(stream, query) for query in queries), ctx.head(stream)]


def completed(ctx: Context) -> Answer:
    answer = ctx.post(Script(tokens=9)).has_status(200).ends_framed()
    ctx.sealed(answer.stream)
    return answer


@check("RS-HDR-01")
def stream_id(ctx: Context) -> None:
    """Every read of a stream names its id."""
    whole = completed(ctx)
    for answer in reads(ctx, whole.stream):
        answer.has_status(200).has_header("stream-id", whole.stream).end()


@check("RS-HDR-02")
def offset_of_the_first_byte(ctx: Context) -> None:
    """`Stream-Offset` is that of the first byte of the body: 0 on a call, else the one asked for."""
    first = completed(ctx).has_header("stream-offset", "0" * 16)
    at = len(first.events[0].raw)
    resumed = ctx.post(headers={"stream-offset": f"{at:016}"}).has_header("stream-offset", f"{at:016}")
    resumed.has_body(first.payload[at:])
    for query in (f"offset={at}", f"offset={at}&live=tail", f"offset={at}&live=events", "from_event=1"):
        ctx.read(first.stream, query).has_header("stream-offset", f"{at:016}").end()


@check("RS-HDR-03")
def node(ctx: Context) -> None:
    """Every read of a stream names the process that serves it."""
    for answer in reads(ctx, completed(ctx).stream):
        answer.expect(answer.end().value("stream-node") != "", "a name", "an empty one")


@check("RS-HDR-04")
def location(ctx: Context) -> None:
    """`Location` of a 2xx leads to `live=events` for event streams and to `live=tail` for all else."""
    for kind, live in (("text/event-stream", "events"), ("application/json", "tail"), ("text/plain", "tail")):
        script = Script(body=b"data: 1\n\n", headers={"content-type": kind, "location": "/theirs"})
        key = f"{ctx.key}-{kind.replace('/', '-')}"
        for answer in (ctx.post(script, path="/v1/x", key=key).ends_framed(), ctx.post(path="/v1/x", key=key)):
            answer.has_header("location", f"{ctx.root}/streams/{answer.stream}?live={live}").end()


@check("RS-HDR-05")
def replayed(ctx: Context) -> None:
    """`Idempotent-Replayed: true` is on an attach, during the call and after it, and not on the call."""
    first = ctx.post(Script(tokens=9, hold_at=3)).lacks_header("idempotent-replayed").until_events(3)
    along = ctx.post().has_header("idempotent-replayed", "true")
    ctx.upstream.release()
    along.ends_framed()
    first.ends_framed()
    ctx.post().has_header("idempotent-replayed", "true").ends_framed()


@check("RS-HDR-06")
def uncached(ctx: Context) -> None:
    """No cache may keep a read of a stream, and nothing may re-encode it."""
    first = completed(ctx)
    for answer in (first, *reads(ctx, first.stream)[:-1]):
        said = {directive.strip() for directive in answer.end().value("cache-control").split(",")}
        answer.expect({"no-store", "no-transform"} <= said, "no-store and no-transform", said)


@check("RS-HDR-07")
def unbuffered(ctx: Context) -> None:
    """Proxies that know `X-Accel-Buffering` are told not to buffer."""
    first = completed(ctx)
    for answer in (first, *reads(ctx, first.stream)[:-1]):
        answer.has_header("x-accel-buffering", "no").end()


@check("RS-HDR-08")
def outcome_of_the_sealed(ctx: Context) -> None:
    """Every answer about a sealed stream names its outcome, also where it refuses."""
    whole = completed(ctx)
    last = f"{len(whole.payload):016}.end"
    answers = [
        *reads(ctx, whole.stream),
        ctx.read(whole.stream, headers={"last-event-id": last}).has_status(204),
        ctx.get(f"/streams/{whole.stream}/info"),
        ctx.ask("POST", f"/streams/{whole.stream}/cancel"),
        ctx.post(headers={"prefer": "respond-async"}).has_status(202),
        ctx.post(body=b"another").has_status(422),
        ctx.read(whole.stream, "offset=abc").has_status(400),
        ctx.read(whole.stream, "offset=999999").has_status(416),
    ]
    for answer in answers:
        answer.has_header("stream-outcome", "completed").end()
    ctx.ask("DELETE", f"/streams/{whole.stream}").has_status(204).has_header("stream-outcome", "completed").end()
    for answer in (ctx.head(whole.stream), ctx.read(whole.stream), ctx.post()):
        answer.has_status(410).has_header("stream-outcome", "completed").end()


@check("RS-HDR-09")
def no_outcome_of_the_live(ctx: Context) -> None:
    """No answer about a live stream names an outcome."""
    live = ctx.post(Script(tokens=9, hold_at=3)).until_events(3)
    answers = [live, *reads(ctx, live.stream), ctx.read(live.stream, "offset=999999").has_status(416)]
    answers += [ctx.get(f"/streams/{live.stream}/info"), ctx.post(body=b"another").has_status(422)]
    for answer in answers:
        answer.lacks_header("stream-outcome")
    ctx.upstream.release()
    live.ends_framed()


DROPPED = {
    "connection": "x-hop",
    "x-hop": "1",
    "keep-alive": "timeout=5",
    "set-cookie": "a=b",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "x",
    "stream-id": "theirs",
    "stream-anything": "theirs",
    "idempotent-replayed": "theirs",
    "location": "/theirs",
    "strict-transport-security": "max-age=9",
    "alt-svc": 'h3=":443"',
    "clear-site-data": '"cookies"',
    "cross-origin-opener-policy": "same-origin",
    "x-accel-redirect": "/x",
    "x-accel-buffering": "yes",
}


@check("RS-HDR-10")
def removed(ctx: Context) -> None:
    """The provider's headers of its connection, its origin and this protocol do not come through."""
    script = Script(headers={**DROPPED, "x-request-id": "req_1"})
    answer = ctx.post(script).has_status(200).has_header("x-request-id", "req_1").ends_framed()
    for name, value in DROPPED.items():
        answer.expect(answer.get(name) != value, f"no {name} of the provider's", answer.get(name))


@check("RS-HDR-11")
def passed_on(ctx: Context) -> None:
    """The provider's other headers come through."""
    kept = {
        "content-type": "text/event-stream; charset=utf-8",
        "x-request-id": "req_1",
        "openai-processing-ms": "12",
        "x-ratelimit-remaining-tokens": "9",
        "x-anything": 'a,  "b"',
    }
    answer = ctx.post(Script(headers=kept)).has_status(200).ends_framed()
    for name, value in kept.items():
        answer.has_header(name, value)


@check("RS-HDR-12")
def rate_limits_are_not_replayed(ctx: Context) -> None:
    """Rate limits are on the first answer, and not on that of a caller that attached."""
    names = ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-requests-limit")
    first = ctx.post(Script(headers=dict.fromkeys(names, "9") | {"x-request-id": "req_1"})).ends_framed()
    again = ctx.post().ends_framed().has_header("x-request-id", "req_1")
    for name in names:
        first.has_header(name, "9")
        again.lacks_header(name)


@check("RS-HDR-13")
def retry_after_is_what_remains(ctx: Context) -> None:
    """Who asks again after a refusal with `Retry-After` is told the time that remains."""
    ctx.post(Script(status=429, headers={"retry-after": "30"})).has_status(429).has_header("retry-after", "30").end()
    ctx.eventually(ctx.post, lambda again: 0 < int(again.value("retry-after")) < 30, "a retry-after below 30")
    ctx.upstream.count_is(1)


@check("RS-HDR-14")
def no_length_of_what_is_live(ctx: Context) -> None:
    """An answer that is not whole yet has no Content-Length, whatever the upstream said."""
    script = Script(body=b'{"a": 1}', headers={"content-type": "application/json"}, framing="length", hold_at=0)
    answer = ctx.post(script).has_status(200).lacks_header("content-length")
    tail = ctx.read(answer.stream, "live=tail").has_status(200).lacks_header("content-length")
    ctx.upstream.release()
    answer.ends_framed().has_body(b'{"a": 1}')
    tail.ends_framed().has_body(b'{"a": 1}')


@check("RS-HDR-15")
def encoded(ctx: Context) -> None:
    """A body with a coding is kept as it came, with its header, and has no events."""
    body = gzip.compress(b"data: 1\n\n" * 9, mtime=0)
    fields = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    whole = ctx.post(Script(body=body, headers=fields)).has_header("content-encoding", "gzip")
    whole.ends_framed().has_body(body)
    ctx.sealed(whole.stream).has_header("stream-outcome", "completed")
    for query in ("offset=0", "live=tail"):
        ctx.read(whole.stream, query).has_header("content-encoding", "gzip").has_body(body)
    ctx.read(whole.stream, "live=events").is_problem(406, "no-events")
