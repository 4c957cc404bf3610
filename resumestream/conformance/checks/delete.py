"""DEL: deleting streams."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check, exempt

HELD = Script(tokens=9, hold_at=4)
GOING_ON = Script(tokens=1000, delay_s=0.1)
"""Ends only where somebody ends it."""


def delete(ctx: Context, stream: str, query: str = "") -> Answer:
    return ctx.ask("DELETE", f"/streams/{stream}{query}").end()


@check("RS-DEL-01")
def unreadable(ctx: Context) -> None:
    """After 204 a page, a tail, events and HEAD are 410."""
    stream = ctx.post().ends_framed().stream
    delete(ctx, stream).has_status(204)
    for query in ("", "offset=-1", "live=tail", "live=events", "offset=now&live=tail"):
        ctx.read(stream, query).is_problem(410, "stream-gone")
    ctx.head(stream).has_status(410)


@check("RS-DEL-02")
def of_the_live(ctx: Context) -> None:
    """A live stream that is deleted ends `cancelled`, and its upstream sees the client leave."""
    live = ctx.post(GOING_ON).until_events(4)
    delete(ctx, live.stream).has_status(204)
    ctx.upstream.wait_for(lambda calls: any(call.disconnected for call in calls), "a call whose client left")
    told = ctx.info(live.stream)
    ctx.expect(told["outcome"] == "cancelled", "outcome cancelled", told["outcome"])


@check("RS-DEL-03")
def open_reads(ctx: Context) -> None:
    """Who reads along when a stream is deleted is cut, or told of a failure."""
    live = ctx.post(GOING_ON).until_events(4)
    tail = ctx.read(live.stream, "live=tail").until(len(live.payload))
    delete(ctx, live.stream).has_status(204)
    tail.ends_cut()
    told = live.end().ended == "cut" or any('"error"' in event.data for event in live.events[4:])
    live.expect(told, "a cut, or a failure in the answer", live.body[-200:])


@check("RS-DEL-04")
def record(ctx: Context) -> None:
    """`info` of a deleted stream still has its outcome and its final offset."""
    whole = ctx.post().ends_framed()
    ctx.sealed(whole.stream)
    delete(ctx, whole.stream).has_status(204)
    told = ctx.info(whole.stream)
    seen = told["outcome"], told["next_offset"]
    expected = "completed", f"{len(whole.payload):016}"
    ctx.expect(seen == expected, str(expected), seen)


@check("RS-DEL-05")
def forgotten(ctx: Context) -> None:
    """A stream that was forgotten is 404, live or ended, and its key makes a new call."""
    for number, script in enumerate((Script(tokens=5), HELD), 1):
        before = ctx.post(script, Script(tokens=5)).has_status(200).until_events(4).stream
        delete(ctx, before, "?forget=true").has_status(204)
        ctx.read(before).is_problem(404, "stream-not-found")
        ctx.get(f"/streams/{before}/info").is_problem(404, "stream-not-found")
        after = ctx.post().has_status(200).lacks_header("idempotent-replayed").ends_framed()
        after.expect(after.stream != before, "a new stream", after.stream)
        ctx.upstream.count_is(2 * number)
        delete(ctx, after.stream, "?forget=true").has_status(204)


@check("RS-DEL-06")
def by_label(ctx: Context) -> None:
    """All streams of the caller with the label go, no other of the caller's, and nobody else's."""
    label = {"stream-label": "one"}
    with_it = [ctx.post(key=None, headers=label).ends_framed().stream for _ in range(3)]
    other = ctx.post(key=None, headers={"stream-label": "two"}).ends_framed().stream
    foreign = ctx.post(key=None, headers=label | ctx.stranger).ends_framed().stream
    ctx.ask("DELETE", "/streams").is_problem(400, "invalid-query")
    ctx.ask("DELETE", "/streams?label=one").has_status(204)
    for stream in with_it:
        ctx.read(stream).is_problem(410, "stream-gone")
    ctx.read(other).has_status(200)
    ctx.read(foreign, headers=ctx.stranger).has_status(200)


@check("RS-DEL-07")
def twice(ctx: Context) -> None:
    """The second deletion is 204 as the first."""
    stream = ctx.post().ends_framed().stream
    for _ in range(2):
        delete(ctx, stream).has_status(204)


exempt("RS-DEL-08", "Whether bytes are still in the storage of a server shows in its storage alone.")
