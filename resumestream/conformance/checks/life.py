"""LIFE: states, outcomes and seals."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check


def ends(ctx: Context, script: Script, outcome: str, detail: str = "") -> None:
    """A call with this script seals its stream with this outcome."""
    answer = ctx.post(script, key=f"{ctx.key}-{outcome}-{detail}").end()
    ctx.sealed(answer.stream).has_header("stream-outcome", outcome)
    code = ctx.info(answer.stream)["detail"]["code"]
    ctx.expect(not detail or code == detail, f"the detail {detail}", code)


@check("RS-LIFE-01")
def states(ctx: Context) -> None:
    """A stream is pending until its first payload, streaming until its end, then sealed."""
    made = ctx.post(Script(tokens=5, hold_at=0), headers={"prefer": "respond-async"}).has_status(202)
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held")
    ctx.head(made.stream).has_header("stream-state", "pending")
    live = ctx.post(Script(tokens=5, hold_at=2), key=None).until_events(2)
    ctx.head(live.stream).has_header("stream-state", "streaming")
    ctx.upstream.release()
    live.ends_framed()
    ctx.sealed(live.stream)
    ctx.sealed(made.stream)


@check("RS-LIFE-02")
def completed(ctx: Context) -> None:
    """A call whose semantic end was seen is `completed`."""
    ends(ctx, Script(tokens=5), "completed")


@check("RS-LIFE-03")
def truncated(ctx: Context) -> None:
    """A connection that ends in mid-answer, or a body without its terminal event, is `truncated`."""
    for fault in ("fin", "rst", "clean"):
        answer = ctx.post(Script(tokens=9, fault=fault, at_event=4), key=None).end()
        ctx.sealed(answer.stream).has_header("stream-outcome", "truncated")


@check("RS-LIFE-04")
def provider_error(ctx: Context) -> None:
    """An error event inside a 200, and a final status that is none of success, are `provider_error`."""
    for script in (Script(tokens=9, error_at=4), Script(status=400)):
        answer = ctx.post(script, key=None).end()
        ctx.sealed(answer.stream).has_header("stream-outcome", "provider_error")


@check("RS-LIFE-05", needs=("stall_s",))
def stalled(ctx: Context) -> None:
    """No bytes for longer than `stall_s` is `stalled`."""
    answer = ctx.post(Script(tokens=9, fault="stall", at_event=4)).end()
    ctx.sealed(answer.stream).has_header("stream-outcome", "stalled")


@check("RS-LIFE-06")
def cancelled(ctx: Context) -> None:
    """A stream that somebody stopped is `cancelled`."""
    live = ctx.post(Script(tokens=9, hold_at=4)).until_events(4)
    ctx.ask("POST", f"/streams/{live.stream}/cancel").has_status(202).end()
    ctx.sealed(live.stream).has_header("stream-outcome", "cancelled")


@check("RS-LIFE-07", needs=("max_event_bytes",))
def overflow(ctx: Context) -> None:
    """A stream that reached a declared cap is `overflow`."""
    large = b"data: " + b"x" * (ctx.limit_bytes("max_event_bytes") + 1) + b"\n\n"
    answer = ctx.post(Script(body=b"data: {}\n\n" + large)).end()
    ctx.sealed(answer.stream).has_header("stream-outcome", "overflow")


@check("RS-LIFE-08")
def the_first_seal_wins(ctx: Context) -> None:
    """A stop after the end changes nothing."""
    whole = ctx.post(Script(tokens=5)).ends_framed()
    ctx.sealed(whole.stream)
    ctx.ask("POST", f"/streams/{whole.stream}/cancel").has_status(202).end()
    ctx.head(whole.stream).has_header("stream-outcome", "completed")
    ctx.read(whole.stream, "offset=-1").has_payload(whole.payload)


@check("RS-LIFE-09")
def after_the_semantic_end(ctx: Context) -> None:
    """However the connection ends behind the semantic end, the stream is `completed`."""
    for fault in ("rst", "fin", "garbage"):
        answer = ctx.post(Script(tokens=5, fault=fault), key=None).ends_framed()
        ctx.sealed(answer.stream).has_header("stream-outcome", "completed")


@check("RS-LIFE-10")
def one_outcome_for_all(ctx: Context) -> None:
    """Readers of every kind, early and late, are told the same outcome."""
    first = ctx.post(Script(tokens=9, fault="rst", at_event=4)).end()
    ctx.sealed(first.stream).has_header("stream-outcome", "truncated")
    for answer in (ctx.post(), ctx.read(first.stream, "live=tail"), ctx.read(first.stream, "live=events")):
        answer.has_header("stream-outcome", "truncated").end()
    ctx.expect(ctx.info(first.stream)["outcome"] == "truncated", "outcome truncated", ctx.info(first.stream))


@check("RS-LIFE-11")
def details(ctx: Context) -> None:
    """`detail` refines the outcome with a code and a sentence."""
    answer = ctx.post(Script(tokens=9, fault="rst", at_event=4)).end()
    ctx.sealed(answer.stream)
    detail = ctx.info(answer.stream).get("detail") or {}
    ctx.expect({"code", "message"} <= detail.keys() and " " in detail["message"], "a code and a sentence", detail)
