"""What the faces share: one running Hub, who may use it, and where it is mounted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.types import Scope

from ..errors import AuthorizeRequired, StreamNotFound, Unauthorized
from ..hub import Hub, mint
from ..identity import read_ticket
from ..model import Headers, NewStream, Principal, StreamId, StreamInfo
from ..offsets import Edge, Position
from ..policy import Policy
from ..refusals import gone
from ..tail import Tail
from ..upstream import Pool, Upstream
from .access import Access, Action
from .answer import Form, LogAnswer
from .guard import GuardCheck, require_cuttable
from .headers import UNCACHED, of_stream, outcome
from .mount import faces_path
from .positions import bounded


@dataclass(frozen=True, slots=True)
class Site:
    """`public_path` is where callers see the mount point, when a proxy in front rewrites paths. `check_guard` is called
    with the scope of what may have to be cut."""

    hub: Hub
    policy: Policy
    access: Access
    upstreams: Mapping[str, Upstream]
    pool: Pool
    check_guard: GuardCheck
    public_path: str | None = None

    @property
    def server_side(self) -> bool:
        """Whether any upstream is paid with the operator's credentials."""
        return any(upstream.server_side for upstream in self.upstreams.values())

    def streams_path(self, scope: Scope) -> str:
        """The absolute path of the streams face, as callers see it; `scope` is one that came to a face."""
        root = quote(scope.get("root_path", "")) if self.public_path is None else self.public_path
        return f"{root.rstrip('/')}/streams"

    def streams_path_from(self, host: Scope) -> str | None:
        """The same from a scope of the host's own endpoints; None where nobody told us the mount point."""
        at = faces_path(host)
        return None if at is None and self.public_path is None else self.streams_path({"root_path": at})

    async def tail(self, stream: StreamId, start: Position | Edge) -> Tail:
        """Raises StreamNotFound, StreamGone, OffsetBeyondTail."""
        info = await self.hub.stat(stream)
        if info.gone:
            raise gone(info)
        start = bounded(info, start)
        return self.hub.reads.tail(stream, start.at, segment=start.segment, known=info)

    async def stream_for(self, conn: HTTPConnection, stream: StreamId, action: Action) -> StreamInfo:
        """The stream's record, if the caller may. Raises StreamNotFound for all who may not, in every state."""
        try:
            info = await self.hub.stat(stream)
        except StreamNotFound:
            info = None
        token = conn.query_params.get("ticket")
        may = await self._owns(conn, info, action) if token is None else self._admits(token, stream, action)
        if info is None or not may:
            raise StreamNotFound(f"There is no stream {stream[:64]!a} for this caller.")
        return info

    async def _owns(self, conn: HTTPConnection, info: StreamInfo | None, action: Action) -> bool:
        """Asks the hook also where there is no stream, so that foreign and unknown take as long."""
        upstream = self.upstreams.get(info.new.upstream) if info else None
        server_side = upstream is not None and upstream.server_side
        try:
            principal = await self.access.principal(conn, action, server_side=server_side, keyed=False)
        except (Unauthorized, AuthorizeRequired):
            return False
        return info is not None and (principal.admin or principal.id == info.new.principal)

    def _admits(self, token: str, stream: StreamId, action: Action) -> bool:
        ticket = read_ticket(self.hub.store.secrets, token, self.hub.store.now())
        return ticket is not None and ticket.stream == stream and action in ticket.actions

    # --- making and answering ------------------------------------------------------------------------------------

    def new_stream(
        self,
        principal: Principal,
        upstream: str,
        *,
        key: str | None,
        labels: Iterable[str],
        retain_s: float | None,
        on_disconnect: str | None,
        dialect: str,
        dialect_guessed: bool = False,
        fingerprint: str = "",
        scope: str = "",
    ) -> NewStream:
        """What is to be claimed: the caller's wishes, None where it has none, within the policy."""
        policy = self.policy
        return NewStream(
            id=mint(),
            principal=principal.id,
            upstream=upstream,
            worker=self.hub.worker,
            created_at=self.hub.store.now(),
            retain_s=policy.retain_s if retain_s is None else min(retain_s, policy.max_retain_s),
            tombstone_s=policy.tombstone_s,
            key=key,
            fingerprint=fingerprint,
            scope=scope,
            labels=(*principal.labels, *labels),
            own_labels=len(principal.labels),
            on_disconnect=on_disconnect or policy.on_disconnect,
            dialect=dialect,
            dialect_guessed=dialect_guessed,
        )

    def answer(
        self,
        scope: Scope,
        info: StreamInfo,
        form: Form,
        start: Position,
        *,
        status: int = 200,
        headers: Headers = (),
        until: int | None = None,
    ) -> LogAnswer:
        """The answer that reads a segment of a stream from `start` on, to its end or to `until`. `headers` are those
        beside what every such answer has.

        Raises VersionUnsupported where it could be cut and nobody would see it.
        """
        seen = info.seen(start.segment)
        if until is None and (form.end(seen) if seen.sealed else form.leave()) is None:
            require_cuttable(scope)
        return LogAnswer(
            self.hub.reads.tail(info.id, start.at, segment=start.segment, until=until, known=info),
            form,
            status=status,
            headers=[*headers, *of_stream(info, start, node=self.hub.worker), *outcome(info), *UNCACHED],
            keepalive_s=self.policy.keepalive_s,
            send_s=self.policy.send_s,
            on_start=lambda: self.hub.found(info.id),
            on_end=self.hub.counters.given,
        )
