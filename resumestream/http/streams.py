"""The streams face: read, watch, find, stop and delete what the log holds. Nothing here ever calls a provider."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import (
    InvalidQuery,
    MethodNotAllowed,
    NoEvents,
    NotFound,
    OffsetBeyondTail,
    OffsetMalformed,
    RequestTooLarge,
    StreamNotFound,
)
from ..framing import Splitter, has_data
from ..identity import key_hash, scope_hash
from ..model import Gone, Headers, Query, State, StreamId, StreamInfo
from ..offsets import MAX_OFFSET, Edge, Position, parse_last_event_id, parse_offset
from ..refusals import about, gone
from . import headers
from .access import Action
from .describe import describe
from .forms import CatchUp, Events, Payload
from .inbound import Inbound
from .positions import bounded
from .problems import outcome_problem
from .site import Site

MAX_BODY_BYTES = 64 * 1024
"""What a client may send where nothing is expected."""

PAGE, MAX_PAGE = 100, 1000
"""Records a list answers with, and the most that may be asked for."""

OfAll = Callable[[Request], Coroutine[Any, Any, ASGIApp]]
OfOne = Callable[[Request, StreamInfo], Coroutine[Any, Any, ASGIApp]]


class Streams:
    """Requests below `/streams`. Raises ResumeStreamError before anything was sent."""

    def __init__(self, site: Site) -> None:
        self._site, self._hub = site, site.hub
        self._all: dict[str, OfAll] = {"GET": self._list, "DELETE": self._delete_labelled}
        self._one: dict[str, dict[str, tuple[Action, OfOne]]] = {
            "": {"GET": ("read", self._read), "HEAD": ("read", self._head), "DELETE": ("delete", self._delete)},
            "info": {"GET": ("read", self._info)},
            "cancel": {"POST": ("stop", self._cancel)},
        }

    async def __call__(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """`path` is what follows `/streams`: empty, or `/{id}`, or `/{id}/{verb}`."""
        request = Request(scope)
        stream, _, verb = path.strip("/").partition("/")
        routes: Collection[str] | None = self._one.get(verb) if stream else self._all
        if routes is None:
            raise NotFound("Below /streams there is /streams/{id}, /streams/{id}/info and /streams/{id}/cancel.")
        if request.method not in routes:
            raise MethodNotAllowed(request.method, routes)

        async def answer() -> None:
            app = await (
                self._of_one(request, StreamId(stream), verb) if stream else self._all[request.method](request)
            )
            await app(scope, receive, send)

        inbound = Inbound(receive, self._site.policy.receive_s)
        if await inbound.read(MAX_BODY_BYTES) is None:
            raise RequestTooLarge("Requests to /streams have no body.")
        await inbound.while_connected(answer)

    async def _of_one(self, request: Request, stream: StreamId, verb: str) -> ASGIApp:
        action, endpoint = self._one[verb][request.method]
        info = await self._site.stream_for(request, stream, action)
        with about(info):
            return await endpoint(request, info)

    # --- reading -------------------------------------------------------------------------------------------------

    async def _read(self, request: Request, info: StreamInfo) -> ASGIApp:
        if info.gone:
            raise gone(info)
        ask = _Read.parse(request)
        if ask.live is None:
            return await self._page(info, ask)

        async def live(scope: Scope, receive: Receive, send: Send) -> None:
            with self._hub.reads.reading(info.id):
                known = await self._hub.answered(info.id)
                with about(known):
                    if known.gone:
                        raise gone(known)
                    answer = await (self._tail if ask.live == "tail" else self._events)(scope, known, ask)
                await answer(scope, receive, send)

        return live

    async def _page(self, info: StreamInfo, ask: _Read) -> ASGIApp:
        start = await self._start(info, ask)
        seen = info.seen(start.segment)
        until = Position(start.segment, seen.tail)
        own = (*_content(seen), *headers.position(info, until), ("content-length", str(until.at - start.at)))

        async def page(scope: Scope, receive: Receive, send: Send) -> None:
            with self._hub.reads.holding(info.id):
                answer = self._site.answer(scope, info, CatchUp(), start, headers=own, until=until.at)
                await answer(scope, receive, send)

        return page

    async def _tail(self, scope: Scope, info: StreamInfo, ask: _Read) -> ASGIApp:
        start = await self._start(info, ask)
        if info.head is None:
            return outcome_problem(info, gateway=False)
        return self._site.answer(scope, info, Payload(), start, headers=_content(info.seen(start.segment)))

    async def _events(self, scope: Scope, info: StreamInfo, ask: _Read) -> ASGIApp:
        start = await self._start(info, ask)
        seen = info.seen(start.segment)
        if seen.head and not seen.head.is_sse:
            raise NoEvents(
                f"Stream {info.id} is {seen.head.content_type or 'untyped'}, not an event stream. Use live=tail."
            )
        if seen.sealed and start.at == seen.tail and (seen.completed or ask.has_end):
            told = (*headers.outcome(info), *headers.boundary(info, start.segment))
            return Response(status_code=204, headers=dict(told))
        if not await self._on_boundary(info, start):
            raise OffsetMalformed(f"Offset {start} lies within an event. Use one that this server handed out.")
        return self._site.answer(scope, info, Events(start), start, headers=(("content-type", "text/event-stream"),))

    async def _start(self, info: StreamInfo, ask: _Read) -> Position:
        """Where to read from. Raises OffsetBeyondTail, OffsetMalformed."""
        if ask.from_event is not None:
            return Position(info.segment, await self._offset_of_event(info, ask.from_event))
        return bounded(info, ask.start)

    async def _offset_of_event(self, info: StreamInfo, count: int) -> int:
        """The offset in the latest segment behind its first `count` whole events: a scan, since logs count bytes."""
        latest = info.latest
        if count > latest.events:
            raise OffsetBeyondTail(f"from_event={count}, but stream {info.id} has {latest.events} events.")
        splitter, at = Splitter(), 0
        tail = self._hub.reads.tail(info.id, 0, segment=info.segment, until=latest.tail, known=info)
        while count:
            if tail.at == latest.tail:
                return latest.tail  # the last event's blank line never came
            for block in splitter.feed((await tail.receive()).data):
                at += len(block)
                if has_data(block) and not (count := count - 1):
                    break
        return at

    async def _on_boundary(self, info: StreamInfo, start: Position) -> bool:
        """Whether an event ends right before `start`; ends are told by the line ends before it."""
        at, segment = start.at, start.segment
        if at in (0, info.seen(segment).tail):
            return True
        tail = self._hub.reads.tail(info.id, max(0, at - 4), segment=segment, until=at, known=info)
        before = b""
        while tail.at < at:
            before += (await tail.receive()).data
        return before.endswith((b"\n\n", b"\r\r", b"\n\r\n", b"\n\r", b"\r\r\n"))

    # --- asking and stopping -------------------------------------------------------------------------------------

    async def _head(self, request: Request, info: StreamInfo) -> ASGIApp:
        if info.gone:
            raise gone(info)
        return Response(
            headers=dict(
                (*headers.of_stream(info, Position(info.segment, 0), node=self._hub.worker), *headers.record(info))
            )
        )

    async def _info(self, request: Request, info: StreamInfo) -> ASGIApp:
        return JSONResponse(
            self._describe(info), status_code=410 if info.gone else 200, headers=dict(headers.outcome(info))
        )

    def _describe(self, info: StreamInfo) -> dict[str, Any]:
        return describe(info, node=self._hub.worker, durability=self._hub.store.durability)

    async def _cancel(self, request: Request, info: StreamInfo) -> ASGIApp:
        if info.gone:
            raise gone(info)
        await self._hub.cancel(info.id)
        return Response(status_code=202, headers=dict(headers.outcome(info)))

    async def _delete(self, request: Request, info: StreamInfo) -> ASGIApp:
        left = await self._hub.delete(info.id, forget=_flag(request.query_params, "forget"))
        return Response(status_code=204, headers=dict(headers.outcome(left)))

    async def _list(self, request: Request) -> ASGIApp:
        query = await self._query(request, "list")
        found = await self._find(replace(query, limit=query.limit + 1))
        page = found[: query.limit]
        answer: dict[str, Any] = {"streams": [self._describe(info) for info in page]}
        if len(found) > query.limit:
            answer["next"] = page[-1].id
        return JSONResponse(answer)

    async def _delete_labelled(self, request: Request) -> ASGIApp:
        query = await self._query(request, "delete")
        if not query.labels:
            raise InvalidQuery("DELETE /streams needs label=; to delete one stream name it: DELETE /streams/{id}.")
        forget = _flag(request.query_params, "forget")
        while page := await self._find(query):
            if not forget:  # what was forgotten is listed no more, and no page can go on after it
                query = replace(query, after=page[-1].id)
            for info in page:
                if info.gone is not Gone.DELETED or forget:
                    with suppress(StreamNotFound):  # somebody else forgot it meanwhile
                        await self._hub.delete(info.id, forget=forget)
        return Response(status_code=204)

    async def _find(self, query: Query) -> list[StreamInfo]:
        """As many as asked for, by their state of now: what the log was last told is sealed may have expired since.
        Raises InvalidQuery for a cursor that is no more."""
        wanted, found = query.state, list[StreamInfo]()
        query = replace(query, state=None if wanted is State.EXPIRED else wanted)
        while True:
            try:
                page = await self._hub.find(query)
            except StreamNotFound:
                raise InvalidQuery("after names no stream that is there. Begin again without it.") from None
            found += [info for info in page if wanted in (None, info.state)]
            if len(page) < query.limit or len(found) >= query.limit:
                return found[: query.limit]
            query = replace(query, after=page[-1].id)

    async def _query(self, request: Request, action: Action) -> Query:
        principal = await self._site.access.principal(request, action, server_side=self._site.server_side, keyed=False)
        asked, secret = request.query_params, self._hub.store.secrets[0]
        state, key, scope = asked.get("state"), asked.get("key"), asked.get("scope")
        upstream = asked.get("upstream")
        if state is not None and state not in set(State):
            raise InvalidQuery(f"state is {state[:40]!a}; it must be one of {', '.join(State)}.")
        names = [upstream] if upstream is not None else ["", *self._site.upstreams]
        after = asked.get("after")
        return Query(
            principal=None if principal.admin else principal.id,
            state=State(state) if state is not None else None,
            upstream=upstream,
            keys=tuple(key_hash(secret, principal.id, name, key) for name in names) if key is not None else (),
            scope=scope_hash(secret, principal.id, scope) if scope is not None else None,
            labels=tuple(asked.getlist("label")),
            after=StreamId(after) if after is not None else None,
            limit=_number(asked, "limit", PAGE, least=1, most=MAX_PAGE),
        )


@dataclass(frozen=True, slots=True)
class _Read:
    """How a stream is to be read."""

    live: str | None
    start: Position | Edge
    from_event: int | None
    has_end: bool

    @classmethod
    def parse(cls, request: Request) -> _Read:
        """Raises OffsetMalformed, InvalidQuery. `Last-Event-ID` wins over `offset`: it is what the reader saw last."""
        asked, last_id = request.query_params, request.headers.get("last-event-id", "")
        live = asked.get("live")
        if live not in (None, "tail", "events"):
            raise InvalidQuery(f"live is {live[:40]!a}; it must be tail or events.")
        if last_id:
            start = parse_last_event_id(last_id)
            has_end = isinstance(start, Position) and start.end
            return cls(live or "events", start, None, has_end)
        if "from_event" in asked:
            if "offset" in asked:
                raise InvalidQuery("offset and from_event exclude each other: send one of them.")
            return cls(live, Edge.START, _number(asked, "from_event", 0), False)
        return cls(live, parse_offset(asked.get("offset", "-1")), None, False)


def _content(info: StreamInfo) -> Headers:
    """What the payload is, on what gives it as it came."""
    found = ((name, info.head.get(name)) for name in ("content-type", "content-encoding")) if info.head else ()
    return tuple((name, value) for name, value in found if value)


def _number(asked: QueryParams, name: str, default: int, *, least: int = 0, most: int = MAX_OFFSET) -> int:
    text = asked.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):
        raise InvalidQuery(f"{name} is {text[:40]!a}; it must be a whole number from {least} to {most}.")
    return int(text)


def _flag(asked: QueryParams, name: str) -> bool:
    value = asked.get(name, "false")
    if value not in ("true", "false"):
        raise InvalidQuery(f"{name} is {value[:40]!a}; it must be true or false.")
    return value == "true"
