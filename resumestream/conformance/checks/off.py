"""OFF: offsets and event counts."""

from __future__ import annotations

from itertools import accumulate

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check
from ..sse import without_ids

PLAIN = "/v1/anything"
"""A path of no known dialect: an answer there may be anything."""


def ends(answer: Answer) -> list[int]:
    """The offset behind each event of a body that has nothing but events."""
    return [0, *accumulate(len(event.raw) for event in answer.events)]


@check("RS-OFF-01")
def padded(ctx: Context) -> None:
    """An offset that is handed out has 16 digits and counts the payload bytes before it."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    tail = f"{len(whole.payload):016}"
    ctx.sealed(whole.stream).has_header("stream-next-offset", tail)
    ctx.read(whole.stream).has_header("stream-next-offset", tail).end()
    told = ctx.info(whole.stream)["next_offset"]
    ctx.expect(told == tail, tail, told)


@check("RS-OFF-02")
def unpadded(ctx: Context) -> None:
    """An offset without padding, or with less of it, means the same."""
    whole = ctx.post(Script(tokens=9)).until_events(9).ends_framed()
    at = ends(whole)[1]
    for token in (f"{at}", f"0{at}", f"{at:016}"):
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
def on_event_boundaries(ctx: Context) -> None:
    """While half an event has come, every offset that is given lies behind the last whole one."""
    probe = ctx.post(Script(tokens=9), key=None).until_events(9).ends_framed()
    before, after = ends(probe)[4:6]
    script = Script(tokens=9, fault="stall", at_byte=(before + after) // 2, chunking=(11,))
    live = ctx.post(script).until_events(4)
    ctx.upstream.wait_for(lambda calls: calls[-1].held, "a call that is held within an event")
    for answer in (ctx.head(live.stream), ctx.read(live.stream)):
        answer.has_header("stream-next-offset", f"{before:016}").end()
    ctx.read(live.stream, "offset=now").has_header("stream-offset", f"{before:016}").end()
    ctx.upstream.release()
    live.ends_framed()


MALFORMED = ("abc", "-2", "1.5", "0x10", "%2B5", "1" * 17, "", "%20", "1,2", "16.end", "s01.0000000000000000", "s2.0")


@check("RS-OFF-05")
def malformed(ctx: Context) -> None:
    """What is no offset is 400 `offset-malformed`, live and not, and in `Last-Event-ID`."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    for token in MALFORMED:
        for query in ("", "&live=tail", "&live=events"):
            ctx.read(whole.stream, f"offset={token}{query}").is_problem(400, "offset-malformed")
    ctx.read(whole.stream, headers={"last-event-id": "abc"}).is_problem(400, "offset-malformed")
    ctx.post(headers={"stream-offset": "abc"}).is_problem(400, "offset-malformed")


