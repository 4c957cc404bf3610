"""OFF: offsets and event counts."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check


@check("RS-OFF-01")
def padded(ctx: Context) -> None:
    """An offset that is handed out has 16 digits and counts the payload bytes before it."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    ctx.sealed(whole.stream).has_header("stream-next-offset", f"{len(whole.payload):016}")


@check("RS-OFF-02")
def unpadded(ctx: Context) -> None:
    """An offset without padding means the same."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    at = len(whole.events[0].raw)
    for token in (f"{at}", f"{at:016}"):
        page = ctx.read(whole.stream, f"offset={token}").has_header("stream-offset", f"{at:016}")
        page.has_body(whole.payload[at:])


@check("RS-OFF-03")
def edges(ctx: Context) -> None:
    """`-1` is the start, `now` the tail."""
    live = ctx.post(Script(tokens=9, hold_at=4)).until_events(4)
    at = len(live.payload)
    ctx.read(live.stream, "offset=-1").has_header("stream-offset", "0" * 16).has_body(live.payload)
    ctx.read(live.stream, "offset=now").has_header("stream-offset", f"{at:016}").has_body(b"")
    later = ctx.read(live.stream, "offset=now&live=tail").has_header("stream-offset", f"{at:016}")
    ctx.upstream.release()
    later.has_body(live.ends_framed().payload[at:])


@check("RS-OFF-04")
def from_event(ctx: Context) -> None:
    """`from_event=N` is behind the first N whole events."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    for count in (0, 1, 5, len(whole.events)):
        at = sum(len(event.raw) for event in whole.events[:count])
        page = ctx.read(whole.stream, f"from_event={count}").has_header("stream-offset", f"{at:016}")
        page.has_body(whole.payload[at:])


MALFORMED = ("abc", "-2", "1.5", "0x10", "s01.0000000000000000", "s2.0", "%2B5", "1" * 17)


@check("RS-OFF-05")
def malformed(ctx: Context) -> None:
    """What is no offset is 400."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    for token in MALFORMED:
        ctx.read(whole.stream, f"offset={token}").is_problem(400, "offset-malformed")


@check("RS-OFF-06")
def beyond_the_tail(ctx: Context) -> None:
    """An offset beyond the tail, an event that never came, and a segment that is not there are 416."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    ctx.sealed(whole.stream)
    beyond = f"offset={len(whole.payload) + 1}", f"from_event={len(whole.events) + 1}", "offset=s02.0000000000000000"
    for query in beyond:
        ctx.read(whole.stream, query).is_problem(416, "offset-beyond-tail")


@check("RS-OFF-07")
def the_same_bytes_for_ever(ctx: Context) -> None:
    """The same offset gives the same payload, live and sealed."""
    live = ctx.post(Script(tokens=9, hold_at=6)).until_events(6)
    at = len(live.events[0].raw)
    early = ctx.read(live.stream, f"offset={at}").end().body
    ctx.upstream.release()
    live.ends_framed()
    late = ctx.read(live.stream, f"offset={at}").end()
    late.expect(late.body.startswith(early), "the bytes that were there before", late.body[:80])
    late.expect(late.body == live.payload[at:], "the provider's bytes from there", late.body[:80])


@check("RS-OFF-08")
def on_event_boundaries(ctx: Context) -> None:
    """Every offset that is handed out of an event stream lies between two events, however it was cut on its way."""
    live = ctx.post(Script(tokens=9, hold_at=6, chunking=(7,)))
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held")
    live.until_events(6)
    at = int(ctx.head(live.stream).value("stream-next-offset"))
    ends = [sum(len(event.raw) for event in live.events[:count]) for count in range(len(live.events) + 1)]
    ctx.expect(at in ends, f"one of {ends}", at)


@check("RS-OFF-09")
def resumes_by_key(ctx: Context) -> None:
    """`Stream-Offset` beside the key goes on at that offset on the gateway, live."""
    live = ctx.post(Script(tokens=9, hold_at=4)).until_events(4)
    at = len(live.payload)
    resumed = ctx.post(headers={"stream-offset": f"{at:016}"}).has_status(200)
    ctx.upstream.release()
    resumed.ends_framed().has_body(live.ends_framed().payload[at:])
    ctx.upstream.count_is(1)


@check("RS-OFF-10")
def nothing_to_resume(ctx: Context) -> None:
    """An offset with a key that has no stream is 412 and never a call."""
    for headers in ({"stream-offset": "0"}, {"last-event-id": "0" * 16}):
        ctx.post(headers=headers).is_problem(412, "nothing-to-resume")
    ctx.post(key=None, headers={"stream-offset": "0"}).is_problem(412, "nothing-to-resume")
    ctx.upstream.count_is(0)


@check("RS-OFF-11")
def no_events(ctx: Context) -> None:
    """In a payload without events every byte is a boundary."""
    body = bytes(range(256))
    kind = {"content-type": "application/octet-stream"}
    whole = ctx.post(Script(body=body, headers=kind), path="/v1/audio/speech").ends_framed().has_body(body)
    ctx.read(whole.stream, "offset=100").has_body(body[100:])
