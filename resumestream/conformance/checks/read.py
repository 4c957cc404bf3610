"""READ: the stream resource, a page at a time and live."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check

SSE = "text/event-stream; charset=utf-8"
BROKEN = Script(tokens=9, fault="rst", at_event=4)
EXACT = {"stream-exact": "true"}
"""Nothing but payload, then."""


def live(ctx: Context) -> Answer:
    """An answer of which three events have come."""
    return ctx.post(Script(tokens=9, hold_at=3)).until_events(3)


@check("RS-READ-01")
def to_the_tail(ctx: Context) -> None:
    """A page of a live stream holds all payload from its offset to now, and ends."""
    answer = live(ctx)
    ctx.read(answer.stream, "offset=0").has_status(200).ends_framed().has_body(answer.payload)
    at = len(answer.events[0].raw)
    ctx.read(answer.stream, f"offset={at}").ends_framed().has_body(answer.payload[at:])
    ctx.upstream.release()
    answer.ends_framed()


@check("RS-READ-02")
def from_the_start(ctx: Context) -> None:
    """A read without a position begins at the start, live and not."""
    whole = ctx.post(Script(tokens=9)).ends_framed()
    for query in ("", "live=tail"):
        ctx.read(whole.stream, query).has_header("stream-offset", "0" * 16).has_body(whole.payload)
    ctx.read(whole.stream, "live=events").has_header("stream-offset", "0" * 16).end()


@check("RS-READ-03")
def next_offset(ctx: Context) -> None:
    """A page tells the offset behind its last byte."""
    answer = live(ctx)
    tail = f"{len(answer.payload):016}"
    for query in ("", f"offset={len(answer.events[0].raw)}", "offset=now", "from_event=2"):
        ctx.read(answer.stream, query).has_header("stream-next-offset", tail).end()
    ctx.upstream.release()
    tail = f"{len(answer.ends_framed().payload):016}"
    ctx.read(answer.stream).has_header("stream-next-offset", tail).end()


@check("RS-READ-04")
def up_to_date(ctx: Context) -> None:
    """A page that reaches the tail says so, of a live stream and of a sealed one."""
    answer = live(ctx)
    ctx.read(answer.stream).has_header("stream-up-to-date", "true").end()
    ctx.upstream.release()
    answer.ends_framed()
    ctx.read(answer.stream).has_header("stream-up-to-date", "true").end()


@check("RS-READ-05")
def closed(ctx: Context) -> None:
    """A page is closed where the stream has ended, and not before."""
    answer = live(ctx)
    ctx.read(answer.stream).lacks_header("stream-closed").end()
    ctx.upstream.release()
    answer.ends_framed()
    ctx.sealed(answer.stream)
    for query in ("", "offset=now"):
        ctx.read(answer.stream, query).has_header("stream-closed", "true").end()


@check("RS-READ-06")
def page_of_a_failed_stream(ctx: Context) -> None:
    """A page of a stream that failed is 200, whole, and has the payload alone."""
    broken = ctx.post(BROKEN, headers=EXACT).end()
    ctx.sealed(broken.stream)
    page = ctx.read(broken.stream).has_status(200).ends_framed().has_body(broken.body)
    page.has_header("stream-outcome", "truncated").has_header("stream-closed", "true")


@check("RS-READ-07")
def content_type(ctx: Context) -> None:
    """A page and a live tail have the content type of the payload."""
    for kind in (SSE, "application/json", "audio/mpeg"):
        whole = ctx.post(Script(body=b"data: 1\n\n", headers={"content-type": kind}), path="/v1/x", key=None).end()
        for query in ("", "live=tail"):
            ctx.read(whole.stream, query).has_header("content-type", kind).end()


@check("RS-READ-08")
def live_tail(ctx: Context) -> None:
    """`live=tail` gives the payload from its offset, then what comes, to the end."""
    answer = live(ctx)
    at = len(answer.events[0].raw)
    tails = [(0, ctx.read(answer.stream, "live=tail")), (at, ctx.read(answer.stream, f"offset={at}&live=tail"))]
    tails.append((len(answer.payload), ctx.read(answer.stream, "offset=now&live=tail")))
    for begin, tail in tails:
        tail.has_status(200).until(len(answer.payload) - begin)
    ctx.upstream.release()
    whole = answer.ends_framed().payload
    for begin, tail in tails:
        tail.ends_framed().has_body(whole[begin:])


@check("RS-READ-09", needs=("keepalive_s",))
def nothing_but_payload(ctx: Context) -> None:
    """`live=tail` of a stream that is silent, and then fails, gives payload alone."""
    answer = ctx.post(Script(tokens=9, hold_at=3, fault="rst", at_event=5), headers=EXACT).until_events(3)
    tail = ctx.read(answer.stream, "live=tail").silent_for(ctx.limit("keepalive_s") * 2.5)
    tail.expect(tail.body == answer.body, "the payload so far", tail.body[-80:])
    ctx.upstream.release()
    tail.has_body(answer.end().body)


@check("RS-READ-10")
def a_failed_tail_is_broken(ctx: Context) -> None:
    """`live=tail` of a stream that fails ends in a broken body, unless the provider's own failure is in the payload."""
    answer = ctx.post(Script(tokens=9, hold_at=3, fault="rst", at_event=5)).until_events(3)
    along = ctx.read(answer.stream, "live=tail").until(len(answer.payload))
    ctx.upstream.release()
    along.ends_cut()
    ctx.sealed(answer.stream)
    ctx.read(answer.stream, "live=tail").ends_cut().has_body(along.body)
    told = ctx.post(Script(tokens=9, error_at=4), key=None).ends_framed()
    ctx.read(told.stream, "live=tail").ends_framed().has_body(told.payload)


