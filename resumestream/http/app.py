"""The faces as one ASGI app: find the face, call it, and turn every refusal into its answer in one place."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import (
    ConfigError,
    HeadersFailed,
    MethodNotAllowed,
    NotFound,
    NotStarted,
    ResumeStreamError,
    UpgradeUnsupported,
)
from .gateway import Gateway
from .guard import finishing
from .limits import check_head
from .metrics import metrics
from .mount import is_alone, split
from .operators import NOTHING
from .problems import problem
from .readiness import unready
from .site import Site
from .streams import Streams
from .usage import usage

logger = logging.getLogger("resumestream")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
RESERVED = frozenset({"streams", "ds", "usage", "healthz", "readyz", "metrics", "ui"})
"""First path segments that no upstream may be named."""
OPERATIONS = {"usage": usage, "metrics": metrics}

NOT_STARTED = """\
resumestream is mounted but was not started: a mounted app gets no lifespan of its own. Add one of these:
    streams.install(app, "/llm")                 # FastAPI, Starlette: routes, lifespan and guard
    app = streams.wrap(app, "/llm")              # any other ASGI app
    FastAPI(lifespan=streams.lifespan)           # beside app.mount("/llm", streams.asgi)
    async with streams: ...                      # your own lifespan
In tests use `with TestClient(app) as client:`; without `with` no lifespan runs."""


class Faces:
    """The mounted app. `site` gives what runs now, or None while nothing does."""

    def __init__(self, site: Callable[[], Site | None]) -> None:
        self._site = site
        self._whole_app = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._whole_app = True  # nobody else is asked, and no middleware lies around it
            return
        site, gateway = self._site(), True
        send = finishing(scope, send, site.policy.send_s if site else math.inf)
        try:
            if site:
                check_head(scope, site.policy.max_head_bytes)
            first, rest = split(scope)
            gateway = first not in RESERVED and first != ""
            await (await self._route(site, first, rest, scope, receive))(scope, receive, send)
        except ClientDisconnect:
            return
        except ResumeStreamError as error:
            if isinstance(error, ConfigError | HeadersFailed):
                logger.exception("the application is to blame for a refusal")
            if site:
                site.hub.counters.refused(error)
            refusal = problem(error, gateway=gateway, streams=site.streams_path(scope) if site else None)
            if error.closes and scope.get("http_version", "").startswith("1"):
                refusal.headers["connection"] = "close"
            await _respond(refusal, scope, receive, send)

    async def _route(self, site: Site | None, first: str, rest: bytes, scope: Scope, receive: Receive) -> ASGIApp:
        """What answers. It may run for an hour: nothing of what led to it is kept meanwhile."""
        if site is None:
            logger.error(NOT_STARTED)
            raise NotStarted(NOT_STARTED)
        if scope["type"] == "websocket" or "upgrade" in HTTPConnection(scope).headers:
            raise UpgradeUnsupported("WebSockets and other upgrades are not relayed; use the HTTP endpoint.")
        if not self._whole_app:
            site.check_guard(scope)
        if scope["method"] not in METHODS:
            # TRACE among them: an upstream that answers it shows the operator's credential to who asks.
            raise MethodNotAllowed(scope["method"], METHODS)
        if scope["method"] == "OPTIONS":
            # Answered here, so that no preflight reaches a provider; without CORS headers, so that none succeeds.
            return Response(status_code=204, headers={"allow": ", ".join(METHODS)})
        if first == "streams":
            return partial(Streams(site), unquote(rest.decode("latin-1")))
        if first in ("healthz", "readyz") and not rest:
            return await _health(site, ready=first == "readyz")
        if first in OPERATIONS and not rest:
            return await OPERATIONS[first](site, Request(scope), whole_app=self._whole_app or is_alone(scope))
        if first in RESERVED or not first:
            raise NotFound(NOTHING)
        return await Gateway(site).answer(first, rest, scope, receive)


async def _health(site: Site, *, ready: bool) -> Response:
    """`healthz`: the process answers. `readyz`: it takes new streams and the store can write."""
    why = await unready(site.hub) if ready else ""
    body = {"status": "unavailable", "why": why} if why else {"status": "ok"}
    return JSONResponse(body, status_code=503 if why else 200, headers={"cache-control": "no-store"})


async def _respond(refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1011, "reason": "WebSockets are not relayed"})
        return
    await refusal(scope, receive, send)
