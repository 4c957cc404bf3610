"""DISC: what becomes of a call when nobody listens."""

from __future__ import annotations

import time

from resumestream.testing.provider import Call, Script

from ..answer import Answer
from ..context import Context
from ..registry import check

WAITS = Script(tokens=9, hold_at=3)
STOPS = {"stream-on-disconnect": "cancel"}


def live(ctx: Context, headers: dict[str, str] | None = None, key: str | None = None) -> Answer:
    """A stream of its own that waits at the upstream behind its first events."""
    return ctx.post(WAITS, key=key, headers=headers).until_events(3)


def call_of(ctx: Context, number: int) -> Call:
    """The check's call of that number, counted from 0 in their order."""
    return ctx.upstream.calls()[number]


def noticed(ctx: Context) -> None:
    """Until the server has seen that callers left: one that leaves now, and whose stream is to stop then, is heeded."""
    count = len(ctx.upstream.calls())
    live(ctx, STOPS).leave()
    ctx.upstream.wait_for(lambda calls: calls[count].disconnected, "a call that was left since its last reader left")


def goes_on(ctx: Context, stream: str) -> None:
    """The stream, whose call waits, was not stopped: released, it comes to its end."""
    ctx.upstream.release()
    ctx.sealed(stream).has_header("stream-outcome", "completed")


@check("RS-DISC-01")
def keyed_goes_on(ctx: Context) -> None:
    """A keyed stream whose caller leaves in mid-answer comes to its end, and the key leads to all of it."""
    left = live(ctx, key=ctx.key).leave(reset=True)
    noticed(ctx)
    goes_on(ctx, left.stream)
    again = ctx.post(key=ctx.key).ends_framed()
    again.has_header("stream-id", left.stream).has_payload(ctx.upstream.sent(call_of(ctx, 0)))


@check("RS-DISC-02")
def nobody_can_find_it(ctx: Context) -> None:
    """A stream without a key whose caller leaves before it got any header is stopped, also at the upstream."""
    left = ctx.post(Script(tokens=9, fault="stall", before_head=True), key=None)
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held before its head")
    left.leave()
    ctx.upstream.wait_for(lambda calls: calls[0].disconnected, "a call that was left")
    listed = ctx.eventually(
        lambda: ctx.get("/streams"), lambda seen: seen.json()["streams"][0]["state"] == "sealed", "a sealed stream"
    )
    (stream,) = listed.json()["streams"]
    listed.expect(stream["outcome"] == "cancelled", "outcome cancelled", stream["outcome"])


@check("RS-DISC-03")
def found_by_its_id(ctx: Context) -> None:
    """A stream without a key whose caller leaves behind the headers comes to its end."""
    left = ctx.post(Script(tokens=9, hold_at=0), key=None).has_status(200).leave()
    noticed(ctx)
    goes_on(ctx, left.stream)
    ctx.read(left.stream).has_body(ctx.upstream.sent(call_of(ctx, 0)))


@check("RS-DISC-04")
def stopped_at_once(ctx: Context) -> None:
    """With `cancel` the last reader's leave stops the stream, with a key and without, also at the upstream."""
    for left in (live(ctx, STOPS).leave(), live(ctx, STOPS, key=ctx.key).leave(reset=True)):
        ctx.sealed(left.stream).has_header("stream-outcome", "cancelled")
    ctx.upstream.wait_for(lambda calls: all(call.disconnected for call in calls), "two calls that were left")


@check("RS-DISC-05")
def stopped_after_a_while(ctx: Context) -> None:
    """With `grace:2` a stream goes on where a reader comes back, and is stopped after 2 s where none does."""
    slow, rule = Script(tokens=40, delay_s=0.1), {"stream-on-disconnect": "grace:2"}
    back = ctx.post(slow, key=None, headers=rule).until_events(3).leave()
    reader = ctx.read(back.stream, "offset=0&live=tail").until(1)
    gone = ctx.post(slow, key=None, headers=rule).until_events(3).leave()
    left_s = time.monotonic()
    ctx.sealed(gone.stream).has_header("stream-outcome", "cancelled")
    waited_s = time.monotonic() - left_s
    ctx.expect(waited_s > 1.9, "a stop 2 s after the leave", f"{waited_s:.2f} s")
    reader.ends_framed()
    ctx.sealed(back.stream).has_header("stream-outcome", "completed")


@check("RS-DISC-06")
def who_reads(ctx: Context) -> None:
    """With `cancel` a live read of either kind, or a second caller, keeps a stream going that its caller leaves."""
    for read in ("live=tail", "live=events", ""):
        key = f"{ctx.key}-{len(read)}"
        first = live(ctx, STOPS, key=key)
        other = ctx.read(first.stream, f"offset=0&{read}") if read else ctx.post(key=key)
        other.until_events(3)
        first.leave()
        noticed(ctx)
        goes_on(ctx, first.stream)
        other.ends_framed()


@check("RS-DISC-07")
def who_only_looks(ctx: Context) -> None:
    """With `grace:1` pages, HEAD and `info`, asked for all the while, do not keep a stream going."""
    left = live(ctx, {"stream-on-disconnect": "grace:1"}).leave()

    def looks() -> Answer:
        ctx.read(left.stream, "offset=0").has_status(200).end()
        ctx.info(left.stream)
        return ctx.head(left.stream)

    seen = ctx.eventually(looks, lambda seen: seen.get("stream-state") == "sealed", "stream-state: sealed")
    seen.has_header("stream-outcome", "cancelled")


@check("RS-DISC-08")
def unknown_rules(ctx: Context) -> None:
    """Any other rule is refused, and nothing is called."""
    for rule in ("stop", "grace", "grace:", "grace:-1", "grace:soon", "cancel:1", "Cancel!"):
        ctx.post(headers={"stream-on-disconnect": rule}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)


@check("RS-DISC-09")
def never_read(ctx: Context) -> None:
    """With `cancel` a stream that was asked for with `respond-async` comes to its end unread."""
    made = ctx.post(WAITS, headers={**STOPS, "prefer": "respond-async"}).has_status(202).end()
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held")
    noticed(ctx)
    goes_on(ctx, made.stream)
