"""The Protocols a stranger implements: a store, a source of bytes, a provider's grammar.

`resumestream.testing.check_log_store` is what makes a LogStore a LogStore: run it on asyncio and on trio.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol, Self, runtime_checkable

from .model import (
    Attempt,
    Binding,
    Durability,
    Gone,
    Head,
    Lease,
    NewStream,
    Query,
    Seal,
    StreamId,
    StreamInfo,
)


@runtime_checkable
class LogStore(Protocol):
    """Durable append-only logs.

    Every call is atomic: it happened whole or not at all, and returns only once what it wrote is durable to
    `durability` (keyed creates and all seals: to disk, where the store has one). No call waits for anything but the
    storage. A call that is cancelled may or may not have happened; reading tells.

    Raises everywhere: StreamNotFound (never minted, or forgotten), StoreError (and StoreFull, StoreBusy) when the
    storage fails; nothing acknowledged before is lost by it.
    """

    durability: Durability
    location: str
    """For people: the resolved path or URL."""
    secrets: Sequence[bytes]
    """Random keys kept with the store, 32 bytes each: sign with the first, verify with all. Valid once entered."""

    async def __aenter__(self) -> Self:
        """Open. A store opened to serve holds its exclusive lock until exit: StoreLocked when another server has it.
        Raises StoreUnusable on a damaged, newer or read-only store."""
        ...

    async def __aexit__(self, *exc: object) -> bool | None:
        """Close: what was acknowledged stays, calls in flight finish first, the lock is free."""
        ...

    async def probe(self) -> None:
        """Prove that a write would succeed, now or within the last second: anybody may ask. Raises StoreError."""
        ...

    def now(self) -> float:
        """The store clock, in seconds since the epoch: never jumps, never goes back."""
        ...

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        """Mint `new.id` at epoch 1, leased to `new.worker`. With `new.key` also bind the key to it, if and only if the
        key means exactly `replaces` now (None: it has no binding), at disk level; `replaces` joins `earlier`, of which
        the last EARLIER_KEPT stay. Ids are never reused, so exactly one caller ever replaces a stream and gets the
        Lease, also where the key was forgotten and bound anew in between; the Lease is what permits the billable call.
        Raises BindingMoved; nothing is written then."""
        ...

    async def binding(self, key: str) -> Binding | None:
        """What the key (a keyed hash) means now."""
        ...

    async def acquire(self, stream: StreamId, worker: str) -> Lease:
        """Take an unsealed stream over: epoch + 1. Whoever held it is fenced off from here on. Raises StreamSealed."""
        ...

    async def begin(self, lease: Lease, attempt: Attempt, head: Head) -> None:
        """Record a provider call and what it answered before its body. Raises LeaseLost, StreamSealed."""
        ...

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        """Compare-and-append payload that holds `events` whole events; returns the new tail.
        Raises LeaseLost (fenced: stop), StreamSealed, OffsetConflict(at, tail)."""
        ...

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        """Make the tail final, at disk level, after all payload below it. `seal.sealed_at` is set here, from the store
        clock. Idempotent: the first seal wins and is what comes back. Raises LeaseLost."""
        ...

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        """1 to `max_bytes` payload bytes from `at`, or none at the tail; never waits. May return fewer than are there.
        Raises OffsetBeyondTail, StreamGone. Never answers with bytes from any other offset."""
        ...

    async def stat(self, stream: StreamId) -> StreamInfo:
        """The record, as durable; also of a stream whose payload is gone."""
        ...

    async def find(self, query: Query) -> list[StreamInfo]:
        """At most `query.limit` records, newest first. Raises StreamNotFound when `query.after` is forgotten, unknown
        or not `query.principal`'s: the three look alike."""
        ...

    async def unsealed(self) -> list[StreamInfo]:
        """Every stream without a seal: what start-up recovery looks at."""
        ...

    async def request_cancel(self, stream: StreamId) -> None:
        """Store the intent that the stream be stopped; whoever drains it, or recovers it, seals it `cancelled`.
        Does nothing to a sealed stream. Idempotent."""
        ...

    async def cancel_requests(self) -> list[StreamId]:
        """Unsealed streams that somebody asked to stop. Cheap: it is polled."""
        ...

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        """Drop a sealed stream's payload and keep its tombstone (see `StreamInfo.tombstone`). Unreadable at once.
        Idempotent, the first reason stays. Raises StoreError on an unsealed stream."""
        ...

    async def forget(self, stream: StreamId) -> None:
        """Drop a purged stream's tombstone, and its key's binding if that still means it. Idempotent."""
        ...


class Answer(Protocol):
    """A provider's answer, its head already here."""

    head: Head

    async def receive(self) -> bytes:
        """Next body bytes, never empty, transfer coding removed, content otherwise untouched.
        Raises anyio.EndOfStream at a framed end of the body (or where the body has no frame: see `framed`),
        UpstreamLost at any other, SourceFailed where a generator of your own raised."""
        ...

    framed: bool
    """Whether the end of the body can be told from a cut connection."""

    async def aclose(self) -> None:
        """Let go: a connection is reused after a framed end and closed otherwise, a generator is closed. Idempotent."""
        ...


class Source(Protocol):
    """Calls the provider."""

    upstream: str
    """Its configured name; empty for a generator of your own."""

    async def open(self) -> Answer:
        """The one billable act. Raises UpstreamUnreachable (before the first request byte left), UpstreamLost (after).
        If cancelled, the connection is closed and the call may have been billed."""
        ...


class Mark(Enum):
    """What one block of an event stream means to its dialect."""

    BLANK = "no data line"
    EVENT = "an event"
    END = "the provider's semantic end"
    ERROR = "the provider's own error"


class Scanner(Protocol):
    """One stream's reading of a dialect. Never raises on provider garbage: what it does not know is an EVENT."""

    def scan(self, block: bytes) -> Mark:
        """What this whole block means, given those before it."""
        ...

    def ends_at_framed_end(self) -> bool:
        """Whether a framed end of the body, here, is the semantic end as well."""
        ...

    error: str
    """After a Mark.ERROR: the provider's code or message, at most 200 characters; for the seal's message."""


class Dialect(Protocol):
    """A provider's grammar. Adding one is one file and one fixture."""

    name: str
    keepalive: bytes | None
    """Bytes every known client of this wire ignores between two events; None where unsure."""

    def scanner(self) -> Scanner: ...

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The in-band event that the provider's SDK turns into its own exception; None where there is none."""
        ...
