"""ResumeStream: the one object an application holds."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Literal, Self, Unpack

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from .errors import ConfigError, NotStarted, ResumeStreamError, StreamNotFound
from .http.access import LOCAL, Access, Hook
from .http.app import NOT_STARTED, RESERVED, Faces
from .http.calls import read_on
from .http.guard import Guard, GuardCheck
from .http.lifespan import WithLifespan
from .http.mount import checked, located, mounted
from .http.own import Own, OwnResponse, Wishes, hashed
from .http.problems import problem
from .http.site import Site
from .hub import Hub
from .identity import sign_ticket
from .model import Principal, StreamId, StreamInfo
from .offsets import parse_offset
from .policy import Policy
from .ports import LogStore
from .redaction import redacting_logs
from .sources import SourceCallable
from .stores import open_store
from .tail import Tail
from .upstream import Pool, Upstream, check_fallbacks

logger = logging.getLogger("resumestream")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TICKET_ACTIONS = frozenset({"read", "stop", "delete"})


class ResumeStream:
    """A durable log between your callers and your providers, mounted in your app.

    `store`: a path (SQLite), a URL (`memory:`, `sqlite:///rel`, `sqlite:////abs`, `file:///abs`) or a LogStore.
    `upstreams`: name → base URL or Upstream; the name is the first path segment.
    `authorize`: `async (conn, action) -> Principal | None`; None refuses. Without it the caller's own provider
    credential says who it is, and whoever has none must be a program on this machine.
    `public_path`: where callers see the mount point, if a proxy in front rewrites paths.

    Raises ConfigError for wrong values, before anything starts. It must be started, once, by one of `install`,
    `wrap`, `lifespan` or `async with`; after an end it can be started again.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | LogStore,
        upstreams: Mapping[str, str | Upstream] | None = None,
        policy: Policy | None = None,
        authorize: Hook | None = None,
        *,
        public_path: str | None = None,
    ) -> None:
        if not (upstreams is None or isinstance(upstreams, Mapping)):
            raise ConfigError(f"upstreams is a {type(upstreams).__name__}; use a dict of names and base URLs")
        if not (policy is None or isinstance(policy, Policy)):
            raise ConfigError(f"policy is a {type(policy).__name__}; use resumestream.Policy(...)")
        if not (authorize is None or callable(authorize)):
            raise ConfigError(f"authorize is a {type(authorize).__name__}; use an async function of (conn, action)")
        self.policy = policy or Policy()
        self.upstreams = {name: _upstream(name, given) for name, given in (upstreams or {}).items()}
        check_fallbacks(self.upstreams)
        self._store, self._authorize = store, authorize
        self._public_path = None if public_path is None else checked(public_path or "/")
        self._site: Site | None = None
        self._check_guard = GuardCheck()
        self._starting = False
        self._stack = AsyncExitStack()
        self._faces = Faces(lambda: self._site)
        self.asgi: ASGIApp = WithLifespan(self._faces, self._as_root)
        """The faces as an ASGI app. As a server's whole app it starts itself; mounted by hand it needs `lifespan` or
        `async with` beside it."""
        open_store(store, policy=self.policy, serving=True)

    # --- starting ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the store and start. Raises StoreError (locked, damaged, newer, read-only), ConfigError."""
        if self._starting or self._site is not None:
            raise ConfigError("this ResumeStream runs already; start it once, by install, wrap, lifespan or async with")
        self._starting = True
        try:
            async with AsyncExitStack() as stack:
                stack.enter_context(redacting_logs())
                pool = Pool()
                stack.push_async_callback(pool.aclose)
                hub = await stack.enter_async_context(
                    Hub(
                        open_store(self._store, policy=self.policy, serving=True),
                        self.policy,
                        read_on=partial(read_on, self.upstreams, pool),
                    )
                )
                access = Access(self._authorize, hub.store.secrets)
                self._site = Site(hub, self.policy, access, self.upstreams, pool, self._check_guard, self._public_path)
                self._stack = stack.pop_all()
        finally:
            self._starting = False
        logger.info("store %s, durability %s", hub.store.location, hub.store.durability)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Drain (see `drain`), close the store. Cancelled, what runs is still sealed."""
        try:
            await self._stack.aclose()
        finally:
            self._site = None

    @asynccontextmanager
    async def _as_root(self) -> AsyncIterator[None]:
        """Run, unless whoever started the server runs us already."""
        async with AsyncExitStack() as stack:
            if self._site is None:
                await stack.enter_async_context(self)
            yield

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """For `FastAPI(lifespan=streams.lifespan)`."""
        async with self:
            yield

    def install(self, app: Starlette, path: str = "/llm") -> None:
        """Mount on a FastAPI or Starlette app: routes, lifespan and guard. Call it before the app starts.

        Its middleware, also what is added later, lies around the faces and within the guard. A sub-app that is mounted
        in another gets no lifespan: there install on the outermost. Raises ConfigError.
        """
        if not isinstance(app, Starlette):
            raise ConfigError("streams.install takes FastAPI and Starlette apps; for any other: app = wrap(app)")
        if app.middleware_stack is not None:
            raise ConfigError("streams.install(app) came after the app had started; call it where the app is made")
        below = checked(path)
        app.mount(below, self._faces)
        inner, stack = app.router.lifespan_context, app.build_middleware_stack

        @asynccontextmanager
        async def lifespan(host: Any) -> AsyncIterator[Any]:
            async with self, inner(host) as state:
                yield state

        app.router.lifespan_context = lifespan
        # Built at the start, so that it is outermost whatever add_middleware puts in later.
        app.build_middleware_stack = lambda: Guard(located(stack(), below))  # type: ignore[method-assign]

    def wrap(self, app: ASGIApp, path: str = "/llm") -> ASGIApp:
        """Any other ASGI app, with the faces below `path`, our lifespan around its own, and the guard outermost."""
        return WithLifespan(Guard(mounted(app, self._faces, checked(path))), lambda: self)

    async def drain(self) -> None:
        """Begin the shutdown: admit nothing, cut readers, let running drains finish for `drain_s`, seal the rest."""
        await self._running.hub.drain()

    @property
    def _running(self) -> Site:
        if self._site is None:
            logger.error(NOT_STARTED)
            raise NotStarted(NOT_STARTED)
        return self._site

    # --- your own generators -------------------------------------------------------------------------------------

    async def response(
        self,
        *,
        key: str | None = None,
        source: SourceCallable | None = None,
        request: Request | None = None,
        principal: Principal | str | None = None,
        events: bool = False,
        **how: Unpack[Wishes],
    ) -> Response:
        """The answer that starts `source` for this key, or attaches to the stream that the key has; without `source`
        it attaches or is a 204. Refusals are answers, too.

        `source`: a callable of no arguments that returns an async iterator, or an async context manager yielding one.
        It runs to its end in a copy of this call's context, whoever leaves; so it must own what it uses: what belongs
        to the request is closed with it. bytes and str are payload as written; Event, dict and model become one
        server-sent event each; anything else seals the stream `provider_error`.
        Whose it is: `principal`, else who sent `request`, as at the faces. One of them is needed.
        `events`: for an `EventSource`: ids on every event, and a reconnect goes on behind the last one.
        `how`: see `Wishes`. Raises ConfigError for what the application has wrong.
        """
        own = Own(**how)
        if request is None and principal is None:
            raise ConfigError("whose answer is it? Pass request=, or principal= where you know who asks")
        try:
            site = self._running
            who = await self._who(request, principal, "create" if source else "read", keyed=key is not None)
            claim = await own.claim(site, key, source, who, found=False)
        except StreamNotFound:
            return Response(status_code=204)
        except ConfigError:
            raise
        except ResumeStreamError as error:
            if self._site:
                self._site.hub.counters.refused(error)
            streams = self._site.streams_path_from(request.scope) if self._site and request else None
            return problem(error, gateway=False, streams=streams)
        return OwnResponse(site, claim, events=events)

    async def start(
        self,
        *,
        source: SourceCallable,
        key: str | None = None,
        request: Request | None = None,
        principal: Principal | str | None = None,
        **how: Unpack[Wishes],
    ) -> StreamInfo:
        """As `response`, without a reader: the stream that runs now, or that the key has. Raises what refuses it.

        With neither `request` nor `principal` it is the application's own (`local`), one and the same for all its
        users; where there is an `authorize` hook that is a ConfigError.
        """
        own, site = Own(**how), self._running
        who = await self._who(request, principal, "create", keyed=key is not None)
        claim = await own.claim(site, key, source, who, found=True)
        claim.given()
        return await site.hub.stat(claim.stream)

    async def find(
        self, *, key: str, request: Request | None = None, principal: Principal | str | None = None
    ) -> StreamInfo | None:
        """The stream that `key` has, or None. Never creates. Whose key it is: as for `start`."""
        site = self._running
        who = await self._who(request, principal, "read", keyed=True)
        return await site.hub.bound(hashed(site, who, key))

    @asynccontextmanager
    async def tail(self, stream: str, offset: str | int = "-1") -> AsyncIterator[Tail]:
        """Read a stream from `offset` on, live to the end: `async with streams.tail(id) as tail: await tail.receive()`.

        Counts as a reader. Raises StreamNotFound, StreamGone, OffsetMalformed, OffsetBeyondTail.
        """
        site = self._running
        with site.hub.reads.reading(StreamId(stream)):
            yield await site.tail(StreamId(stream), parse_offset(str(offset)))

    async def info(self, stream: str) -> StreamInfo:
        """The record. Raises StreamNotFound."""
        return await self._running.hub.stat(StreamId(stream))

    async def cancel(self, stream: str) -> None:
        """Stop it; the partial is kept. Does nothing to a sealed stream. Raises StreamNotFound."""
        await self._running.hub.cancel(StreamId(stream))

    def ticket(
        self, stream: str, ttl_s: float | None = None, allow: Iterable[Literal["read", "stop", "delete"]] = ("read",)
    ) -> str:
        """A signed ticket for `?ticket=`, for readers that cannot send headers: good for this stream and these
        actions only, for `ttl_s` seconds, by default as long as the stream is kept. Raises ConfigError."""
        store, allow = self._running.hub.store, tuple(allow)
        if not allow or not set(allow) <= _TICKET_ACTIONS:
            raise ConfigError(f"allow is {allow!r}; give a list of {', '.join(sorted(_TICKET_ACTIONS))}")
        if ttl_s is not None and not ttl_s >= 0:
            raise ConfigError(f"ttl_s is {ttl_s!r}; it must be 0 or more, or None: as long as the stream is kept")
        return sign_ticket(store.secrets, StreamId(stream), allow, None if ttl_s is None else store.now() + ttl_s)

    async def _who(
        self,
        conn: HTTPConnection | None,
        principal: Principal | str | None,
        action: Literal["create", "read"],
        *,
        keyed: bool,
    ) -> Principal:
        if principal is not None:
            return principal if isinstance(principal, Principal) else Principal(principal)
        if conn is None and self._authorize is None:
            return LOCAL  # no request came from anywhere: it is the application itself
        if conn is None:
            raise ConfigError("whose stream is it? With an authorize hook, pass request= or principal=")
        return await self._running.access.principal(conn, action, server_side=False, keyed=keyed, own=True)


def _upstream(name: str, given: str | Upstream) -> Upstream:
    if not _NAME.fullmatch(name) or name in RESERVED:
        reserved = ", ".join(sorted(RESERVED))
        raise ConfigError(
            f"upstream name {name!r} cannot be used: it is one path segment of A-Z a-z 0-9 . _ - and none of {reserved}"
        )
    return given if isinstance(given, Upstream) else Upstream(given)