@check("RS-READ-11")
def one_after_the_other(ctx: Context) -> None:
    """What a second read gives from where the first stopped makes the payload, without a gap or a repeat."""
    answer = live(ctx)
    first = ctx.read(answer.stream).end()
    left = ctx.read(answer.stream, "live=tail").until(len(answer.payload))
    left.leave()
    ctx.upstream.release()
    whole = answer.ends_framed().payload
    for before, begin in ((first.body, first.value("stream-next-offset")), (left.body, str(len(left.body)))):
        for query in ("", "&live=tail"):
            second = ctx.read(answer.stream, f"offset={begin}{query}").end()
            second.expect(before + second.body == whole, "the rest of the payload", second.body[:80])


@check("RS-READ-12")
def many_readers(ctx: Context) -> None:
    """Readers of all kinds, who come at different times, get the same bytes."""
    answer = ctx.post(Script(tokens=60, hold_at=9, delay_s=0.001)).until_events(9)
    readers = [ctx.read(answer.stream, "live=tail") for _ in range(6)]
    readers += [ctx.post() for _ in range(6)]
    ctx.upstream.release()
    readers += [ctx.read(answer.stream, "live=tail") for _ in range(3)]
    whole = answer.ends_framed().payload
    for reader in readers:
        reader.has_status(200).ends_framed().has_payload(whole)


LARGE_BYTES = 5 << 20
"""More than sockets hold."""


@check("RS-READ-13")
def a_reader_that_does_not_read(ctx: Context) -> None:
    """While one reader takes nothing, the call comes to its end and another reader gets everything."""
    size = min(LARGE_BYTES, int(ctx.limits.get("max_stream_bytes", LARGE_BYTES)) // 2)
    event = b"data: " + b"x" * 4090 + b"\n\n"
    script = Script(body=event * (size // len(event)), hold_at=1, chunking=(65536,))
    answer = ctx.post(script, path="/v1/x").until_events(1)
    stuck = ctx.ask("GET", f"/streams/{answer.stream}?live=tail", window=4096).has_status(200)
    ctx.upstream.release()
    answer.ends_framed().has_payload(script.body or b"")
    ctx.upstream.wait_for(lambda calls: calls[0].finished, "the end of the call")
    ctx.sealed(answer.stream).has_header("stream-outcome", "completed")
    stuck.leave()


@check("RS-READ-14")
def never_a_call(ctx: Context) -> None:
    """No way to read, of a stream that there is and of one that there is not, leads to a call."""
    whole = ctx.post(Script(tokens=3)).ends_framed()
    for stream in (whole.stream, "no-such-stream"):
        for query in ("", "live=tail", "live=events", "offset=now"):
            ctx.read(stream, query).end()
        ctx.head(stream).end()
    ctx.get(f"/streams?key={ctx.key}-other").has_status(200).end()
    ctx.upstream.count_is(1)


@check("RS-READ-15")
def another_live(ctx: Context) -> None:
    """A `live` that there is not is 400."""
    whole = ctx.post(Script(tokens=3)).ends_framed()
    for value in ("later", "", "TAIL"):
        ctx.read(whole.stream, f"live={value}").is_problem(400, "invalid-query")


@check("RS-READ-16")
def while_pending(ctx: Context) -> None:
    """A live read of a pending stream is answered when the upstream has answered, and goes on from there."""
    script = Script(tokens=5, fault="stall", before_head=True, headers={"x-request-id": "req_1"})
    made = ctx.post(script, headers={"prefer": "respond-async"}).has_status(202)
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held before its head")
    tail, watched = ctx.read(made.stream, "live=tail"), ctx.read(made.stream, "live=events")
    ctx.upstream.release()
    whole = ctx.post().has_status(200).ends_framed().payload
    tail.has_status(200).ends_framed().has_body(whole)
    watched.has_status(200).ends_framed()


@check("RS-READ-17")
def without_an_answer(ctx: Context) -> None:
    """`live=tail` of a stream whose upstream never answered is a problem with the status of its outcome."""
    lost = ctx.post(Script(fault="rst", before_head=True)).has_status(502).end()
    ctx.sealed(lost.stream).has_header("stream-outcome", "truncated")
    ctx.read(lost.stream, "live=tail").is_problem(502, "truncated")


@check("RS-READ-18")
def by_the_key(ctx: Context) -> None:
    """`Stream-Offset` beside the key gives the answer from that offset on, live and later, without a call."""
    answer = live(ctx)
    at = len(answer.payload)
    resumed = ctx.post(headers={"stream-offset": f"{at}"}).has_status(200)
    ctx.upstream.release()
    whole = answer.ends_framed().payload
    resumed.ends_framed().has_body(whole[at:])
    ctx.post(headers={"stream-offset": f"{at:016}"}).has_header("stream-id", answer.stream).has_body(whole[at:])
    ctx.upstream.count_is(1)


@check("RS-READ-19")
def nothing_to_resume(ctx: Context) -> None:
    """An offset with a key that has no stream, or without a key, is 412 and never a call."""
    for offset in ("0", "-1", "100"):
        ctx.post(headers={"stream-offset": offset}).is_problem(412, "nothing-to-resume")
        ctx.post(key=None, headers={"stream-offset": offset}).is_problem(412, "nothing-to-resume")
    ctx.upstream.count_is(0)
