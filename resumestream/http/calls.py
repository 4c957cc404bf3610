"""The provider calls that one request may lead to."""

from __future__ import annotations

from starlette.requests import Request

from ..identity import forwarded_key
from ..model import Principal, StreamId
from ..ports import Source
from ..route import Leg, Route, only
from ..upstream import Call, RawHeaders, Upstream, forwarded, target, without_credentials
from .inbound import Inbound
from .site import Site


class Asked:
    """One request to one upstream, checked, before its body was read."""

    def __init__(
        self, site: Site, request: Request, name: str, raw_path: bytes, principal: Principal, *, drop_last_id: bool
    ) -> None:
        self._site, self._request, self._raw_path = site, request, raw_path
        self._principal, self._drop_last_id = principal, drop_last_id
        self.name, self.upstream = name, site.upstreams[name]
        self.path, self.query = raw_path.decode("latin-1"), request.scope.get("query_string", b"")

    async def ready(self) -> Prepared:
        """Raises InvalidQuery for a path that could leave the upstream, and whatever makes the headers raises."""
        return await self.to(self.name)

    async def to(self, name: str) -> Prepared:
        """The same request, as that upstream gets it: a caller's credential goes only where it was sent."""
        upstream = self._site.upstreams[name]
        own = await upstream.own_headers(self._principal)
        sent = self.query if own is None else without_credentials(self.query)
        passed = forwarded(self._request.headers.raw, own=own, last_event_id_is_ours=self._drop_last_id)
        return Prepared(self._site, name, self._request.method, target(upstream.base_url, self._raw_path, sent), passed)

    def route(self, prepared: Prepared, body: bytes, stream: StreamId) -> Route:
        """Where the stream's answer may come from: this upstream, then its fallbacks."""
        upstream = self.upstream
        where = upstream.origin.authority
        if not (upstream.retries or upstream.fallbacks or upstream.forward_key):
            return only(prepared.call(body), where)
        legs = [self._leg(name, body, stream) for name in (self.name, *upstream.fallbacks)]
        return Route(legs, segments=upstream.failover == "segment")

    def _leg(self, name: str, body: bytes, stream: StreamId) -> Leg:
        upstream = self._site.upstreams[name]

        async def ready(segment: int) -> Source:
            key = forwarded_key(self._site.hub.store.secrets[0], stream, segment) if upstream.forward_key else None
            return (await self.to(name)).call(body, key=key)

        return Leg(upstream.origin.authority, ready, upstream.retries, resend=upstream.forward_key)

    @property
    def content_type(self) -> str:
        return self._request.headers.get("content-type", "")

    @property
    def length(self) -> int | None:
        """Of the body that is still to come; None: not known, as over HTTP/2 or in chunks."""
        request = self._request
        said = request.headers.get("content-length", "")
        if said.isascii() and said.isdigit():
            return int(said)
        has_body = request.method in ("POST", "PUT", "PATCH") or "transfer-encoding" in request.headers
        return None if has_body else 0


class Prepared:
    """A request as one upstream gets it, but for its body."""

    def __init__(self, site: Site, name: str, method: str, where: bytes, headers: RawHeaders) -> None:
        self._site, self._name, self._method, self._where, self._headers = site, name, method, where, headers

    def call(self, body: bytes | Inbound, *, length: int | None = None, key: str | None = None) -> Call:
        """`length`: of an Inbound's body. `key`: what the upstream is to know the call by."""
        upstream: Upstream = self._site.upstreams[self._name]
        headers = self._headers if key is None else [*self._headers, (b"idempotency-key", key.encode("ascii"))]
        given = body.receive if isinstance(body, Inbound) else body
        return Call(self._name, upstream, self._site.pool, self._method, self._where, headers, given, length=length)
