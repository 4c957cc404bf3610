"""SSE: `live=events`, for EventSource."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check
from ..sse import without_ids


@check("RS-SSE-01")
def ids(ctx: Context) -> None:
    """Each event is as it was sent, with the offset behind it as its last field `id`."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    watched = ctx.read(whole.stream, "live=events").has_status(200).ends_framed()
    watched.has_header("content-type", "text/event-stream")
    at = 0
    for event, seen in zip(whole.events, watched.events, strict=True):
        at += len(event.raw)
        expected = event.raw.removesuffix(b"\n") + f"id: {at:016}\n\n".encode()
        watched.expect(seen.raw == expected, repr(expected), seen.raw)


@check("RS-SSE-02")
def live(ctx: Context) -> None:
    """A watcher gets what is there, and then each event as it comes."""
    answer = ctx.post(Script(tokens=9, hold_at=4)).until_events(4)
    watched = ctx.read(answer.stream, "live=events").until_events(4)
    ctx.upstream.release()
    watched.ends_framed()
    whole = answer.ends_framed().payload
    watched.expect(without_ids(watched.body) == whole, "the payload", without_ids(watched.body)[-80:])


@check("RS-SSE-03")
def by_last_event_id(ctx: Context) -> None:
    """`Last-Event-ID` alone asks for `live=events`, and goes on behind that event."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    first = ctx.read(whole.stream, "live=events").ends_framed()
    last = first.events[3].id
    again = ctx.read(whole.stream, headers={"last-event-id": last}).ends_framed()
    again.has_header("content-type", "text/event-stream").has_header("stream-offset", str(last))
    rest = [event.raw for event in first.events[4:]]
    again.expect([event.raw for event in again.events] == rest, "the events behind it", again.body[:80])


@check("RS-SSE-04")
def last_event_id_wins(ctx: Context) -> None:
    """`Last-Event-ID` wins over `offset`."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    last = ctx.read(whole.stream, "live=events").ends_framed().events[3].id
    again = ctx.read(whole.stream, "live=events&offset=0", headers={"last-event-id": last}).ends_framed()
    again.has_header("stream-offset", str(last))


@check("RS-SSE-05")
def the_failure_is_told(ctx: Context) -> None:
    """A stream that is not `completed` ends with `resumestream.end`, its outcome as JSON and its `.end` id."""
    failed = ctx.post(Script(tokens=9, fault="rst", at_event=4), headers={"stream-exact": "true"}).end()
    ctx.sealed(failed.stream)
    watched = ctx.read(failed.stream, "live=events").ends_framed()
    last = watched.events[-1]
    watched.expect(last.name == "resumestream.end", "a last event resumestream.end", last.raw)
    watched.expect(last.json().get("outcome") == "truncated", "outcome truncated", last.data)
    watched.expect(last.id == f"{len(failed.body):016}.end", f"id {len(failed.body):016}.end", last.id)
    ctx.read(failed.stream, headers={"last-event-id": last.id}).has_status(204)


@check("RS-SSE-06")
def who_has_everything(ctx: Context) -> None:
    """A reader that has everything of a completed stream gets 204, which stops an EventSource."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    ctx.sealed(whole.stream)
    last = ctx.read(whole.stream, "live=events").ends_framed().events[-1]
    ctx.read(whole.stream, "live=events", headers={"last-event-id": last.id}).has_status(204)


@check("RS-SSE-07")
def no_events(ctx: Context) -> None:
    """`live=events` of a payload without events is 406."""
    plain = ctx.post(Script(body=b"{}", headers={"content-type": "application/json"})).ends_framed()
    ctx.read(plain.stream, "live=events").is_problem(406, "no-events")


@check("RS-SSE-08")
def within_an_event(ctx: Context) -> None:
    """An offset within an event is 400 with `live=events`."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    ctx.read(whole.stream, "live=events&offset=3").is_problem(400, "offset-malformed")


@check("RS-SSE-09", needs=("keepalive_s",))
def keep_alives(ctx: Context) -> None:
    """A watcher that waits gets comments, which are no payload and have no offset."""
    answer = ctx.post(Script(tokens=9, hold_at=4)).until_events(4)
    watched = ctx.read(answer.stream, "live=events").until_events(4)
    quiet = len(watched.body)
    watched.silent_for(ctx.limit("keepalive_s") * 3)
    watched.expect(watched.body[quiet:].startswith(b":"), "a comment", watched.body[quiet:])
    ctx.upstream.release()
    watched.ends_framed()
    whole = answer.ends_framed().payload
    watched.expect(without_ids(watched.body) == whole, "the payload", without_ids(watched.body)[-80:])
