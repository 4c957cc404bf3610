"""STOP: cancelling a stream."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check
from ..sse import blocks

HELD = Script(tokens=9, hold_at=4)
GOING_ON = Script(tokens=1000, delay_s=0.1)
"""Ends only where somebody ends it."""


def stop(ctx: Context, stream: str) -> Answer:
    return ctx.ask("POST", f"/streams/{stream}/cancel").end()


@check("RS-STOP-01")
def stopped(ctx: Context) -> None:
    """A stop is 202, and a stream that was live ends `cancelled`."""
    live = ctx.post(HELD).until_events(4)
    stop(ctx, live.stream).has_status(202)
    ctx.sealed(live.stream).has_header("stream-outcome", "cancelled")


@check("RS-STOP-02")
def upstream_closed(ctx: Context) -> None:
    """The upstream, which goes on sending, sees its client leave."""
    live = ctx.post(GOING_ON).until_events(4)
    stop(ctx, live.stream).has_status(202)
    ctx.upstream.wait_for(lambda calls: any(call.disconnected for call in calls), "a call whose client left")


@check("RS-STOP-03")
def events_kept(ctx: Context) -> None:
    """What came whole before the stop is readable after it, and no part of the event that was coming."""
    live = ctx.post(Script(tokens=9, fault="stall", at_byte=1000))
    (call,) = ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is silent")
    whole = blocks(ctx.upstream.sent(call))
    ctx.expect(0 < len(b"".join(whole)) < 1000, "whole events and a part of one", whole)
    live.until_events(len(whole))
    stop(ctx, live.stream).has_status(202)
    ctx.sealed(live.stream).has_header("stream-outcome", "cancelled")
    ctx.read(live.stream, "offset=-1").has_status(200).has_body(b"".join(whole))


@check("RS-STOP-04")
def of_the_sealed(ctx: Context) -> None:
    """A stop of a stream that completed, or failed, is 202 and leaves outcome and payload as they are."""
    for script in (Script(tokens=5), Script(tokens=9, fault="rst", at_event=4)):
        ended = ctx.post(script, key=None, headers={"stream-exact": "true"}).end()
        outcome = ctx.sealed(ended.stream).value("stream-outcome")
        stop(ctx, ended.stream).has_status(202)
        ctx.head(ended.stream).has_header("stream-outcome", outcome)
        ctx.read(ended.stream, "offset=-1").has_body(ended.body)


@check("RS-STOP-05")
def readers_are_told(ctx: Context) -> None:
    """Who reads along sees the stop: in the provider's grammar, as a broken body, as the last event."""
    live = ctx.post(HELD).until_events(4)
    tail = ctx.read(live.stream, "live=tail").until(len(live.payload))
    events = ctx.read(live.stream, "live=events").until_events(4)
    stop(ctx, live.stream).has_status(202)
    last = live.ends_framed().events[4:]
    live.expect(['"cancelled"' in event.data for event in last] == [True], "a failure that says cancelled", last)
    tail.ends_cut()
    last = events.ends_framed().events[4:]
    told = [(event.name, '"cancelled"' in event.data) for event in last]
    events.expect(told == [("resumestream.end", True)], "the end event, which says cancelled", last)


@check("RS-STOP-06")
def who_waits(ctx: Context) -> None:
    """Who waits for the upstream's status gets 410 `cancelled`."""
    waiting = ctx.post(Script(fault="stall", before_head=True))
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call without an answer")
    for entry in ctx.get("/streams").json()["streams"]:
        stop(ctx, entry["id"]).has_status(202)
    waiting.is_problem(410, "cancelled")


@check("RS-STOP-07")
def of_the_gone(ctx: Context) -> None:
    """A stop of a stream that was deleted, or has expired, is 410 `stream-gone`."""
    deleted = ctx.post(key=None).ends_framed().stream
    ctx.ask("DELETE", f"/streams/{deleted}").has_status(204)
    expired = ctx.post(key=None, headers={"stream-retain": "0"}).ends_framed().stream
    ctx.eventually(lambda: ctx.head(expired), lambda seen: seen.status == 410, "status 410")
    for stream in (deleted, expired):
        stop(ctx, stream).is_problem(410, "stream-gone")
