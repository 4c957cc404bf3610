"""Streams whose source is a generator of yours: claims and answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .. import claims
from ..claiming import Claim, Outgoing
from ..dialects import named, spoken_in
from ..errors import ConfigError, NoEvents, ResumeStreamError, StreamNotFound
from ..identity import key_hash
from ..model import Binding, Principal, StreamId, StreamInfo
from ..offsets import Position, is_token, parse_last_event_id
from ..policy import valid_on_disconnect
from ..refusals import gone
from ..route import only
from ..sources import GeneratorSource, SourceCallable
from . import headers
from .answer import Form
from .asks import MAX_LABELS, TOKEN, TOKEN_FORM
from .forms import Events, Provider, untellable
from .guard import finishing, is_http_1_0
from .inbound import Inbound
from .positions import bounded
from .problems import outcome_problem, problem
from .site import Site

UPSTREAM = ""
"""The upstream name of your own generators: their keys are scoped to (principal, "")."""


def hashed(site: Site, principal: Principal, key: str) -> str:
    """What `key` is stored as. Raises ConfigError for an empty one, which all who forgot theirs would share."""
    if not isinstance(key, str):
        raise ConfigError(f"key is a {type(key).__name__}; it must be text")
    if not key:
        raise ConfigError("key is empty; pass None for a stream that nobody needs to find again")
    return key_hash(site.hub.store.secrets[0], principal.id, UPSTREAM, key)


class Wishes(TypedDict, total=False):
    """How `response` and `start` make the stream; each may be left out."""

    media_type: str
    """The payload's; `text/event-stream` unless given."""
    dialect: str | None
    """Whose clients read it (`openai-chat`, …), so that a failure reaches them as their own exception."""
    labels: Iterable[str]
    """What it can be listed and deleted by."""
    retain_s: float | None
    """How long the payload is kept after the seal; None: the policy's."""
    on_disconnect: str | None
    """What happens when the last reader leaves: `continue`, `cancel` or `grace:N`; None: the policy's."""
    retry_of: str | None
    """Consent to run the source again after that stream of the key, which ended otherwise than well."""


@dataclass(slots=True, kw_only=True)
class Own:
    """The wishes of one call, checked. Raises ConfigError for wrong values."""

    media_type: str = "text/event-stream"
    dialect: str | None = None
    labels: Iterable[str] = ()
    retain_s: float | None = None
    on_disconnect: str | None = None
    retry_of: str | None = None

    def __post_init__(self) -> None:
        if self.dialect is not None:
            named(self.dialect)
        if self.on_disconnect is not None and not valid_on_disconnect(self.on_disconnect):
            raise ConfigError(f"on_disconnect is {self.on_disconnect!r}; use 'continue', 'cancel' or 'grace:N'")
        if self.retain_s is not None and not self.retain_s >= 0:
            raise ConfigError(f"retain_s is {self.retain_s!r}; it must be 0 or more")
        listed = () if isinstance(self.labels, str) else tuple(self.labels)
        if isinstance(self.labels, str) or len(listed) > MAX_LABELS or not all(map(TOKEN.fullmatch, listed)):
            raise ConfigError(f"labels are {self.labels!r}; give a list of at most {MAX_LABELS}, each {TOKEN_FORM}")
        self.labels = listed

    async def claim(
        self, site: Site, key: str | None, source: SourceCallable | None, principal: Principal, *, found: bool
    ) -> Claim:
        """`found`: as for Hub.claim.

        Raises StreamNotFound and StreamGone where there is none and no source, and what refuses a new one.
        """
        hub = site.hub
        bound = None if key is None else hashed(site, principal, key)
        if source is None:
            if bound is None or (info := await hub.bound(bound)) is None:
                raise StreamNotFound("There is no stream for this key.")
            if info.gone:
                raise gone(info)
            return Claim(info.id, started=False, hold=hub.reads.hold(info.id))
        new = site.new_stream(
            principal,
            UPSTREAM,
            key=bound,
            labels=self.labels,
            retain_s=self.retain_s,
            on_disconnect=self.on_disconnect,
            dialect=self.dialect or "unknown",
        )
        outgoing = Outgoing(only(GeneratorSource(source, media_type=self.media_type), "the source"), principal.limits)
        wanted = claims.Terms(retry_of=None if self.retry_of is None else StreamId(self.retry_of))

        def decide(binding: Binding | None, info: StreamInfo | None) -> claims.Start | claims.Attach:
            return claims.decide(wanted, binding, info, hub.store.now())

        return await hub.claim(new, outgoing, decide, found=found or self.on_disconnect is not None)


class OwnResponse(Response):
    """The answer of `ResumeStream.response`: a Starlette Response whose body is the log. Headers and cookies that the
    endpoint sets on it go out with ours; status and body are the stream's."""

    def __init__(self, site: Site, claim: Claim, *, events: bool) -> None:
        super().__init__()
        self.raw_headers = []
        self._site, self._claim, self._events = site, claim, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. Never raises for what the stream or the client does."""
        self._site.check_guard(scope)
        policy = self._site.policy
        inbound, send = Inbound(receive, policy.receive_s), finishing(scope, send, policy.send_s)
        inbound.ignore()
        try:
            await inbound.while_connected(self._send, scope, receive, send)
        except ResumeStreamError as error:
            self._site.hub.counters.refused(error)
            refusal = problem(error, gateway=False, streams=self._site.streams_path_from(scope))
            await refusal(scope, receive, send)
        if self.background is not None:
            await self.background()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        hub = self._site.hub
        with hub.reads.reading(self._claim.stream):
            info = await hub.answered(self._claim.stream)
            answer = self._answer(info, scope)
            self._claim.given()
            await answer(scope, receive, send)

    def _answer(self, info: StreamInfo, scope: Scope) -> ASGIApp:
        """What this caller gets, decided before the status line."""
        site, head, streams = self._site, info.head, self._site.streams_path_from(scope)
        if info.gone:
            raise gone(info)
        if head is None or (untellable(info, head) and not self._events):
            return outcome_problem(info, gateway=False, streams=streams)
        if self._events and not head.is_sse:
            raise NoEvents(f"Stream {info.id} is {head.content_type or 'untyped'}, not an event stream.")
        last_id = Request(scope).headers.get("last-event-id", "")
        start = parse_last_event_id(last_id) if is_token(last_id) else Position(1, 0)
        start = bounded(info, start)
        if self._events and info.sealed and start.at == info.tail and (info.completed or start.end):
            return Response(status_code=204, headers=dict(headers.outcome(info)))  # an EventSource comes back no more
        form: Form = Events(start)
        if not self._events:
            form = Provider(spoken_in(info.new, head, info.seal), exact=start.at > 0, cuttable=not is_http_1_0(scope))
        theirs = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw_headers)
        return site.answer(
            scope,
            info,
            form,
            start,
            status=head.status,
            headers=(
                ("content-type", head.content_type),
                *headers.found_at(info, head, streams, replayed=not self._claim.started),
                *theirs,
            ),
        )
