"""The provider calls that one request may lead to."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.requests import Request

from .. import remote
from ..errors import UpstreamLost, UpstreamUnreachable
from ..identity import forwarded_key
from ..model import Principal, Remote, StreamId, StreamInfo
from ..ports import Answer, Dialect, LogStore, Source
from ..route import Leg, Route
from ..upstream import Call, Pool, RawHeaders, Resumable, Upstream, forwarded, target, without_credentials
from ..upstream import read_on as resuming
from .inbound import Inbound
from .site import Site

logger = logging.getLogger("resumestream")


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
        return Prepared(self._site, name, self._request.method, target(upstream.base_url, self._raw_path, sent), passed)

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
            return to.call(sent, key=key)

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


_OF_BODY = (b"content-type", b"content-encoding", b"content-language", b"content-md5", b"digest")


class Prepared:
    """A request as one upstream gets it, but for its body."""

    def __init__(self, site: Site, name: str, method: str, where: bytes, headers: RawHeaders) -> None:
        self._site, self._name, self._method, self._where, self._headers = site, name, method, where, headers
        self._upstream: Upstream = site.upstreams[name]

    def call(self, body: bytes, *, key: str | None = None) -> Source:
        """`key`: what the upstream is to know the call by."""
        call = self.through(body, key=key)
        return Resumable(call, self._beside) if self._upstream.resume else call

    def through(self, body: bytes | Inbound, *, length: int | None = None, key: str | None = None) -> Call:
        """The bare call. `length`: of an Inbound's body."""
        upstream = self._upstream
        headers = self._headers if key is None else [*self._headers, (b"idempotency-key", key.encode("ascii"))]
        given = body.receive if isinstance(body, Inbound) else body
        kind, path = upstream.resume, self._where.partition(b"?")[0].decode("ascii")

        def found(answered: RawHeaders) -> Remote | None:
            if kind is None or not isinstance(body, bytes):
                return None
            said = {name.lower(): value.decode("latin-1") for name, value in answered}
            return remote.begun(kind, path, body, said.get(b"location"), said.get(b"stream-offset"))

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

    async def _beside(self, method: str, where: str) -> Call:
        """Another request to the same upstream, with the same credential and no body."""
        headers = [(name, value) for name, value in self._headers if name not in _OF_BODY]
        return Call(self._name, self._upstream, self._site.pool, method, where.encode("ascii"), headers)


async def read_on(upstreams: Mapping[str, Upstream], pool: Pool, store: LogStore, info: StreamInfo) -> Answer | None:
    """The rest of a call that another worker made, where its provider goes on with it and the credential is ours. None
    where it cannot be had. Raises StoreError."""
    attempt = info.attempts[-1] if info.attempts else None
    upstream = upstreams.get(attempt.upstream) if attempt else None
    if attempt is None or attempt.remote is None or upstream is None or not upstream.server_side:
        return None
    own = await upstream.own_headers(Principal(info.new.principal, info.new.labels))
    headers = [(b"accept-encoding", b"identity"), *(own or ())]

    async def beside(method: str, where: str) -> Source:
        return Call(attempt.upstream, upstream, pool, method, where.encode("ascii"), headers)

    base, tail = info.base, info.tail
    first = await _logged(store, info.id, base, min(tail, base + remote.FIRST_BYTES))
    last = await _logged(store, info.id, max(base, tail - remote.LAST_BYTES), tail)
    try:
        return await resuming(attempt.remote, beside, given=tail - base, first=first, last=last)
    except (UpstreamUnreachable, UpstreamLost) as error:
        logger.warning("stream %s cannot be read on: %s", info.id, error.message)
        return None


async def _logged(store: LogStore, stream: StreamId, at: int, end: int) -> bytes:
    data = b""
    while at + len(data) < end:
        data += await store.read(stream, at + len(data), end - at - len(data))
    return data
