"""KEY: idempotency keys."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..paths import CHAT, request_body
from ..registry import check


@check("RS-KEY-01")
def one_call(ctx: Context) -> None:
    """The same request with the same key gets the same stream, and no second call is made."""
    first = ctx.post(Script(tokens=20)).has_status(200).ends_framed()
    for _ in range(2):
        ctx.post().has_status(200).has_header("stream-id", first.stream).has_payload(first.payload)
    ctx.upstream.count_is(1)


@check("RS-KEY-02")
def at_the_same_moment(ctx: Context) -> None:
    """Of many equal requests at the same moment one call is made, and all get its answer."""
    answers = [ctx.post(Script(tokens=10)), *(ctx.post() for _ in range(7))]
    streams = {answer.has_status(200).ends_framed().stream for answer in answers}
    ctx.expect(len(streams) == 1, "one stream", sorted(streams))
    ctx.expect(len({answer.payload for answer in answers}) == 1, "one payload", "several")
    ctx.upstream.count_is(1)


@check("RS-KEY-03")
def from_the_first_byte(ctx: Context) -> None:
    """Who attaches during the call or after it gets the whole answer."""
    first = ctx.post(Script(tokens=20, hold_at=7)).until_events(7)
    along = ctx.post().has_header("stream-offset", "0" * 16).until_events(7)
    along.expect(along.payload == first.payload, "what the first caller has", along.payload[-80:])
    ctx.upstream.release()
    whole = first.ends_framed().payload
    along.ends_framed().has_payload(whole)
    ctx.post().has_header("stream-offset", "0" * 16).has_payload(whole)


@check("RS-KEY-04")
def alias(ctx: Context) -> None:
    """`X-Idempotency-Key` means the same; both with different values are refused, with the same they are not."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    for key in (None, ctx.key):
        again = ctx.post(key=key, headers={"x-idempotency-key": ctx.key})
        again.has_status(200).has_header("stream-id", first.stream).ends_framed()
    ctx.post(headers={"x-idempotency-key": f"{ctx.key}-other"}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(1)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~:-"
WRONG = ("a b", "a,b", "a/b", "a=b", "a@b", "ä", '"', "x" * 256)


@check("RS-KEY-05")
def form(ctx: Context) -> None:
    """A key of other characters, empty, or longer than 255 is 400 and makes no call; one of 255 is good."""
    for key in ("", *WRONG):
        ctx.post(key=key).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)
    longest = f"{ctx.key}{ALPHABET}{'x' * 255}"[:255]
    first = ctx.post(Script(tokens=5), key=longest).has_status(200).ends_framed()
    ctx.post(key=longest).has_header("stream-id", first.stream).ends_framed()


@check("RS-KEY-06")
def quoted(ctx: Context) -> None:
    """A key in double quotes is the key without them."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    ctx.post(key=f'"{ctx.key}"').has_status(200).has_header("stream-id", first.stream).ends_framed()
    ctx.upstream.count_is(1)


@check("RS-KEY-07")
def of_an_upstream(ctx: Context) -> None:
    """The same key at another upstream makes a stream of its own."""
    mine, other = ctx.post(Script(tokens=5)).ends_framed(), ctx.post(upstream="other").has_status(200)
    other.ends_framed().lacks_header("idempotent-replayed")
    other.expect(other.stream != mine.stream, "another stream", other.stream)
    ctx.upstream.count_is(2)


@check("RS-KEY-08")
def of_a_principal(ctx: Context) -> None:
    """Another principal's equal key makes a stream of its own."""
    mine, theirs = ctx.post(Script(tokens=5)).ends_framed(), ctx.post(headers=ctx.stranger).has_status(200)
    theirs.ends_framed().lacks_header("idempotent-replayed")
    theirs.expect(theirs.stream != mine.stream, "another stream", theirs.stream)
    ctx.upstream.count_is(2)


@check("RS-KEY-09")
def without_a_key(ctx: Context) -> None:
    """Equal requests without a key make a stream each."""
    streams = {ctx.post(Script(tokens=5), key=None).has_status(200).ends_framed().stream for _ in range(3)}
    ctx.expect(len(streams) == 3, "three streams", sorted(streams))
    ctx.upstream.count_is(3)


@check("RS-KEY-10")
def leaving_frees_nothing(ctx: Context) -> None:
    """Who leaves in mid-answer and asks again gets the same stream."""
    first = ctx.post(Script(tokens=9, hold_at=3)).until_events(3)
    stream = first.stream
    first.leave(reset=True)
    again = ctx.post().has_status(200).has_header("stream-id", stream).until_events(3)
    again.leave()
    ctx.upstream.release()
    ctx.sealed(stream).has_header("stream-outcome", "completed")
    ctx.post().has_header("stream-id", stream).ends_framed()
    ctx.upstream.count_is(1)


TWICE = {
    "idempotency-key": "a",
    "x-idempotency-key": "a",
    "stream-scope": "a",
    "stream-occurrence": "1",
    "stream-match": "key",
    "stream-retry": "a",
    "stream-retain": "60",
    "stream-on-disconnect": "continue",
    "stream-offset": "0",
    "stream-exact": "true",
}


@check("RS-KEY-11")
def twice(ctx: Context) -> None:
    """A header that takes one value and is there twice is 400 and makes no call, even with the same value."""
    body = request_body(CHAT)
    for name, value in TWICE.items():
        fields = ("content-type", "application/json"), ("content-length", str(len(body)))
        needed = () if name in ("idempotency-key", "stream-scope", "stream-occurrence") else (("idempotency-key", "a"),)
        needed = (("stream-scope", "a"),) if name == "stream-occurrence" else needed
        raw = ctx.wire("POST", f"/main{CHAT}", *fields, *needed, (name, value), (name, value), body=body)
        ctx.ask("POST", f"/main{CHAT}", wire=raw).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)
