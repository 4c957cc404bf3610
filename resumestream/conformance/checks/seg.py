"""SEG: an answer that breaks off, and the next call's answer as a new segment."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT
from ..registry import check

UP = "segments"
BREAKS = Script(tokens=9, fault="rst", at_event=4)
SECOND = "s02.0000000000000000"


def broken_off(ctx: Context, second: Script, headers: dict[str, str] | None = None) -> Answer:
    """A caller's answer, read to its end, whose call broke off, and which `second` goes on with."""
    return ctx.post(BREAKS, second, upstream=UP, headers=headers).ends_framed()


def sealed(ctx: Context) -> tuple[str, bytes, bytes]:
    """A completed stream of two segments: its id, and the payload of each."""
    stream = broken_off(ctx, Script(tokens=5)).stream
    ctx.sealed(stream)
    one, two = (ctx.upstream.sent(call) for call in ctx.upstream.count_is(2))
    return stream, one, two


@check("RS-SEG-01")
def another_call(ctx: Context) -> None:
    """A call that ends behind its headers, or in mid-answer, is followed by one to the fallback, in the same stream."""
    for script in (Script(fault="rst", at_event=0), Script(fault="fin", at_event=4), Script(fault="clean", at_event=4)):
        stream = ctx.post(script, Script(tokens=5), upstream=UP, key=None).end().stream
        ctx.sealed(stream).has_header("stream-outcome", "completed")
        *_, first, second = ctx.upstream.calls()
        made = [first.path, second.path]
        ctx.expect(made == [CHAT, f"/spare{CHAT}"], "a call of the upstream, then one of the fallback", made)
        ctx.read(stream).has_header("stream-offset", SECOND).has_body(ctx.upstream.sent(second))


@check("RS-SEG-02")
def offsets(ctx: Context) -> None:
    """Offsets of the second segment begin at 0 again and have `s02.` before their 16 digits."""
    stream, one, two = sealed(ctx)
    first = ctx.read(stream, "offset=0").has_header("stream-offset", "0" * 16)
    first.has_header("stream-next-offset", f"{len(one):016}")
    page = ctx.read(stream).has_header("stream-offset", SECOND)
    page.has_header("stream-next-offset", f"s02.{len(two):016}")
    event = ctx.read(stream, "live=events").until_events(1).events[0]
    size = two.index(b"\n\n") + 2
    page.expect(event.id == f"s02.{size:016}", f"id s02.{size:016}", event.id)
    ctx.read(stream, f"offset=s02.{size:016}").has_body(two[size:])


@check("RS-SEG-03")
def never_both(ctx: Context) -> None:
    """Each read, of either segment and live or not, has the bytes of that segment alone."""
    stream, one, two = sealed(ctx)
    ctx.read(stream, "offset=0").has_body(one)
    ctx.read(stream, "offset=0&live=tail").has_body(one)
    ctx.read(stream, f"offset={SECOND}").has_body(two)
    ctx.read(stream, f"offset={SECOND}&live=tail").has_body(two)
    ctx.post(upstream=UP, headers={"stream-offset": "0", "stream-exact": "true"}).has_body(one)
    ctx.post(upstream=UP).has_payload(two)


@check("RS-SEG-04")
def told_to_callers(ctx: Context) -> None:
    """A caller gets the first segment, then the dialect's failure with the code `segment_ended`."""
    first = broken_off(ctx, Script(tokens=5, hold_at=2))
    call = ctx.upstream.wait_for(lambda calls: len(calls) == 2 and calls[1].held, "a second call that is held")[0]
    first.expect(first.payload.startswith(ctx.upstream.sent(call)), "the first call's bytes", first.payload)
    last = first.events[-1]
    error = last.json().get("error", {})
    first.expect(len(first.events) == 5 and error.get("code") == "segment_ended", "the code segment_ended", last.raw)
    ctx.upstream.release()


@check("RS-SEG-05")
def with_the_key(ctx: Context) -> None:
    """Who comes back with the key gets the second segment from its first byte, live and later."""
    first = broken_off(ctx, Script(tokens=5, hold_at=2))
    ctx.upstream.wait_for(lambda calls: len(calls) == 2 and calls[1].held, "a second call that is held")
    live = ctx.post(upstream=UP).has_header("stream-id", first.stream).has_header("stream-offset", SECOND)
    live.until_events(2)
    ctx.upstream.release()
    live.ends_framed()
    two = ctx.upstream.sent(ctx.upstream.count_is(2)[1])
    live.has_payload(two)
    ctx.sealed(first.stream)
    ctx.post(upstream=UP).has_header("stream-offset", SECOND).has_payload(two)


@check("RS-SEG-06")
def what_follows(ctx: Context) -> None:
    """What reads the first segment says how its call ended and where the next one begins; the second, nothing."""
    stream, *_ = sealed(ctx)
    for query in ("offset=0", "offset=0&live=tail", "offset=0&live=events"):
        answer = ctx.read(stream, query).has_header("stream-segment-outcome", "truncated")
        answer.has_header("stream-next-segment", SECOND)
    for query in ("", "live=tail"):
        ctx.read(stream, query).lacks_header("stream-segment-outcome").lacks_header("stream-next-segment")


