"""The gateway face: a provider's own wire, with a durable log in between. An SDK needs a base URL and one header."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .. import claims
from ..claiming import Claim, Outgoing
from ..dialects import expected, named, spoken_in
from ..errors import RequestTooLarge, UnknownUpstream, UpstreamRedirect
from ..identity import fingerprint, key_hash, scope_hash, scoped_key_hash
from ..model import Principal, StreamInfo
from ..offsets import Position
from ..refusals import about, gone
from . import headers
from .asks import Ask, is_keyed
from .calls import Asked, Prepared
from .forms import Provider, untellable
from .guard import is_http_1_0
from .inbound import Inbound
from .positions import bounded
from .problems import outcome_problem
from .site import Site
from .through import Through


class Gateway:
    """Requests below `/{upstream}`. Raises ResumeStreamError before anything was sent."""

    def __init__(self, site: Site) -> None:
        self._site, self._hub, self._policy = site, site.hub, site.policy

    async def answer(self, name: str, raw_path: bytes, scope: Scope, receive: Receive) -> ASGIApp:
        """What answers, its stream claimed. `raw_path` is what follows the upstream's name, percent-encoded as the
        caller wrote it."""
        request = Request(scope)
        upstream = self._site.upstreams.get(name)
        recorded = request.method == "POST"
        # Who may not, learns nothing of what else is wrong.
        principal = await self._site.access.principal(
            request,
            "create",
            server_side=upstream is not None and upstream.server_side,
            keyed=recorded and is_keyed(request.headers),
        )
        ask = Ask.parse(request.headers) if recorded else Ask()
        if upstream is None:
            known = ", ".join(self._site.upstreams) or "none"
            raise UnknownUpstream(f"There is no upstream {name[:64]!a}; configured: {known}.")
        last_id_is_ours = ask.last_event_id is not None
        asked = Asked(self._site, request, name, raw_path, principal, drop_last_id=last_id_is_ours)
        prepared = await asked.ready()
        inbound = Inbound(receive, self._policy.receive_s)
        if not recorded:
            return Through(self._site, prepared.through(inbound, length=asked.length), inbound)
        most = self._policy.max_request_bytes
        body = await inbound.read(most) if (asked.length or 0) <= most else None
        if body is None:
            if ask.keyed:
                raise RequestTooLarge(
                    f"The request body is larger than {most} bytes, the most that a keyed request may have. "
                    "Send it without a key to pass it through unrecorded."
                )
            return Through(self._site, prepared.through(inbound, length=asked.length), inbound)
        claim = await self._claim(asked, prepared, principal, ask, body)
        if ask.respond_async:
            return await self._accepted(claim, scope)
        return partial(inbound.while_connected, self._read, claim, ask)

    async def _read(self, claim: Claim, ask: Ask, scope: Scope, receive: Receive, send: Send) -> None:
        with self._hub.reads.reading(claim.stream):
            info = await self._hub.answered(claim.stream)
            with about(info):
                answer = self._answer(info, ask, scope, replayed=not claim.started)
            claim.given()
            del info, ask  # the answer may take an hour
            await answer(scope, receive, send)

    # --- claiming ------------------------------------------------------------------------------------------------

    async def _claim(self, asked: Asked, prepared: Prepared, principal: Principal, ask: Ask, body: bytes) -> Claim:
        store = self._hub.store
        secret, key, print_ = store.secrets[0], None, ""
        if ask.keyed:
            print_ = fingerprint(secret, "POST", asked.path, asked.query.decode("latin-1"), asked.content_type, body)
        if ask.key is not None:
            key = key_hash(secret, principal.id, asked.name, ask.key)
        elif ask.scope is not None:
            key = scoped_key_hash(secret, principal.id, asked.name, ask.scope, print_, ask.occurrence)
        dialect = expected(asked.upstream.dialect, asked.path)
        new = self._site.new_stream(
            principal,
            asked.name,
            key=key,
            fingerprint=print_,
            scope=scope_hash(secret, principal.id, ask.scope) if ask.scope is not None else "",
            labels=ask.labels,
            retain_s=ask.retain_s,
            on_disconnect=ask.on_disconnect,
            dialect=dialect,
            dialect_guessed=asked.upstream.dialect is None,
        )
        wanted = claims.Terms(print_, ask.match_key, ask.retry_of, resumes=ask.start is not None)
        outgoing = Outgoing(asked.route(prepared, body, new.id, named(dialect)), principal.limits)
        return await self._hub.claim(
            new,
            outgoing,
            lambda binding, info: claims.decide(wanted, binding, info, store.now()),
            found=ask.on_disconnect is not None or ask.respond_async,
        )

    # --- answering -----------------------------------------------------------------------------------------------

    async def _accepted(self, claim: Claim, scope: Scope) -> Response:
        info = await self._hub.stat(claim.stream)
        claim.given()
        location = f"{self._site.streams_path(scope)}/{claim.stream}"
        replayed = {} if claim.started else {"idempotent-replayed": "true"}
        return Response(
            status_code=202,
            headers={
                "location": location,
                "stream-id": claim.stream,
                "preference-applied": "respond-async",
                "cache-control": "no-store",
                **dict(headers.outcome(info)),
                **replayed,
            },
        )

    def _answer(self, info: StreamInfo, ask: Ask, scope: Scope, *, replayed: bool) -> ASGIApp:
        """What this caller gets, decided before the status line."""
        streams = self._site.streams_path(scope)
        if info.gone:
            raise gone(info)
        if info.head is None:
            return outcome_problem(info, gateway=True, streams=streams)
        start = bounded(info, ask.start) if ask.start is not None else Position(info.segment, 0)
        seen = info.seen(start.segment)
        head = seen.head or info.head
        if 300 <= head.status < 400:
            raise UpstreamRedirect(
                f"Upstream {info.new.upstream} answered {head.status}, a redirect, which is never followed. "
                "Configure the URL it leads to.",
                stream=info.id,
            )
        if untellable(seen, head):
            return outcome_problem(seen, gateway=True, streams=streams)
        form = Provider(
            spoken_in(info.new, head, seen.seal),
            exact=ask.exact or start.at > 0,
            cuttable=seen.sealed or not is_http_1_0(scope),
        )
        end = form.end(seen) if seen.sealed else None
        return self._site.answer(
            scope,
            info,
            form,
            start,
            status=head.status,
            headers=(
                *headers.answer(info, head, replayed=replayed, now=self._hub.store.now()),
                *headers.found_at(info, head, streams, replayed=replayed),
                *((("content-length", str(seen.tail - start.at + len(end))),) if end is not None else ()),
            ),
        )
