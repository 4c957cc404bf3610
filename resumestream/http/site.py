"""What the faces share: one running Hub, who may use it, and where it is mounted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.types import Scope

from ..errors import AuthorizeRequired, ResumeStreamError, StreamNotFound, Unauthorized
from ..hub import Hub
from ..identity import read_ticket
from ..model import StreamId, StreamInfo
from ..offsets import Edge, Position
from ..policy import Policy
from ..refusals import gone
from ..tail import Tail
from ..upstream import Pool, Upstream
from .access import Access, Action
from .mount import faces_path
from .positions import bounded


@dataclass(frozen=True, slots=True)
class Site:
    """`public_path` is where callers see the mount point, when a proxy in front rewrites paths."""

    hub: Hub
    policy: Policy
    access: Access
    upstreams: Mapping[str, Upstream]
    pool: Pool
    public_path: str | None = None

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
        return self.hub.tail(stream, bounded(info, start), known=info)

    async def stream_for(self, conn: HTTPConnection, stream: StreamId, action: Action) -> StreamInfo:
        """The stream's record, if the caller may. Raises StreamNotFound for all who may not, in every state."""
        unknown = StreamNotFound(f"There is no stream {stream[:64]!a} for this caller.")
        if (token := conn.query_params.get("ticket")) is not None:
            ticket = read_ticket(self.hub.store.secrets, token, self.hub.store.now())
            if ticket is None or ticket.stream != stream or action not in ticket.actions:
                raise unknown
            return await self._stat(stream, unknown)
        try:
            principal = await self.access.principal(conn, action, server_side=False, keyed=False)
        except (Unauthorized, AuthorizeRequired):
            raise unknown from None
        info = await self._stat(stream, unknown)
        if info.new.principal != principal.id and not principal.admin:
            raise unknown
        return info

    async def _stat(self, stream: StreamId, unknown: ResumeStreamError) -> StreamInfo:
        try:
            return await self.hub.stat(stream)
        except StreamNotFound:
            raise unknown from None