@check("RS-SEG-07")
def of_the_whole(ctx: Context) -> None:
    """State and outcome are the stream's also where its first segment is read: live, then completed."""
    live = broken_off(ctx, Script(tokens=5, hold_at=2)).stream
    ctx.upstream.wait_for(lambda calls: len(calls) == 2 and calls[1].held, "a second call that is held")
    ctx.head(live).has_header("stream-state", "streaming").lacks_header("stream-outcome")
    ctx.read(live, "offset=0").lacks_header("stream-outcome").end()
    ctx.upstream.release()
    ctx.sealed(live).has_header("stream-outcome", "completed")
    ctx.read(live, "offset=0").has_header("stream-outcome", "completed").end()


@check("RS-SEG-08")
def its_end(ctx: Context) -> None:
    """A page of the first segment is closed and a live tail of it broken, while the second is going on and later."""
    stream = broken_off(ctx, Script(tokens=5, hold_at=2)).stream
    ctx.upstream.wait_for(lambda calls: len(calls) == 2 and calls[1].held, "a second call that is held")
    for _ in range(2):
        ctx.read(stream, "offset=0").has_header("stream-closed", "true").ends_framed()
        ctx.read(stream, "offset=0&live=tail").ends_cut()
        ctx.upstream.release()
        ctx.sealed(stream)
    ctx.read(stream, "live=tail").ends_framed()


@check("RS-SEG-09")
def as_events(ctx: Context) -> None:
    """`live=events` of the first segment ends with the end event and `segment_ended`, and its id is of that segment."""
    stream, one, _ = sealed(ctx)
    last = ctx.read(stream, "offset=0&live=events").ends_framed().events[-1]
    ctx.expect(last.name == "resumestream.end", "a last event resumestream.end", last.raw)
    ctx.expect(last.json().get("detail") == "segment_ended", "detail segment_ended", last.data)
    ctx.expect(last.id == f"{len(one):016}.end", f"id {len(one):016}.end", last.id)


@check("RS-SEG-10")
def which_segment(ctx: Context) -> None:
    """A bare number is of the first segment; `-1`, `now`, `from_event` and nothing at all are of the latest."""
    stream, one, two = sealed(ctx)
    behind = two.index(b"\n\n") + 2
    ctx.read(stream, f"offset={len(one)}").has_header("stream-offset", f"{len(one):016}").has_body(b"")
    ctx.read(stream, "offset=-1").has_header("stream-offset", SECOND).has_body(two)
    ctx.read(stream, "offset=now").has_header("stream-offset", f"s02.{len(two):016}").has_body(b"")
    ctx.read(stream, "from_event=1").has_header("stream-offset", f"s02.{behind:016}").has_body(two[behind:])


@check("RS-SEG-11")
def wrong_tokens(ctx: Context) -> None:
    """A segment that is not there, and an offset beyond one, are 416; other ways to write one are 400."""
    stream, one, _ = sealed(ctx)
    for token in ("s03.0000000000000000", "s99.0000000000000000", f"{len(one) + 1}", f"s02.{10**6:016}"):
        ctx.read(stream, f"offset={token}").is_problem(416, "offset-beyond-tail")
    for token in ("s01.0000000000000000", "s2.0000000000000000", "s00.0000000000000000", "s02.", "s02"):
        ctx.read(stream, f"offset={token}").is_problem(400, "offset-malformed")


@check("RS-SEG-12")
def listed(ctx: Context) -> None:
    """`segments` has each segment's bytes, events, outcome and detail."""
    stream, one, two = sealed(ctx)
    info = ctx.info(stream)
    seen = [tuple(each[name] for name in ("bytes", "events", "outcome")) for each in info["segments"]]
    expected = [(len(one), one.count(b"\n\n"), "truncated"), (len(two), two.count(b"\n\n"), "completed")]
    ctx.expect(seen == expected, str(expected), seen)
    details = [each["detail"] for each in info["segments"]]
    ctx.expect(all(details) and details[1] == info["detail"]["code"], "a detail each", details)


@check("RS-SEG-13")
def no_answer_follows(ctx: Context) -> None:
    """Where the fallback refuses, the stream ends as its first call did, with its bytes and no second segment."""
    first = ctx.post(BREAKS, Script(status=503), upstream=UP, headers={"stream-exact": "true"}).ends_cut()
    ctx.sealed(first.stream).has_header("stream-outcome", "truncated")
    ctx.upstream.count_is(2)
    ctx.read(first.stream).has_header("stream-offset", "0" * 16).has_body(first.body)
    info = ctx.info(first.stream)
    ctx.expect(len(info["segments"]) == 1 and len(info["attempts"]) == 2, "one segment and two attempts", info)


@check("RS-SEG-14")
def sent_away(ctx: Context) -> None:
    """With `cancel` a stream goes on where its only caller was sent away at a segment's end, and comes back."""
    first = broken_off(ctx, Script(tokens=5, hold_at=2), headers={"stream-on-disconnect": "cancel"}).leave()
    ctx.upstream.wait_for(lambda calls: len(calls) == 2 and calls[1].held, "a second call that is held")
    left = ctx.post(Script(tokens=5, hold_at=2), key=None, headers={"stream-on-disconnect": "cancel"}).until_events(2)
    ctx.sealed(left.leave().stream)
    back = ctx.post(upstream=UP).has_header("stream-id", first.stream).until_events(2)
    ctx.upstream.release()
    back.ends_framed()
    ctx.sealed(first.stream).has_header("stream-outcome", "completed")
