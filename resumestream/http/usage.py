"""`GET /usage`: what was paid for, and what was not."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import InvalidQuery, MethodNotAllowed
from ..metering import By, duration_s, metered
from ..ports import LogStore
from .headers import timestamp
from .operators import operator
from .site import Site


async def usage(site: Site, request: Request, *, whole_app: bool) -> Response:
    """The caller's own sums, or for an admin everybody's. Who gets any: see `operator`. Raises what that raises,
    MethodNotAllowed and InvalidQuery."""
    principal = await operator(site, request, whole_app=whole_app)
    if request.method != "GET":
        raise MethodNotAllowed(request.method, ["GET"])
    by, since = request.query_params.get("by", By.MODEL), request.query_params.get("since")
    if by not in set(By):
        raise InvalidQuery(f"by is {by[:40]!a}; it must be one of {', '.join(By)}.")
    try:
        ago_s = None if since is None else duration_s(since)
    except ValueError as error:
        raise InvalidQuery(f"since is wrong: {error}.") from None
    await site.hub.tallies.flush()
    told = await report(site.hub.store, By(by), ago_s, None if principal.admin else principal.id)
    return JSONResponse(told, headers={"cache-control": "no-store"})


async def report(store: LogStore, by: By, ago_s: float | None, principal: str | None = None) -> dict[str, Any]:
    """For `GET /usage` and for the command line. `ago_s`: only of calls that ended so long ago at most."""
    now = store.now()
    since = None if ago_s is None else max(0.0, now - ago_s)
    times = {"since": None if since is None else timestamp(since), "until": timestamp(now)}
    return {**times, **await metered(store, by, since=since or 0.0, principal=principal)}
