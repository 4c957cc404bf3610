"""What a command can ask about streams, wherever they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..model import State

Record = Mapping[str, Any]
"""A stream's record, as `GET /streams/{id}/info` answers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which streams to list: all conditions hold, `labels` each."""

    state: State | None = None
    upstream: str | None = None
    labels: tuple[str, ...] = ()
    limit: int


class Reading(Protocol):
    """One stream's payload from an offset on."""

    async def receive(self) -> bytes:
        """The next bytes, live. Raises anyio.EndOfStream once the stream is sealed and all was read, ResumeStreamError
        where it cannot be read on."""
        ...

    async def aclose(self) -> None: ...


class Streams(Protocol):
    """Raises ResumeStreamError throughout."""

    async def records(self, wanted: Wanted) -> list[Record]:
        """Newest first."""
        ...

    async def record(self, stream: str) -> Record: ...

    async def read(self, stream: str, offset: str) -> Reading: ...

    async def cancel(self, stream: str) -> Record:
        """Ask that it be stopped; the record from before."""
        ...
