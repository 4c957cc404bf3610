"""SSE: `live=events`, for EventSource."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check
from ..sse import without_ids

BROKEN = Script(tokens=9, fault="rst", at_event=4)


def completed(ctx: Context) -> Answer:
    answer = ctx.post(Script(tokens=9)).ends_framed()
    ctx.sealed(answer.stream)
    return answer


def failed(ctx: Context) -> Answer:
    """A stream that broke off; the body of this answer is its payload."""
    answer = ctx.post(BROKEN, headers={"stream-exact": "true"}).end()
    ctx.sealed(answer.stream).has_header("stream-outcome", "truncated")
    return answer


def watch(ctx: Context, stream: str, query: str = "", last: str | None = None) -> Answer:
    return ctx.read(stream, f"live=events{query}", headers={"last-event-id": last})


@check("RS-SSE-01")
def ids(ctx: Context) -> None:
    """Each event is as it was sent, with the offset behind it as its last field `id`, live and later, and
    in the event's own line ends."""
    answer = ctx.post(Script(tokens=9, hold_at=4)).until_events(4)
    along = watch(ctx, answer.stream).has_status(200).has_header("content-type", "text/event-stream").until_events(4)
    ctx.upstream.release()
    answer.ends_framed()
    for watched in (along.ends_framed(), watch(ctx, answer.stream).ends_framed()):
        at = 0
        for event, seen in zip(answer.events, watched.events, strict=True):
            at += len(event.raw)
            expected = event.raw.removesuffix(b"\n") + f"id: {at:016}\n\n".encode()
            watched.expect(seen.raw == expected, repr(expected), seen.raw)
    for end in (b"\r\n", b"\r"):
        body = b"data: 1" + end + end
        crlf = ctx.post(Script(body=body), path="/v1/x", key=f"{ctx.key}-{len(end)}").has_body(body)
        watched = watch(ctx, crlf.stream).ends_framed()
        expected = b"data: 1" + end + f"id: {len(body):016}".encode() + end + end
        watched.expect(watched.body == expected, repr(expected), watched.body)


@check("RS-SSE-02")
def go_on_behind(ctx: Context) -> None:
    """`Last-Event-ID` goes on behind the event that had that id, whichever it was."""
    whole = watch(ctx, completed(ctx).stream).ends_framed()
    stream = whole.stream
    for index in (0, 3, len(whole.events) - 2):
        again = watch(ctx, stream, last=whole.events[index].id).has_status(200).ends_framed()
        rest = [event.raw for event in whole.events[index + 1 :]]
        again.expect([event.raw for event in again.events] == rest, f"{len(rest)} events behind it", again.body[:80])


@check("RS-SSE-03")
def last_event_id_wins(ctx: Context) -> None:
    """`Last-Event-ID` wins over `offset`, `from_event` and, in a POST, `Stream-Offset`."""
    whole = completed(ctx)
    last = str(watch(ctx, whole.stream).ends_framed().events[3].id)
    for query in ("&offset=0", "&from_event=1"):
        watch(ctx, whole.stream, query, last).has_header("stream-offset", last).ends_framed()
    ctx.post(headers={"stream-offset": "0", "last-event-id": last}).has_header("stream-offset", last).ends_framed()


@check("RS-SSE-04")
def by_last_event_id(ctx: Context) -> None:
    """`Last-Event-ID` alone asks for `live=events`."""
    whole = completed(ctx)
    last = watch(ctx, whole.stream).ends_framed().events[3].id
    again = ctx.read(whole.stream, headers={"last-event-id": last}).has_header("content-type", "text/event-stream")
    again.ends_framed().expect(again.events[0].id is not None, "events with ids", again.body[:80])


@check("RS-SSE-05")
def the_failure_is_told(ctx: Context) -> None:
    """The end of a stream that is not completed is an event with outcome and detail, and an id that ends in `.end`."""
    broken = failed(ctx)
    watched = watch(ctx, broken.stream).ends_framed()
    last = watched.events[-1]
    watched.expect(last.name == "resumestream.end", "a last event resumestream.end", last.raw)
    told = last.json()
    watched.expect(told.get("outcome") == "truncated" and bool(told.get("detail")), "outcome and detail", last.data)
    watched.expect(last.id == f"{len(broken.body):016}.end", f"the id {len(broken.body):016}.end", last.id)
    kept = without_ids(watched.body)
    watched.expect(kept == broken.body, "the payload before it", kept[-80:])


