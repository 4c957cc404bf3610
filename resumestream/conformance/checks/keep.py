"""KEEP: retention, expiry, and what is left of a stream afterwards."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check

SLACK_S = 0.1
"""How far the server's clock and ours may run apart in the seconds that a check takes."""


def kept(ctx: Context, retain_s: float, *scripts: Script, **options: Any) -> Answer:
    """A call whose payload is kept so long."""
    return ctx.post(*(scripts or [Script(tokens=5)]), headers={"stream-retain": f"{retain_s:g}"}, **options)


def gone(ctx: Context, stream: str) -> Answer:
    """The refusal to read it, once there is one; all reads before are served."""
    return ctx.eventually(
        lambda: ctx.read(stream, "offset=-1").has_status(200, 410), lambda seen: seen.status == 410, "status 410"
    )


def retained_s(ctx: Context, stream: str) -> float:
    """From the seal to `Stream-Expires-At`."""
    expires = datetime.fromisoformat(ctx.sealed(stream).value("stream-expires-at"))
    return (expires - datetime.fromisoformat(ctx.info(stream)["sealed_at"])).total_seconds()


def forgotten(ctx: Context, stream: str) -> None:
    """Its record is no more."""
    record = f"/streams/{stream}/info"
    ctx.eventually(lambda: ctx.get(record).has_status(410, 404), lambda seen: seen.status == 404, "status 404")
    ctx.get(record).is_problem(404, "stream-not-found")


@check("RS-KEEP-01")
def expiry(ctx: Context) -> None:
    """Every read is served for the retention time, and every later one is 410 `stream-gone`."""
    whole = kept(ctx, 2).ends_framed()
    gone(ctx, whole.stream).is_problem(410, "stream-gone")
    ctx.expect(time.monotonic() - whole.began_s > 2 - SLACK_S, "2 s of retention", "less")
    for query in ("live=tail", "live=events", "offset=now"):
        ctx.read(whole.stream, query).is_problem(410, "stream-gone")


@check("RS-KEEP-02")
def live_ones_stay(ctx: Context) -> None:
    """A call that takes longer than its retention time can be read while it goes on."""
    live = kept(ctx, 1, Script(tokens=20, delay_s=0.1)).until_events(15)
    ctx.head(live.stream).has_status(200)
    ctx.read(live.stream, "offset=-1&live=tail").has_payload(live.ends_framed().payload)


@check("RS-KEEP-03", needs=("max_retain_s",))
def asked_for(ctx: Context) -> None:
    """`Stream-Retain` sets the retention time, up to the declared maximum."""
    most = ctx.limit("max_retain_s")
    for asked, expected in ((60, 60), (most + 1000, most)):
        seen = retained_s(ctx, kept(ctx, asked, key=None).ends_framed().stream)
        ctx.expect(abs(seen - expected) < SLACK_S, f"{expected:g} s of retention", seen)


@check("RS-KEEP-04")
def none_at_all(ctx: Context) -> None:
    """With no retention time those who read along get everything, and who comes then gets 410."""
    live = kept(ctx, 0, Script(tokens=9, hold_at=3)).until_events(3)
    tail = ctx.read(live.stream, "offset=-1&live=tail").until(len(live.payload))
    ctx.upstream.release()
    tail.has_payload(live.ends_framed().payload).ends_framed()
    ctx.read(live.stream, "offset=-1").is_problem(410, "stream-gone")


@check("RS-KEEP-05")
def reads_do_not_count(ctx: Context) -> None:
    """Reads of all kinds leave `Stream-Expires-At` as it is, and the stream goes while it is being asked for."""
    whole = kept(ctx, 5).ends_framed()
    before = ctx.sealed(whole.stream).value("stream-expires-at")
    for answer in (ctx.post(), ctx.read(whole.stream), ctx.read(whole.stream, "live=tail")):
        answer.has_status(200).ends_framed()
    ctx.head(whole.stream).has_header("stream-expires-at", before)
    gone(ctx, whole.stream)


