"""Streams whose source is a generator of yours: claims and answers."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .. import claims
from ..dialects import named, spoken
from ..errors import ConfigError, ResumeStreamError, StreamNotFound
from ..hub import Outgoing, mint
from ..identity import key_hash
from ..model import Binding, NewStream, Principal, StreamId, StreamInfo
from ..offsets import is_token, parse_last_event_id
from ..policy import valid_on_disconnect
from ..sources import GeneratorSource, SourceCallable
from ..tail import gone
from . import headers
from .answer import Form, LogAnswer
from .forms import Events, Provider, untellable
from .guard import require_cuttable
from .inbound import Inbound
from .positions import bounded
from .problems import outcome_problem, problem
from .site import Site

UPSTREAM = ""
"""The upstream name of your own generators: their keys are scoped to (principal, "")."""


class Own:
    """How one call of `response` or `start` wants its stream. Raises ConfigError for wrong values."""

    def __init__(
        self,
        site: Site,
        *,
        media_type: str,
        dialect: str | None,
        labels: Iterable[str],
        retain_s: float | None,
        on_disconnect: str | None,
        retry_of: str | None,
    ) -> None:
        policy = site.policy
        if on_disconnect is not None and not valid_on_disconnect(on_disconnect):
            raise ConfigError(f"on_disconnect is {on_disconnect!r}; use 'continue', 'cancel' or 'grace:N'")
        self._site, self._media_type = site, media_type
        self._dialect = named(dialect).name if dialect else "unknown"
        self._labels = tuple(labels)
        self._retain_s = policy.retain_s if retain_s is None else min(max(0.0, retain_s), policy.max_retain_s)
        self._on_disconnect = on_disconnect
        self._wanted = claims.Terms(retry_of=None if retry_of is None else StreamId(retry_of))

    @staticmethod
    def key(site: Site, principal: Principal, key: str) -> str:
        """The keyed hash under which `key` is stored."""
        return key_hash(site.hub.store.secrets[0], principal.id, UPSTREAM, key)

    async def claim(
        self, key: str | None, source: SourceCallable | None, principal: Principal, *, found: bool = False
    ) -> tuple[StreamId, bool]:
        """The stream, and whether this call started it. Raises StreamNotFound where there is none and no source."""
        hub, hashed = self._site.hub, None if key is None else self.key(self._site, principal, key)
        if source is None:
            if hashed is None or (info := await hub.bound(hashed)) is None:
                raise StreamNotFound("There is no stream for this key.")
            return info.id, False
        new = NewStream(
            id=mint(),
            principal=principal.id,
            upstream=UPSTREAM,
            worker=hub.worker,
            created_at=hub.store.now(),
            retain_s=self._retain_s,
            tombstone_s=self._site.policy.tombstone_s,
            key=hashed,
            labels=(*principal.labels, *self._labels),
            on_disconnect=self._on_disconnect or self._site.policy.on_disconnect,
            dialect=self._dialect,
        )
        outgoing = Outgoing(GeneratorSource(source, media_type=self._media_type), "the source")

        def decide(binding: Binding | None, info: StreamInfo | None) -> claims.Start | claims.Attach:
            return claims.decide(self._wanted, binding, info, hub.store.now())

        claim = await hub.claim(new, outgoing, decide, found=found or self._on_disconnect is not None)
        return claim.stream, claim.started


class OwnResponse(Response):
    """The answer of `ResumeStream.response`: a Starlette Response whose body is the log."""

    def __init__(self, site: Site, stream: StreamId, *, replayed: bool, events: bool) -> None:
        super().__init__()
        self._site, self._stream, self._replayed, self._events = site, stream, replayed, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. Never raises for what the stream or the client does."""
        inbound = Inbound(receive)
        inbound.ignore()
        try:
            await inbound.while_connected(lambda: self._send(scope, receive, send))
        except ResumeStreamError as error:
            await problem(error, gateway=False)(scope, receive, send)
        if self.background is not None:
            await self.background()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        hub = self._site.hub
        with hub.reading(self._stream):
            info = await hub.answered(self._stream)
            await self._answer(info, scope)(scope, receive, send)

    def _answer(self, info: StreamInfo, scope: Scope) -> ASGIApp:
        hub, policy, streams = self._site.hub, self._site.policy, self._site.streams_path_from(scope)
        if info.gone:
            raise gone(info)
        head = info.head
        if head is None or (untellable(info, head) and not self._events):
            return outcome_problem(info, gateway=False, streams=streams)
        last_id = Request(scope).headers.get("last-event-id", "")
        at = bounded(info, parse_last_event_id(last_id)) if is_token(last_id) else 0
        http_1_0 = scope["http_version"] in ("1.0", "1")
        dialect = spoken(info.new.dialect, head)
        form: Form = Events(at) if self._events else Provider(dialect, exact=at > 0, cuttable=not http_1_0)
        if (form.end(info) if info.sealed else form.leave()) is None:
            require_cuttable(scope)
        return LogAnswer(
            hub.tail(info.id, at, known=info),
            form,
            status=head.status,
            headers=[
                ("content-type", head.content_type),
                *headers.of_stream(info, at, node=hub.worker),
                *headers.outcome(info),
                *((("location", f"{streams}/{info.id}?live=events"),) if streams else ()),
                *((("idempotent-replayed", "true"),) if self._replayed else ()),
                *headers.UNCACHED,
            ],
            keepalive_s=policy.keepalive_s,
            send_s=policy.send_s,
            on_start=lambda: hub.found(info.id),
        )
