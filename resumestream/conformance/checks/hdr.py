"""HDR: the headers of answers."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check


@check("RS-HDR-01")
def stream_id(ctx: Context) -> None:
    """Each stream has an id of its own, long enough for 128 random bits."""
    ids = [ctx.post(Script(tokens=1), key=None).end().stream for _ in range(3)]
    ctx.expect(len(set(ids)) == 3, "three ids", ids)
    ctx.expect(all(len(one) >= 22 for one in ids), "ids of at least 22 characters", ids)


@check("RS-HDR-02")
def offset_of_the_first_byte(ctx: Context) -> None:
    """`Stream-Offset` is that of the first byte of the body: 0 on a call, and the one asked for on a resume."""
    first = ctx.post(Script(tokens=9)).has_header("stream-offset", "0" * 16).ends_framed()
    at = len(first.events[0].raw)
    resumed = ctx.post(headers={"stream-offset": f"{at:016}"}).has_header("stream-offset", f"{at:016}")
    resumed.has_body(first.payload[at:])


@check("RS-HDR-03")
def location(ctx: Context) -> None:
    """`Location` leads to the stream: for event streams to `live=events`, for all else to `live=tail`."""
    sse = ctx.post(Script(tokens=3)).ends_framed()
    sse.has_header("location", f"{ctx.root}/streams/{sse.stream}?live=events")
    plain = ctx.post(Script(body=b"{}", headers={"content-type": "application/json"}), key=None).ends_framed()
    plain.has_header("location", f"{ctx.root}/streams/{plain.stream}?live=tail")


@check("RS-HDR-04")
def replayed(ctx: Context) -> None:
    """`Idempotent-Replayed: true` is on an attach, and on nothing else."""
    ctx.post(Script(tokens=3)).lacks_header("idempotent-replayed").ends_framed()
    ctx.post().has_header("idempotent-replayed", "true").ends_framed()


@check("RS-HDR-05")
def uncached(ctx: Context) -> None:
    """No cache keeps an answer, nothing re-encodes it and no proxy buffers it."""
    first = ctx.post(Script(tokens=3)).ends_framed()
    for answer in (first, ctx.read(first.stream), ctx.read(first.stream, "live=tail&offset=-1")):
        answer.has_header("cache-control", "no-store, no-transform").has_header("x-accel-buffering", "no").end()


@check("RS-HDR-06")
def node(ctx: Context) -> None:
    """`Stream-Node` names the worker that serves the answer."""
    answer = ctx.post(Script(tokens=3)).ends_framed()
    answer.expect(bool(answer.value("stream-node")), "a name", answer.get("stream-node"))


@check("RS-HDR-07")
def no_length_of_what_is_live(ctx: Context) -> None:
    """A live body has no Content-Length, whatever the upstream said."""
    script = Script(body=b'{"a": 1}', headers={"content-type": "application/json"}, framing="length", hold_at=0)
    answer = ctx.post(script).has_status(200).lacks_header("content-length")
    ctx.upstream.release()
    answer.ends_framed().has_body(b'{"a": 1}')


@check("RS-HDR-08")
def rate_limits_are_not_replayed(ctx: Context) -> None:
    """The upstream's rate limits are on the first answer, and not on a replay."""
    ctx.post(Script(headers={"x-ratelimit-remaining-tokens": "9"})).has_header(
        "x-ratelimit-remaining-tokens", "9"
    ).end()
    ctx.post().lacks_header("x-ratelimit-remaining-tokens").ends_framed()


@check("RS-HDR-09")
def retry_after_is_what_remains(ctx: Context) -> None:
    """The upstream's `Retry-After` is told to who asks again as the time that remains."""
    first = ctx.post(Script(status=429, headers={"retry-after": "30"})).has_status(429).end()
    first.has_header("retry-after", "30")
    ctx.eventually(ctx.post, lambda again: 0 < int(again.value("retry-after")) < 30, "a retry-after below 30")
    ctx.upstream.count_is(1)


@check("RS-HDR-10")
def outcome(ctx: Context) -> None:
    """Every answer about a sealed stream carries `Stream-Outcome`; one about a live stream does not."""
    live = ctx.post(Script(tokens=5, hold_at=2)).until_events(2).lacks_header("stream-outcome")
    ctx.head(live.stream).lacks_header("stream-outcome")
    ctx.upstream.release()
    live.ends_framed()
    ctx.sealed(live.stream)
    for answer in (
        ctx.post(),
        ctx.head(live.stream),
        ctx.read(live.stream, "offset=-1"),
        ctx.read(live.stream, "live=tail"),
        ctx.read(live.stream, "live=events"),
        ctx.get(f"/streams/{live.stream}/info"),
    ):
        answer.has_header("stream-outcome", "completed").end()
