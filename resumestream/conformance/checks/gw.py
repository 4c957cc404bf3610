"""GW: the gateway."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check


@check("RS-GW-01")
def verbatim(ctx: Context) -> None:
    """A POST through the gateway is answered with the provider's status and bytes."""
    answer = ctx.post(Script(tokens=20)).has_status(200)
    (call,) = ctx.upstream.wait_for(lambda calls: len(calls) == 1, "one call")
    answer.ends_framed().has_payload(ctx.upstream.sent(call))
