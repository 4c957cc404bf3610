"""READ: the stream resource, a page at a time and live."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check


@check("RS-READ-01")
def page_to_the_tail(ctx: Context) -> None:
    """A page of a live stream holds all payload so far, ends, and says that more may follow."""
    live = ctx.post(Script(tokens=20, hold_at=4)).until_events(4)
    page = ctx.read(live.stream, "offset=-1").has_status(200).ends_framed().has_payload(live.body)
    page.has_header("stream-next-offset", f"{len(live.body):016}")
    page.has_header("stream-up-to-date", "true").lacks_header("stream-closed")


@check("RS-READ-02")
def page_of_a_sealed_stream(ctx: Context) -> None:
    """A page of a stream that has ended is closed and names the outcome."""
    whole = ctx.post(Script(tokens=20)).ends_framed()
    ctx.sealed(whole.stream)
    page = ctx.read(whole.stream, "offset=0").has_status(200).has_payload(whole.payload)
    page.has_header("stream-closed", "true").has_header("stream-outcome", "completed")
