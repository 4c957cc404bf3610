"""What a command can ask about streams, wherever they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..metering import By
from ..model import State

Record = Mapping[str, Any]
"""A stream's record, as `GET /streams/{id}/info` answers it."""

MAX_PAGE = 1000
"""Records that are listed at a time, at most: as many as a server lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which streams to list: all conditions hold, `labels` each. `after` continues a page."""

    state: State | None = None
    upstream: str | None = None
    labels: tuple[str, ...] = ()
    after: str | None = None
    limit: int


@dataclass(frozen=True, slots=True)
class Listing:
    """One page, newest first. `next` is the id after which the next one goes on, None where there is none."""

    records: list[Record]
    next: str | None


class Reading(Protocol):
    """One stream's payload from an offset on."""

    async def receive(self) -> bytes:
        """The next bytes, live. Raises anyio.EndOfStream once the stream is sealed and all was read, ResumeStreamError
        where it cannot be read on."""
        ...

    async def aclose(self) -> None: ...


class Streams(Protocol):
    """Raises ResumeStreamError throughout."""

    async def listing(self, wanted: Wanted) -> Listing: ...

    async def record(self, stream: str) -> Record: ...

    async def read(self, stream: str, offset: str) -> Reading: ...

    async def cancel(self, stream: str) -> Record:
        """Ask that it be stopped; the record from before."""
        ...

    async def delete(self, streams: Sequence[str], *, forget: bool) -> None:
        """Stop those that are live, drop their payload, cut their readers; with `forget` drop their tombstones and keys
        as well."""
        ...

    async def delete_labelled(self, labels: tuple[str, ...], *, forget: bool) -> None:
        """The same with every stream that has all the labels."""
        ...

    async def usage(self, by: By, since: str | None) -> Mapping[str, Any]:
        """The sums, as `GET /usage` answers them; `since` is a duration."""
        ...