@check("RS-KEEP-06", needs=("max_stream_bytes", "erase_s"))
def open_reads_go_on(ctx: Context) -> None:
    """A read that began before the expiry gets the rest after it, within the declared time."""
    event = b"data: " + b"x" * 1000 + b"\n\n"
    body = event * min(8000, ctx.limit_bytes("max_stream_bytes") // len(event))
    stream = kept(ctx, 1, Script(body=body, chunking=(65536,)), path="/v1/events").ends_framed().stream
    slow = ctx.read(stream, "offset=-1").has_status(200)
    gone(ctx, stream)
    ctx.post(Script(tokens=5, hold_at=1), key=None).silent_for(min(2, ctx.limit("erase_s") / 2))
    slow.has_body(body).ends_framed()


@check("RS-KEEP-07")
def refusals(ctx: Context) -> None:
    """410 `stream-gone` tells the stream, its outcome and its final offset, of a whole answer and a broken one."""
    for script, outcome in ((Script(tokens=5), "completed"), (Script(tokens=9, fault="rst", at_event=4), "truncated")):
        ended = ctx.post(script, key=None, headers={"stream-exact": "true", "stream-retain": "0"}).end()
        told = gone(ctx, ended.stream).is_problem(410, "stream-gone")
        expected = {"stream_id": ended.stream, "outcome": outcome, "next_offset": f"{len(ended.body):016}"}
        ctx.expect(expected.items() <= told.items(), str(expected), told)


@check("RS-KEEP-08")
def why(ctx: Context) -> None:
    """`info` of a gone stream is 410 with its record, and says whether it expired or was deleted."""
    expired = kept(ctx, 0, key=None).ends_framed().stream
    gone(ctx, expired)
    deleted = ctx.post(key=None).ends_framed().stream
    ctx.ask("DELETE", f"/streams/{deleted}").has_status(204)
    for stream, reason in ((expired, "expired"), (deleted, "deleted")):
        told = ctx.get(f"/streams/{stream}/info").has_status(410).json()
        seen = told["id"], told["state"], told["gone"]["why"]
        ctx.expect(seen == (stream, "expired", reason), f"id, state expired, why {reason}", seen)


@check("RS-KEEP-09", needs=("tombstone_s",))
def the_record_outlives(ctx: Context) -> None:
    """However short the payload was kept, its record stays for the declared time, and is 404 then."""
    whole = kept(ctx, 0).ends_framed()
    gone(ctx, whole.stream)
    forgotten(ctx, whole.stream)
    ctx.expect(time.monotonic() - whole.began_s > ctx.limit("tombstone_s") - SLACK_S, "all of its time", "less")


@check("RS-KEEP-10")
def its_key(ctx: Context) -> None:
    """The key of a stream that expired, or was deleted, is answered 410 `key-expired` with its id, without a call."""
    expired = kept(ctx, 0).ends_framed().stream
    gone(ctx, expired)
    deleted = ctx.post(key=f"{ctx.key}-deleted").ends_framed().stream
    ctx.ask("DELETE", f"/streams/{deleted}").has_status(204)
    for stream, key in ((expired, ctx.key), (deleted, f"{ctx.key}-deleted")):
        refusal = ctx.post(key=key)
        told = refusal.is_problem(410, "key-expired")
        refusal.expect(told.get("stream_id") == stream, f"stream_id {stream}", told)
    ctx.upstream.count_is(2)


@check("RS-KEEP-11", needs=("tombstone_s",))
def its_key_later(ctx: Context) -> None:
    """Once the record is no more, the key makes a new call."""
    before = kept(ctx, 0).ends_framed().stream
    forgotten(ctx, before)
    after = ctx.post().has_status(200).lacks_header("idempotent-replayed").ends_framed()
    after.expect(after.stream != before, "a new stream", after.stream)
    ctx.upstream.count_is(2)


@check("RS-KEEP-12")
def malformed(ctx: Context) -> None:
    """What is no number of seconds, or has four decimals, is refused, without a call; three decimals are not."""
    for value in ("", "-1", "soon", "1h", "1e3", "inf", "nan", "1.2345"):
        ctx.post(headers={"stream-retain": value}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)
    ctx.post(Script(tokens=2), headers={"stream-retain": "60.125"}).has_status(200).ends_framed()


@check("RS-KEEP-13")
def expires_at(ctx: Context) -> None:
    """`Stream-Expires-At` lies the retention time behind `sealed_at`, for a whole answer and a broken one."""
    for script in (Script(tokens=5), Script(tokens=9, fault="rst", at_event=4)):
        seen = retained_s(ctx, kept(ctx, 90, script, key=None).end().stream)
        ctx.expect(abs(seen - 90) < SLACK_S, "90 s", seen)