@check("RS-SSE-06")
def the_end_is_clean(ctx: Context) -> None:
    """A completed stream's events end clean and without an end event."""
    whole = completed(ctx)
    watched = watch(ctx, whole.stream).ends_framed()
    watched.expect(b"resumestream.end" not in watched.body, "no end event", watched.body[-80:])
    watched.expect(without_ids(watched.body) == whole.payload, "the payload", without_ids(watched.body)[-80:])


@check("RS-SSE-07")
def who_has_everything(ctx: Context) -> None:
    """At the end of a completed stream, and behind an id that ends in `.end`, there is nothing: 204."""
    whole = completed(ctx)
    tail = f"{len(whole.payload):016}"
    watch(ctx, whole.stream, last=tail).has_status(204).has_body(b"")
    watch(ctx, whole.stream, f"&offset={tail}").has_status(204)
    watch(ctx, whole.stream, last=f"{tail}.end").has_status(204)
    broken = ctx.post(BROKEN, key=None).end()
    last = watch(ctx, ctx.sealed(broken.stream).stream).ends_framed().events[-1].id
    watch(ctx, broken.stream, last=last).has_status(204).has_body(b"")


@check("RS-SSE-08")
def the_failure_is_told_again(ctx: Context) -> None:
    """Who has every event of a failed stream, and not its end, is told the end."""
    broken = failed(ctx)
    again = watch(ctx, broken.stream, last=f"{len(broken.body):016}").has_status(200).ends_framed()
    names = [event.name for event in again.events]
    again.expect(names == ["resumestream.end"], "the end event alone", names)


@check("RS-SSE-09")
def no_events(ctx: Context) -> None:
    """A payload without events is 406."""
    for kind in ("application/json", "audio/mpeg"):
        plain = ctx.post(Script(body=b"{}", headers={"content-type": kind}), key=None).ends_framed()
        watch(ctx, plain.stream).is_problem(406, "no-events")


@check("RS-SSE-10")
def within_an_event(ctx: Context) -> None:
    """An offset within an event is 400."""
    whole = completed(ctx)
    first = len(whole.events[0].raw)
    for at in (1, first - 1, first + 1):
        watch(ctx, whole.stream, f"&offset={at}").is_problem(400, "offset-malformed")


@check("RS-SSE-11", needs=("keepalive_s",))
def comments(ctx: Context) -> None:
    """Who waits gets a comment, again and again, and no event but those that were sent."""
    answer = ctx.post(Script(tokens=9, hold_at=4)).until_events(4)
    watched = watch(ctx, answer.stream).until_events(4).silent_for(ctx.limit("keepalive_s") * 3.5)
    comments = [line for line in watched.body.splitlines() if line.startswith(b":")]
    watched.expect(len(comments) >= 2, "two comments or more", watched.body[-80:])
    ctx.upstream.release()
    watched.ends_framed()
    whole = answer.ends_framed().payload
    watched.expect(without_ids(watched.body) == whole, "the payload", without_ids(watched.body)[-80:])


@check("RS-SSE-12")
def ids_of_its_own(ctx: Context) -> None:
    """An event that has an id gets the server's behind it: that is the one that an EventSource keeps."""
    body = b"id: 1\ndata: a\n\ndata: b\nid: xyz\n\nevent: c\r\nid: 3\r\ndata: c\r\n\r\n"
    whole = ctx.post(Script(body=body), path="/v1/x").has_body(body)
    watched = watch(ctx, whole.stream).ends_framed()
    at = 0
    for event, seen in zip(whole.events, watched.events, strict=True):
        at += len(event.raw)
        own = [line for line in event.raw.splitlines() if line]
        lines = [line for line in seen.raw.splitlines() if line]
        expected = [*own, f"id: {at:016}".encode()]
        watched.expect(lines == expected, str(expected), lines)
