"""OPS: what operators look at."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..registry import check, exempt
from .auth import NOBODY


@check("RS-OPS-01")
def healthz(ctx: Context) -> None:
    """`GET /healthz` is 200 while a call is running, also without a principal."""
    ctx.post(Script(tokens=5, hold_at=2)).until_events(2)
    for who in (None, NOBODY):
        ctx.get("/healthz", headers=who).has_status(200).ends_framed()


@check("RS-OPS-02")
def readyz(ctx: Context) -> None:
    """`GET /readyz` is 200 while a call is running, and the server takes another."""
    ctx.post(Script(tokens=5, hold_at=2)).until_events(2)
    ctx.get("/readyz").has_status(200).ends_framed()
    ctx.post(Script(tokens=5), key=None).has_status(200).until_events(5)


exempt("RS-OPS-03", "Operators alone are shown it, and how one is told from a caller is the server's own.")


@check("RS-OPS-04")
def operators_only(ctx: Context) -> None:
    """A page of another site, and who comes through a proxy, without a credential, see neither usage nor metrics."""
    forwarded = {"authorization": None, "x-forwarded-for": "203.0.113.9"}
    for path in ("/usage", "/usage?by=model", "/metrics"):
        for who in (NOBODY, forwarded):
            ctx.get(path, headers=who).has_status(401, 403, 404).end()


exempt("RS-OPS-05", "A run has no hand on the server's process and cannot shut it down.")
exempt("RS-OPS-06", "It takes a shutdown while answers are open.")
exempt("RS-OPS-07", "It takes a shutdown while calls are running.")
exempt("RS-OPS-08", "It permits, and demands nothing that could fail.")
