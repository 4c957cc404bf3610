"""RETRY: consent to pay again."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT, request_body
from ..registry import check

BROKEN = Script(tokens=20, fault="rst", at_event=5)
WHOLE = Script(tokens=8)


def failed(ctx: Context) -> Answer:
    """A stream that broke off; the next call of its key goes well."""
    answer = ctx.post(BROKEN, WHOLE).end()
    ctx.sealed(answer.stream).has_header("stream-outcome", "truncated")
    return answer


def again(ctx: Context, after: str) -> Answer:
    """The same request with consent to pay for another call after that stream."""
    return ctx.post(headers={"stream-retry": after})


@check("RS-RETRY-01")
def without_consent(ctx: Context) -> None:
    """A stream that broke off is what its key gives from then on, with its failure, and nothing is called."""
    before = failed(ctx)
    replayed = ctx.post().has_header("stream-id", before.stream).has_header("stream-outcome", "truncated").end()
    replayed.has_payload(before.payload)
    ctx.upstream.count_is(1)


@check("RS-RETRY-02")
def a_new_call(ctx: Context) -> None:
    """`Stream-Retry` with the failed stream's id makes one new call, whose stream the key means from then on."""
    before = failed(ctx)
    new = again(ctx, before.stream).has_status(200).ends_framed().lacks_header("idempotent-replayed")
    new.expect(new.stream != before.stream, "a new stream", new.stream)
    ctx.post().has_header("stream-id", new.stream).has_payload(new.payload)
    ctx.upstream.count_is(2)


@check("RS-RETRY-03")
def linked(ctx: Context) -> None:
    """The new stream's record names the old one as `previous`."""
    before = failed(ctx)
    previous = ctx.info(again(ctx, before.stream).ends_framed().stream).get("previous")
    ctx.expect(previous == before.stream, f"previous {before.stream}", previous)


@check("RS-RETRY-04")
def one_for_all(ctx: Context) -> None:
    """Of many who consent at once one call is made, and all get its stream."""
    before = failed(ctx)
    answers = [again(ctx, before.stream) for _ in range(6)]
    streams = {answer.has_status(200).ends_framed().stream for answer in answers}
    ctx.expect(len(streams) == 1 and before.stream not in streams, "one new stream", sorted(streams))
    ctx.upstream.count_is(2)


@check("RS-RETRY-05")
def used_up(ctx: Context) -> None:
    """Consent about an earlier stream of the key attaches to the present one, also where that failed."""
    before = ctx.post(BROKEN, BROKEN, WHOLE).end()
    ctx.sealed(before.stream)
    second = again(ctx, before.stream).end()
    ctx.sealed(second.stream).has_header("stream-outcome", "truncated")
    again(ctx, before.stream).has_header("stream-id", second.stream).end()
    third = again(ctx, second.stream).ends_framed()
    for earlier in (before, second):
        again(ctx, earlier.stream).has_status(200).has_header("stream-id", third.stream).ends_framed()
    ctx.upstream.count_is(3)


@check("RS-RETRY-06")
def of_what_has_not_failed(ctx: Context) -> None:
    """Consent about a stream that is live, or completed, attaches to it."""
    live = ctx.post(Script(tokens=8, hold_at=3)).until_events(3)
    joined = again(ctx, live.stream).has_status(200).has_header("stream-id", live.stream).until_events(3)
    ctx.upstream.release()
    joined.ends_framed()
    ctx.sealed(live.stream)
    again(ctx, live.stream).has_status(200).has_header("stream-id", live.stream).ends_framed()
    ctx.upstream.count_is(1)


@check("RS-RETRY-07")
def any_other_id(ctx: Context) -> None:
    """Consent about a stream that never was the key's, or beside a key without a stream, is 422."""
    failed(ctx)
    other = ctx.post(WHOLE, key=f"{ctx.key}-other").ends_framed()
    for wrong in (other.stream, "no-such-stream"):
        again(ctx, wrong).is_problem(422, "retry-mismatch")
    ctx.post(key=f"{ctx.key}-unused", headers={"stream-retry": other.stream}).is_problem(422, "retry-mismatch")
    ctx.upstream.count_is(2)


@check("RS-RETRY-08")
def of_what_is_gone(ctx: Context) -> None:
    """Consent about a stream that was deleted or expired makes a new call."""
    whole = ctx.post(WHOLE, headers={"stream-retain": "0"}).ends_framed()
    ctx.eventually(lambda: ctx.head(whole.stream), lambda seen: seen.status == 410, "410: an expired stream")
    second = again(ctx, whole.stream).has_status(200).ends_framed().lacks_header("idempotent-replayed")
    ctx.ask("DELETE", f"/streams/{second.stream}").has_status(204).end()
    again(ctx, second.stream).has_status(200).ends_framed().lacks_header("idempotent-replayed")
    ctx.upstream.count_is(3)


@check("RS-RETRY-09")
def needs_a_key(ctx: Context) -> None:
    """Consent without key and scope is 400, and nothing is called."""
    before = failed(ctx)
    ctx.post(key=None, headers={"stream-retry": before.stream}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(1)


@check("RS-RETRY-10")
def the_old_stays(ctx: Context) -> None:
    """The stream that was followed stays as it was, by its id."""
    before = failed(ctx)
    page = ctx.read(before.stream).end().body
    again(ctx, before.stream).ends_framed()
    ctx.head(before.stream).has_status(200).has_header("stream-outcome", "truncated")
    ctx.read(before.stream).has_status(200).has_body(page)


@check("RS-RETRY-11")
def fingerprint(ctx: Context) -> None:
    """The key's request is from then on the one that consented."""
    before, other = failed(ctx), request_body(CHAT, temperature=1)
    new = ctx.post(body=other, headers={"stream-retry": before.stream}).has_status(200).ends_framed()
    ctx.post(body=other).has_status(200).has_header("stream-id", new.stream).ends_framed()
    ctx.post().is_problem(422, "key-reused")
    ctx.upstream.count_is(2)
