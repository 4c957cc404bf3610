"""The provider calls that one request may lead to."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from .. import remote
from ..identity import forwarded_key
from ..model import Principal, Remote, StreamId, StreamInfo
from ..ports import Answer, Dialect, LogStore, Source
from ..route import Leg, Route
from ..upstream import (
    Call,
    Logged,
    Pool,
    RawHeaders,
    Resumable,
    Resuming,
    Upstream,
    every,
    forwarded,
    target,
    who_asks,
    without_credentials,
)
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
        """Raises InvalidQuery for a path that could leave the upstream, ConfigError, HeadersFailed."""
        return await self.to(self.name)

    async def to(self, name: str) -> Prepared:
        """The same request, as that upstream gets it: a caller's credential goes only where it was sent."""
        upstream = self._site.upstreams[name]
        own = await upstream.own_headers(self._principal)
        sent = self.query if own is None else without_credentials(self.query)
        passed = forwarded(self._request.headers.raw, own=own, last_event_id_is_ours=self._drop_last_id)
        if upstream.resume == "resumestream":
            passed.append((b"stream-exact", b"true"))
        side = who_asks(passed) if own is None else [(b"accept-encoding", b"identity"), *own]
        where = target(upstream.base_url, self._raw_path, sent)
        return Prepared(self._site, name, self._request.method, where, passed, side)

    def route(self, prepared: Prepared, body: bytes, stream: StreamId, dialect: Dialect) -> Route:
        """Where the stream's answer may come from: this upstream, by what is `prepared` for it, then its fallbacks."""
        upstream = self.upstream
        legs = [self._leg(self.name, body, stream, dialect, prepared)]
        legs += [self._leg(name, body, stream, dialect) for name in upstream.fallbacks]
        return Route(legs, segments=upstream.failover == "segment")

    def _leg(self, name: str, body: bytes, stream: StreamId, dialect: Dialect, prepared: Prepared | None = None) -> Leg:
        upstream = self._site.upstreams[name]
        asking = dialect.asking_usage(body) if upstream.include_usage else None
        sent, first = body if asking is None else asking, [prepared] if prepared else []

        async def ready(segment: int) -> Source:
            key = forwarded_key(self._site.hub.store.secrets[0], stream, segment) if upstream.forward_key else None
            to = first.pop() if first else await self.to(name)  # credentials may change from call to call
            return to.call(sent, stream, key=key)

        return Leg(
            upstream.origin.authority,
            ready,
            upstream.retries,
            resend=upstream.forward_key,
            usage_is_ours=asking is not None,
        )

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

    def __init__(
        self, site: Site, name: str, method: str, where: bytes, headers: RawHeaders, who_asks: RawHeaders
    ) -> None:
        self._site, self._name, self._method, self._where, self._headers = site, name, method, where, headers
        self._upstream: Upstream = site.upstreams[name]
        self._who_asks = who_asks

    def call(self, body: bytes, stream: StreamId, *, key: str | None = None) -> Source:
        """The call that `stream` is of. `key`: what the upstream is to know it by."""
        call = self.through(body, key=key)
        if self._upstream.resume is None:
            return call
        return Resumable(call, self._side, Logged(self._site.hub.store, stream))

    def through(self, body: bytes | Inbound, *, length: int | None = None, key: str | None = None) -> Call:
        """The bare call. `length`: of an Inbound's body."""
        upstream = self._upstream
        headers = self._headers if key is None else [*self._headers, (b"idempotency-key", key.encode("ascii"))]
        given = body.receive if isinstance(body, Inbound) else body
        kind, path = upstream.resume, self._where.partition(b"?")[0].decode("ascii")

        def found(answered: RawHeaders) -> Remote | None:
            if kind is None or not isinstance(body, bytes):
                return None
            return remote.begun(kind, path, body, dict(every(200, answered)))

        return Call(
            self._name,
            upstream,
            self._site.pool,
            self._method,
            self._where,
            headers,
            given,
            length=length,
            found=found,
        )

    async def _side(self, method: str, where: str) -> Call:
        return _side(self._name, self._upstream, self._site.pool, method, where, self._who_asks)


def read_on(upstreams: Mapping[str, Upstream], pool: Pool, store: LogStore, info: StreamInfo) -> Answer | None:
    """The rest of a call that another worker made, where its provider goes on with it and the credential is ours; else
    None. Nobody is asked yet: the answer's `receive` and `cancel` do that."""
    attempt = info.attempts[-1] if info.attempts else None
    upstream = upstreams.get(attempt.upstream) if attempt else None
    if attempt is None or attempt.remote is None or info.head is None or upstream is None or not upstream.server_side:
        return None
    name, new = attempt.upstream, info.new
    principal = Principal(new.principal, new.labels[: new.own_labels])

    async def side(method: str, where: str) -> Call:
        own = await upstream.own_headers(principal) or ()
        return _side(name, upstream, pool, method, where, [(b"accept-encoding", b"identity"), *own])

    return Resuming(attempt.remote, side, Logged(store, info.id), info.head)


def _side(name: str, upstream: Upstream, pool: Pool, method: str, where: str, who_asks: RawHeaders) -> Call:
    """Another request about a call, with what says who asks and no body."""
    return Call(name, upstream, pool, method, where.encode("ascii"), who_asks, kept=every)
