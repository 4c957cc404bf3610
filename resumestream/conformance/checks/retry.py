"""RETRY: consent to pay again."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check

BROKEN = Script(tokens=20, fault="rst", at_event=5)
WHOLE = Script(tokens=8)


def failed(ctx: Context) -> Answer:
    """A stream that broke off; the next call of its key goes well."""
    answer = ctx.post(BROKEN, WHOLE).end()
    ctx.sealed(answer.stream).has_header("stream-outcome", "truncated")
    return answer


def again(ctx: Context, after: str) -> Answer:
    return ctx.post(headers={"stream-retry": after})


@check("RS-RETRY-01")
def a_new_call(ctx: Context) -> None:
    """`Stream-Retry` with the failed stream's id starts one new call, which the key means from then on."""
    before = failed(ctx)
    new = again(ctx, before.stream).has_status(200).ends_framed()
    new.lacks_header("idempotent-replayed").expect(new.stream != before.stream, "a new stream", new.stream)
    ctx.post().has_header("stream-id", new.stream).ends_framed()
    ctx.upstream.count_is(2)


@check("RS-RETRY-02")
def linked(ctx: Context) -> None:
    """The new stream says which one it came after, and that one stays readable."""
    before = failed(ctx)
    new = again(ctx, before.stream).ends_framed()
    previous = ctx.info(new.stream).get("previous")
    ctx.expect(previous == before.stream, f"previous {before.stream}", previous)
    ctx.head(before.stream).has_status(200).has_header("stream-outcome", "truncated")


@check("RS-RETRY-03")
def of_the_completed(ctx: Context) -> None:
    """Consent about a stream that completed attaches to it."""
    whole = ctx.post(WHOLE).ends_framed()
    again(ctx, whole.stream).has_status(200).has_header("stream-id", whole.stream).ends_framed()
    ctx.upstream.count_is(1)


@check("RS-RETRY-04")
def of_the_live(ctx: Context) -> None:
    """Consent about a stream that is live attaches to it."""
    live = ctx.post(Script(tokens=8, hold_at=3)).until_events(3)
    joined = again(ctx, live.stream).has_header("stream-id", live.stream).until_events(3)
    ctx.upstream.release()
    joined.ends_framed()
    ctx.upstream.count_is(1)


@check("RS-RETRY-05")
def used_up(ctx: Context) -> None:
    """Consent about an earlier stream of the key attaches to the present one: it pays for one call."""
    before = failed(ctx)
    new = again(ctx, before.stream).ends_framed()
    again(ctx, before.stream).has_status(200).has_header("stream-id", new.stream).ends_framed()
    ctx.upstream.count_is(2)


@check("RS-RETRY-06")
def any_other_id(ctx: Context) -> None:
    """Consent about a stream that never was the key's is 422 `retry-mismatch`."""
    failed(ctx)
    other = ctx.post(WHOLE, key=f"{ctx.key}-other").ends_framed()
    for wrong in (other.stream, "no-such-stream"):
        again(ctx, wrong).is_problem(422, "retry-mismatch")
    ctx.upstream.count_is(2)


@check("RS-RETRY-07")
def needs_a_key(ctx: Context) -> None:
    """Consent without a key or scope is refused."""
    before = failed(ctx)
    ctx.post(key=None, headers={"stream-retry": before.stream}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(1)


@check("RS-RETRY-08")
def one_for_all(ctx: Context) -> None:
    """Of many who consent at once one call is made, and all get its stream."""
    before = failed(ctx)
    answers = [again(ctx, before.stream) for _ in range(5)]
    streams = {answer.has_status(200).ends_framed().stream for answer in answers}
    ctx.expect(len(streams) == 1, "one new stream", sorted(streams))
    ctx.upstream.count_is(2)


@check("RS-RETRY-09")
def of_the_deleted(ctx: Context) -> None:
    """A key whose stream was deleted answers 410 until its caller consents to a new call."""
    whole = ctx.post(WHOLE).ends_framed()
    ctx.ask("DELETE", f"/streams/{whole.stream}").has_status(204).end()
    ctx.post().is_problem(410, "key-expired")
    ctx.upstream.count_is(1)
    again(ctx, whole.stream).has_status(200).ends_framed()
    ctx.upstream.count_is(2)