@check("RS-OFF-06")
def beyond_the_tail(ctx: Context) -> None:
    """An offset beyond the tail is 416, live and not; the tail itself is not beyond."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    ctx.sealed(whole.stream)
    tail = len(whole.payload)
    for query in ("", "&live=tail", "&live=events"):
        ctx.read(whole.stream, f"offset={tail + 1}{query}").is_problem(416, "offset-beyond-tail")
    ctx.post(headers={"stream-offset": f"{tail + 1}"}).is_problem(416, "offset-beyond-tail")
    ctx.read(whole.stream, f"offset={tail}").has_status(200).has_body(b"")


@check("RS-OFF-07")
def the_same_bytes_for_ever(ctx: Context) -> None:
    """The same offset gives the same payload, whenever and however it is read."""
    live = ctx.post(Script(tokens=9, hold_at=6)).until_events(6)
    at = ends(live)[2]
    early = ctx.read(live.stream, f"offset={at}").end().body
    ctx.upstream.release()
    rest = live.ends_framed().payload[at:]
    ctx.expect(rest.startswith(early) and early != b"", "the payload from there", early[:80])
    for _ in range(2):
        ctx.read(live.stream, f"offset={at}").has_body(rest)
        ctx.read(live.stream, f"offset={at}&live=tail").has_body(rest)
        ctx.post(headers={"stream-offset": f"{at}"}).has_body(rest)


@check("RS-OFF-08")
def event_count(ctx: Context) -> None:
    """Blocks without data, comments and empty lines are no events; several lines of data are one."""
    body = b": c\n\nretry: 9\n\nid: 1\n\n\n\nevent: x\ndata: 1\ndata: 2\n\ndata\n\n:x\ndata: 3\n\nevent: y\n\n"
    whole = ctx.post(Script(body=body), path=PLAIN).has_body(body)
    ctx.sealed(whole.stream)
    count = ctx.info(whole.stream)["events"]
    ctx.expect(count == 3, "3 events", count)


@check("RS-OFF-09")
def line_ends(ctx: Context) -> None:
    """LF, CRLF and CR end lines, also mixed, and also where they come in two pieces."""
    blocks = b"data: 1\n\n", b"data: 2\r\n\r\n", b"data: 3\r\r", b"data: 4\r\n\n", b"data: 5\n\r\n", b"data: 6\r\n\r\n"
    for chunking in ("events", (1,), "random:5"):
        script = Script(body=b"".join(blocks), chunking=chunking)
        whole = ctx.post(script, path=PLAIN, key=None).has_body(b"".join(blocks))
        ctx.sealed(whole.stream)
        count = ctx.info(whole.stream)["events"]
        ctx.expect(count == len(blocks), f"{len(blocks)} events", count)
        for number, at in enumerate(accumulate(map(len, blocks)), 1):
            page = ctx.read(whole.stream, f"from_event={number}").has_header("stream-offset", f"{at:016}")
            page.has_body(b"".join(blocks[number:]))


@check("RS-OFF-10")
def from_event(ctx: Context) -> None:
    """`from_event=N` begins behind the first N events, on a page and live."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    ctx.sealed(whole.stream)
    for count, at in enumerate(ends(whole)):
        page = ctx.read(whole.stream, f"from_event={count}").has_header("stream-offset", f"{at:016}")
        page.has_body(whole.payload[at:])
    at = ends(whole)[3]
    ctx.read(whole.stream, "from_event=3&live=tail").has_body(whole.payload[at:])
    watched = ctx.read(whole.stream, "from_event=3&live=events").ends_framed()
    watched.expect(without_ids(watched.body) == whole.payload[at:], "the events behind it", watched.body[:80])


@check("RS-OFF-11")
def from_event_refused(ctx: Context) -> None:
    """More events than there are is 416; `from_event` beside `offset` is 400."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    ctx.sealed(whole.stream)
    ctx.read(whole.stream, f"from_event={len(whole.events) + 1}").is_problem(416, "offset-beyond-tail")
    ctx.read(whole.stream, "offset=0&from_event=0").is_problem(400, "invalid-query")


@check("RS-OFF-12", needs=("keepalive_s",))
def what_is_added(ctx: Context) -> None:
    """Keep-alives, failure frames and ids are in no offset."""
    live = ctx.post(Script(tokens=9, hold_at=4, fault="rst", at_event=6)).until_events(4)
    watched = ctx.read(live.stream, "live=events").until_events(4)
    for answer in (live, watched):
        answer.silent_for(ctx.limit("keepalive_s") * 2.5)
        answer.expect(b":\n" in answer.body or b": " in answer.body, "a keep-alive", answer.body[-80:])
    ctx.upstream.release()
    live.ends_framed()
    watched.ends_framed()
    sent = sum(len(event.raw) for event in live.events[:6])
    ctx.sealed(live.stream).has_header("stream-next-offset", f"{sent:016}")
    ids = [event.id for event in watched.events]
    expected = [f"{at:016}" for at in ends(live)[1:7]]
    watched.expect(ids == [*expected, f"{sent:016}.end"], f"the ids {expected} and the end", ids)


@check("RS-OFF-13")
def without_events(ctx: Context) -> None:
    """In a payload without events every byte is a place to read from."""
    body = bytes(range(256))
    script = Script(body=body, headers={"content-type": "application/octet-stream"})
    whole = ctx.post(script, path=PLAIN).has_body(body)
    for at in (0, 1, 100, 255, 256):
        ctx.read(whole.stream, f"offset={at}").has_body(body[at:])
        ctx.read(whole.stream, f"offset={at}&live=tail").has_body(body[at:])
