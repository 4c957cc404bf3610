"""`GET /usage`: what was paid for, and what was not."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import InvalidQuery, MethodNotAllowed, NotFound, Unauthorized
from ..metering import By, duration_s, metered
from ..model import Principal
from ..ports import LogStore
from .headers import timestamp
from .site import Site


async def usage(site: Site, request: Request, *, whole_app: bool) -> Response:
    """The caller's own sums, or for an admin everybody's. `whole_app`: no host app lies around the faces.

    In a host app there is nothing here, unless its hook admits the caller: raises NotFound. Otherwise raises
    Unauthorized, AuthorizeRequired, and MethodNotAllowed and InvalidQuery.
    """
    principal = await _operator(site, request, whole_app)
    if request.method != "GET":
        raise MethodNotAllowed(f"This path takes GET, not {request.method[:16]!a}.")
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


async def _operator(site: Site, request: Request, whole_app: bool) -> Principal:
    nothing = NotFound("Nothing answers here.")
    if not whole_app and site.access.authorize is None:
        raise nothing
    try:
        # As where a credential of ours is spent: whoever shows one of their own is no operator for that
        return await site.access.principal(request, "operate", server_side=True, keyed=False)
    except Unauthorized:
        if whole_app:
            raise
        raise nothing from None
