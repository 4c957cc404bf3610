"""CAP: limits in size and number."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT
from ..registry import check, exempt

EVENTS = "/v1/events"
"""No provider's path: what is answered there has events, and no dialect."""
SMALL = b"data: {}\n\n"
SLOW = Script(body=SMALL * 2000, delay_s=0.3)
"""Lives for as long as a check needs it, and is never silent for long."""


def event(size: int) -> bytes:
    """One event of so many bytes."""
    return b"data: " + b"x" * (size - 8) + b"\n\n"


def crowd(ctx: Context) -> list[Answer]:
    """As many live streams as are declared."""
    started = [ctx.post(SLOW, key=None) for _ in range(ctx.limit_bytes("max_live_streams"))]
    return [answer.has_status(200) for answer in started]


def refused(ctx: Context, status: int, code: str) -> None:
    """A start is refused, soon if not at once, and then without a call."""

    def start() -> Answer:
        return ctx.post(Script(tokens=1), key=None)

    ctx.eventually(start, lambda seen: seen.status != 200, f"status {status}")
    before = len(ctx.upstream.calls())
    refusal = start()
    refusal.is_problem(status, code)
    refusal.expect(refusal.value("retry-after").isdigit(), "Retry-After in seconds", refusal.get("retry-after"))
    ctx.upstream.count_is(before)


def overflows(ctx: Context, body: bytes) -> bytes:
    """The kept payload of a call that is answered with this, and ends `overflow` for that."""
    answer = ctx.post(Script(body=body, chunking=(65536,)), path=EVENTS).end()
    ctx.sealed(answer.stream).has_header("stream-outcome", "overflow")
    return ctx.read(answer.stream, "offset=-1").has_status(200).end().body


exempt("RS-CAP-01", "What a server's documentation says is not in its answers.")


@check("RS-CAP-02", needs=("max_stream_bytes",))
def payload(ctx: Context) -> None:
    """A payload that goes on beyond the limit ends `overflow`, with as many whole events as fit."""
    most = ctx.limit_bytes("max_stream_bytes")
    kept = overflows(ctx, event(1000) * (most // 1000 + 3))
    ctx.expect(kept == event(1000) * (most // 1000), f"{most // 1000} events of 1000 bytes", f"{len(kept)} bytes")


@check("RS-CAP-03", needs=("max_event_bytes",))
def one_event(ctx: Context) -> None:
    """An event beyond the limit ends its stream `overflow`, with the events before it."""
    kept = overflows(ctx, SMALL * 2 + event(ctx.limit_bytes("max_event_bytes") + 1) + SMALL)
    ctx.expect(kept == SMALL * 2, "the two events before it", kept[:80])


@check("RS-CAP-04", needs=("max_duration_s",))
def duration(ctx: Context) -> None:
    """A call that goes on beyond the limit ends `overflow`."""
    answer = ctx.post(SLOW, path=EVENTS).end()
    ctx.sealed(answer.stream).has_header("stream-outcome", "overflow")


@check("RS-CAP-05", needs=("max_request_bytes",))
def request(ctx: Context) -> None:
    """A keyed request with a larger body is 413, and nothing is called."""
    body = b'{"stream": true, "x": "' + b"x" * ctx.limit_bytes("max_request_bytes") + b'"}'
    ctx.post(body=body).is_problem(413, "request-too-large")
    ctx.upstream.count_is(0)


@check("RS-CAP-06", needs=("max_live_streams",), alone=True)
def live_streams(ctx: Context) -> None:
    """Beside as many live streams as are declared one more start is 503, and nothing is called."""
    crowd(ctx)
    refused(ctx, 503, "too-many-streams")


@check("RS-CAP-07", needs=("max_total_bytes", "max_stream_bytes"), alone=True)
def eviction(ctx: Context) -> None:
    """As payloads fill the total, those sealed first go first, told as evicted, and a live one older than all stays."""
    live = ctx.post(SLOW, key=None).until_events(1)
    size = min(ctx.limit_bytes("max_stream_bytes"), ctx.limit_bytes("max_total_bytes") // 5) // 1000
    full = Script(body=event(1000) * size, chunking=(65536,))
    sealed = [ctx.post(full, key=None, path=EVENTS).ends_framed().stream for _ in range(6)]
    ctx.eventually(lambda: ctx.head(sealed[0]), lambda seen: seen.status == 410, "status 410")
    statuses = [ctx.head(stream).has_status(200, 410).status for stream in sealed]
    ctx.expect(statuses == sorted(statuses, reverse=True), "410 for the oldest alone", statuses)
    ctx.expect(statuses[-1] == 200, "the newest kept", statuses)
    told = ctx.info(sealed[0])["gone"]
    ctx.expect(told["why"] == "evicted", "gone: evicted", told)
    ctx.read(live.stream).has_status(200)


@check("RS-CAP-08", needs=("max_total_bytes", "max_stream_bytes", "max_event_bytes"), alone=True)
def no_room(ctx: Context) -> None:
    """While live streams alone hold the total, a start is 507, and nothing is called."""
    large = event(min(ctx.limit_bytes("max_event_bytes"), 1 << 17) * 3 // 4)
    total, most = ctx.limit_bytes("max_total_bytes"), ctx.limit_bytes("max_stream_bytes") // len(large) - 1
    needed = total // len(large) + 1
    for count in (most,) * (needed // most) + (needed % most,):
        ctx.post(Script(body=large * count + SMALL * 5000, delay_s=0.02), key=None, path=EVENTS).has_status(200)
    refused(ctx, 507, "store-full")


@check("RS-CAP-09", needs=("max_orphan_drains",), alone=True)
def orphans(ctx: Context) -> None:
    """While as many live streams as are declared have lost their reader a start is 429, and nothing is called."""
    for number in range(ctx.limit_bytes("max_orphan_drains")):
        ctx.post(SLOW, key=f"{ctx.key}-{number}").has_status(200).leave()
    refused(ctx, 429, "too-many-orphans")


exempt("RS-CAP-10", "A principal has limits of its own where the operator sets them, which no request can.")


@check("RS-CAP-11", needs=("max_head_bytes",))
def head(ctx: Context) -> None:
    """A larger path with query, and a larger header, are 414 or 431, and nothing is called."""
    large = "x" * (ctx.limit_bytes("max_head_bytes") + 1)
    ctx.post(path=f"{CHAT}?x={large}").has_status(414, 431, 400)
    ctx.post(headers={"x-large": large}).has_status(431, 400)
    ctx.upstream.count_is(0)


@check("RS-CAP-12", needs=("receive_s",))
def slow_request(ctx: Context) -> None:
    """A request whose body stops half way is 408, and nothing is called."""
    half = ctx.wire("POST", f"/main{CHAT}", ("content-length", "1000"), body=b'{"stream": ')
    ctx.post(wire=half).is_problem(408, "request-timeout")
    ctx.upstream.count_is(0)


@check("RS-CAP-13", needs=("max_live_streams",), alone=True)
def others_go_on(ctx: Context) -> None:
    """While starts are refused, what is live goes on, and what is kept is read as before."""
    whole = ctx.post(Script(tokens=5)).ends_framed()
    live = crowd(ctx)[0]
    refused(ctx, 503, "too-many-streams")
    live.until_events(len(live.events) + 2)
    for answer in (ctx.read(whole.stream), ctx.read(whole.stream, "live=tail")):
        answer.has_status(200).has_payload(whole.payload)
    ctx.read(live.stream, "offset=-1&live=tail").until_events(2)


exempt("RS-CAP-14", "No request makes a server's storage fail.")
