"""Connections that can be used again."""

from __future__ import annotations

from collections import defaultdict

import anyio

from .config import Origin
from .connection import Connection

IDLE_S = 4.0
"""Below the 5 s after which uvicorn and node drop an idle connection, so that ours is given up first."""
IDLE_PER_ORIGIN = 64


class Pool:
    """Idle connections by origin, the latest used first. Belongs to one event loop and needs no task: what is too old
    is closed at the next use. A connection in use is not in here."""

    def __init__(self) -> None:
        self._idle: defaultdict[Origin, list[tuple[float, Connection]]] = defaultdict(list)

    async def connect(self, origin: Origin, connect_s: float) -> Connection:
        """An idle connection whose peer is still there, or a new one. Raises UpstreamUnreachable."""
        await self._close_older_than(IDLE_S)
        idle = self._idle[origin]
        while idle:
            _, connection = idle.pop()
            if connection.quiet():
                return connection
            await connection.aclose()
        return await Connection.dial(origin, connect_s)

    async def release(self, origin: Origin, connection: Connection) -> None:
        """Keep it where it can be used again, else close it. Does not wait."""
        idle = self._idle[origin]
        if len(idle) < IDLE_PER_ORIGIN and connection.renew():
            idle.append((anyio.current_time(), connection))
        else:
            await connection.aclose()
        await self._close_older_than(IDLE_S)

    async def aclose(self) -> None:
        """Close all that is idle."""
        await self._close_older_than(0)

    async def _close_older_than(self, age_s: float) -> None:
        now = anyio.current_time()
        for idle in list(self._idle.values()):
            while idle and now - idle[0][0] >= age_s:
                _, connection = idle.pop(0)
                await connection.aclose()
