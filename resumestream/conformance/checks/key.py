"""KEY: idempotency keys."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check


@check("RS-KEY-01")
def attaches_after_the_end(ctx: Context) -> None:
    """The same request with the same key gets the same stream from its first byte, and no second call is made."""
    first = ctx.post(Script(tokens=20)).has_status(200).ends_framed()
    again = ctx.post().has_status(200).ends_framed().has_payload(first.payload)
    again.has_header("stream-id", first.stream).has_header("idempotent-replayed", "true")
    first.lacks_header("idempotent-replayed")
    ctx.upstream.count_is(1)


@check("RS-KEY-02")
def attaches_in_flight(ctx: Context) -> None:
    """The same request while the first is answered reads along: what there is at once, and then the rest."""
    first = ctx.post(Script(tokens=20, hold_at=7)).until_events(7)
    again = ctx.post().until_events(7)
    again.has_header("stream-id", first.stream).expect(again.payload == first.payload, "the same bytes", again.payload)
    ctx.upstream.release()
    again.ends_framed().has_payload(first.ends_framed().payload)
    ctx.upstream.count_is(1)


@check("RS-KEY-03")
def at_the_same_moment(ctx: Context) -> None:
    """Of many equal requests at the same moment one call is made, and all get its answer."""
    answers = [ctx.post(Script(tokens=10)), *(ctx.post() for _ in range(7))]
    streams = {answer.has_status(200).ends_framed().stream for answer in answers}
    ctx.expect(len(streams) == 1, "one stream", sorted(streams))
    ctx.expect(len({answer.payload for answer in answers}) == 1, "one payload", "several")
    ctx.upstream.count_is(1)


@check("RS-KEY-04")
def alias(ctx: Context) -> None:
    """`X-Idempotency-Key` means the same as `Idempotency-Key`."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    ctx.post(key=None, headers={"x-idempotency-key": ctx.key}).ends_framed().has_header("stream-id", first.stream)
    ctx.upstream.count_is(1)


@check("RS-KEY-05")
def quoted(ctx: Context) -> None:
    """A key in double quotes is the key without them."""
    first = ctx.post(Script(tokens=5)).ends_framed()
    ctx.post(key=f'"{ctx.key}"').ends_framed().has_header("stream-id", first.stream)
    ctx.upstream.count_is(1)


WRONG = ("a b", "a,b", "ä", "a/b", "x" * 256)


@check("RS-KEY-06")
def characters(ctx: Context) -> None:
    """A key of other characters, or longer than 255 is refused before any call; one of 255 is not."""
    for key in WRONG:
        ctx.post(key=key).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)
    longest = (ctx.key + "-._~:" + "x" * 255)[:255]
    ctx.post(key=longest).has_status(200).ends_framed()


@check("RS-KEY-07")
def key_and_scope(ctx: Context) -> None:
    """A key and a scope together are refused."""
    ctx.post(headers={"stream-scope": "turn"}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)


@check("RS-KEY-08")
def of_a_principal(ctx: Context) -> None:
    """Another principal's equal key is another key."""
    mine, theirs = ctx.post(Script(tokens=5)).ends_framed(), ctx.post(headers=ctx.stranger).ends_framed()
    theirs.lacks_header("idempotent-replayed").expect(theirs.stream != mine.stream, "another stream", theirs.stream)
    ctx.upstream.count_is(2)


@check("RS-KEY-09")
def without_a_key(ctx: Context) -> None:
    """Equal requests without a key are two calls."""
    one, two = ctx.post(Script(tokens=5), key=None).ends_framed(), ctx.post(key=None).ends_framed()
    two.expect(one.stream != two.stream, "another stream", two.stream)
    ctx.upstream.count_is(2)


@check("RS-KEY-10")
def failures_are_replayed(ctx: Context) -> None:
    """A stream that broke off is what its key means from then on: the failure is replayed, and nothing is called."""
    first = ctx.post(Script(tokens=20, fault="rst", at_event=5)).end()
    ctx.sealed(first.stream).has_header("stream-outcome", "truncated")
    again = ctx.post().end().has_header("stream-id", first.stream).has_header("stream-outcome", "truncated")
    again.expect(first.payload[:99] == again.payload[:99], "the partial answer", again.payload[:99])
    ctx.upstream.count_is(1)


@check("RS-KEY-11")
def durable_before_the_call(ctx: Context) -> None:
    """A request that prefers not to wait gets 202 with the stream's place once its key is bound."""
    answer = ctx.post(Script(tokens=5, hold_at=2), headers={"prefer": "respond-async"}).has_status(202)
    answer.has_header("location", f"{ctx.root}/streams/{answer.stream}").end()
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that goes on")
    ctx.upstream.release()
    ctx.post().has_header("stream-id", answer.stream).ends_framed()
    ctx.upstream.count_is(1)


@check("RS-KEY-12")
def respond_async_is_not_for_sdks(ctx: Context) -> None:
    """An SDK that cannot understand 202 gets the answer."""
    agent = {"prefer": "respond-async", "user-agent": "OpenAI/Python 2.1.0"}
    ctx.post(Script(tokens=5), headers=agent).has_status(200).ends_framed()
