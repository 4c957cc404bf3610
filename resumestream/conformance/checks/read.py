"""READ: the stream resource, a page at a time and live."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check

SSE = "text/event-stream; charset=utf-8"


@check("RS-READ-01")
def page_to_the_tail(ctx: Context) -> None:
    """A page of a live stream holds all payload so far, ends, and says that more may follow."""
    live = ctx.post(Script(tokens=20, hold_at=4)).until_events(4)
    page = ctx.read(live.stream, "offset=-1").has_status(200).ends_framed().has_body(live.payload)
    page.has_header("stream-next-offset", f"{len(live.payload):016}").has_header("content-type", SSE)
    page.has_header("stream-up-to-date", "true").lacks_header("stream-closed")


@check("RS-READ-02")
def page_of_a_sealed_stream(ctx: Context) -> None:
    """A page of a stream that has ended is closed and names the outcome, also of one that failed."""
    for script, outcome in ((Script(tokens=9), "completed"), (Script(tokens=9, fault="rst", at_event=4), "truncated")):
        ended = ctx.post(script, key=None, headers={"stream-exact": "true"}).end()
        ctx.sealed(ended.stream)
        page = ctx.read(ended.stream, "offset=0").has_status(200).ends_framed().has_body(ended.body)
        page.has_header("stream-closed", "true").has_header("stream-outcome", outcome)


@check("RS-READ-03")
def without_an_offset(ctx: Context) -> None:
    """A page without an offset begins at the start."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    ctx.read(whole.stream).has_header("stream-offset", "0" * 16).has_body(whole.payload)


@check("RS-READ-04")
def page_after_page(ctx: Context) -> None:
    """Pages, each from the `Stream-Next-Offset` of the one before, make the payload without a gap or a repeat."""
    live = ctx.post(Script(tokens=9, hold_at=3)).until_events(3)
    first = ctx.read(live.stream, "offset=-1").end()
    ctx.upstream.release()
    live.ends_framed()
    ctx.sealed(live.stream)
    second = ctx.read(live.stream, f"offset={first.value('stream-next-offset')}").end()
    ctx.expect(first.body + second.body == live.payload, "the payload in two pages", first.body + second.body)
    last = ctx.read(live.stream, f"offset={second.value('stream-next-offset')}").has_body(b"")
    last.has_header("stream-closed", "true")


@check("RS-READ-05")
def live_tail(ctx: Context) -> None:
    """`live=tail` gives the payload from the offset, then what comes, to the end, in its own content type."""
    live = ctx.post(Script(tokens=9, hold_at=3)).until_events(3)
    tail = ctx.read(live.stream, "offset=-1&live=tail").has_status(200).has_header("content-type", SSE)
    tail.until(len(live.payload))
    ctx.upstream.release()
    tail.ends_framed().has_body(live.ends_framed().payload)


@check("RS-READ-06")
def a_failed_tail_is_cut(ctx: Context) -> None:
    """`live=tail` of a stream that failed ends cut, for who read along and for who comes later."""
    live = ctx.post(Script(tokens=9, hold_at=3, fault="rst", at_event=5)).until_events(3)
    along = ctx.read(live.stream, "live=tail").until(len(live.payload))
    ctx.upstream.release()
    along.ends_cut()
    ctx.sealed(live.stream)
    late = ctx.read(live.stream, "live=tail").ends_cut()
    late.expect(late.body == along.body, "the same bytes", late.body)


@check("RS-READ-07")
def many_readers(ctx: Context) -> None:
    """Readers at different places and times see the same bytes at the same offsets."""
    live = ctx.post(Script(tokens=30, hold_at=10)).until_events(10)
    ends = [sum(len(event.raw) for event in live.events[:count]) for count in (0, 3, 10)]
    readers = [(at, ctx.read(live.stream, f"offset={at}&live=tail")) for at in ends]
    ctx.upstream.release()
    whole = live.ends_framed().payload
    for at, reader in readers:
        reader.ends_framed().has_body(whole[at:])


@check("RS-READ-08")
def leaving_changes_nothing(ctx: Context) -> None:
    """A reader that leaves in mid-answer changes nothing for the others and the call."""
    live = ctx.post(Script(tokens=9, hold_at=3)).until_events(3)
    other = ctx.read(live.stream, "live=tail").until(len(live.payload))
    live.leave(reset=True)
    ctx.upstream.release()
    (call,) = ctx.upstream.wait_for(lambda calls: calls[0].ended, "the end of the call")
    other.ends_framed().has_body(ctx.upstream.sent(call))


@check("RS-READ-09")
def bad_query(ctx: Context) -> None:
    """A `live` that there is not is 400."""
    whole = ctx.post(Script(tokens=3)).ends_framed()
    ctx.read(whole.stream, "live=later").is_problem(400, "invalid-query")
    ctx.read(whole.stream, "offset=0&from_event=0").is_problem(400, "invalid-query")


@check("RS-READ-10")
def never_calls(ctx: Context) -> None:
    """Nothing below `/streams` calls a provider."""
    ctx.read("no-such-stream", "live=tail").is_problem(404, "stream-not-found")
    ctx.get(f"/streams?key={ctx.key}").has_status(200).end()
    ctx.upstream.count_is(0)


@check("RS-READ-11")
def order_of_refusals(ctx: Context) -> None:
    """Unknown or foreign comes before gone, and gone before a malformed offset."""
    whole = ctx.post(Script(tokens=3)).ends_framed()
    ctx.read(whole.stream, "offset=abc", headers=ctx.stranger).is_problem(404, "stream-not-found")
    ctx.ask("DELETE", f"/streams/{whole.stream}").has_status(204).end()
    ctx.read(whole.stream, "offset=abc").is_problem(410, "stream-gone")
    ctx.read(whole.stream, "offset=abc", headers=ctx.stranger).is_problem(404, "stream-not-found")
