"""META: HEAD and info."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check


@check("RS-META-01")
def head_of_a_live_stream(ctx: Context) -> None:
    """HEAD tells state, tail, content type and upstream status of a stream that is answered."""
    live = ctx.post(Script(tokens=9, hold_at=4)).until_events(4)
    head = ctx.head(live.stream).has_status(200).has_header("stream-state", "streaming")
    head.has_header("stream-next-offset", f"{len(live.payload):016}").has_header("stream-upstream-status", "200")
    head.has_header("stream-content-type", "text/event-stream; charset=utf-8").lacks_header("stream-closed")
    head.has_body(b"")


@check("RS-META-02")
def head_of_a_sealed_stream(ctx: Context) -> None:
    """HEAD of an ended stream adds outcome, closed, and when it expires at the latest."""
    whole = ctx.post(Script(tokens=9), headers={"stream-retain": "60"}).ends_framed()
    head = ctx.sealed(whole.stream).has_header("stream-outcome", "completed").has_header("stream-closed", "true")
    head.value("stream-expires-at")
    head.has_header("stream-next-offset", f"{len(whole.payload):016}")


@check("RS-META-03")
def info(ctx: Context) -> None:
    """Info tells the same and more as JSON, first a sentence."""
    whole = ctx.post(Script(tokens=9), headers={"stream-label": "one"}).ends_framed()
    ctx.sealed(whole.stream)
    answer = ctx.get(f"/streams/{whole.stream}/info").has_status(200)
    told = answer.json()
    first = next(iter(told))
    answer.expect(" " in str(told[first]), "first a sentence", told[first])
    expected = {
        "id": whole.stream,
        "state": "sealed",
        "outcome": "completed",
        "bytes": len(whole.payload),
        "events": len(whole.events),
        "next_offset": f"{len(whole.payload):016}",
        "labels": ["one"],
        "previous": None,
        "upstream_status": 200,
    }
    seen = {name: told.get(name) for name in expected}
    answer.expect(seen == expected, str(expected), seen)
    answer.expect(len(told["segments"]) == 1 and len(told["attempts"]) == 1, "one segment and one attempt", told)


@check("RS-META-04")
def attempts(ctx: Context) -> None:
    """Each attempt tells its upstream, status, request id, bytes, outcome and usage."""
    whole = ctx.post(Script(tokens=9, headers={"x-request-id": "req_9"})).ends_framed()
    ctx.sealed(whole.stream)
    (attempt,) = ctx.info(whole.stream)["attempts"]
    expected = {"upstream": "main", "status": 200, "request_id": "req_9", "bytes": len(whole.payload)}
    seen = {name: attempt.get(name) for name in expected}
    ctx.expect(seen == expected, str(expected), seen)
