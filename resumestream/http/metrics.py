"""`GET /metrics`: what this process does, for a Prometheus that scrapes it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ..errors import MethodNotAllowed, NotInstalled
from .measures import Seen
from .operators import operator
from .readiness import unready
from .site import Site


async def metrics(site: Site, request: Request, *, whole_app: bool) -> Response:
    """Who gets it: see `operator`. Raises what that raises, MethodNotAllowed and NotInstalled."""
    await operator(site, request, whole_app=whole_app)
    if request.method != "GET":
        raise MethodNotAllowed(request.method, ["GET"])
    try:
        from .exposition import CONTENT_TYPE, exposition  # only here: it takes 10 ms, and most hosts never scrape
    except ImportError:
        raise NotInstalled("Metrics need prometheus-client: pip install 'resumestream[metrics]'.") from None
    seen = Seen(site.hub, site.upstreams.keys(), ready=not await unready(site.hub))
    return Response(exposition(seen), headers={"cache-control": "no-store", "content-type": CONTENT_TYPE})
