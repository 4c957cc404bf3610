"""The Protocols a stranger implements: a store, a source of bytes, a provider's grammar.

`resumestream.testing.check_log_store` is what makes a LogStore a LogStore: run it on asyncio and on trio.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from .errors import UpstreamLost
from .framing import Framing
from .model import (
    Attempt,
    Binding,
    Durability,
    Entry,
    Gone,
    Head,
    Kept,
    Lease,
    NewStream,
    Query,
    Remote,
    Seal,
    Segment,
    StreamId,
    StreamInfo,
    Tally,
)
from .usage import Usage

if TYPE_CHECKING:
    import anyio


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
    peers: Peers
    """The other processes that serve this store. Valid once entered."""

    async def __aenter__(self) -> Self:
        """Open; one that is opened to serve takes its place among the peers. Raises StoreUnusable on a damaged, newer
        or read-only store."""
        ...

    async def __aexit__(self, *exc: object) -> bool | None:
        """Close: what was acknowledged stays, calls in flight finish first, the place among the peers is free."""
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

    async def acquire(self, stream: StreamId, worker: str, *, after: int) -> Lease:
        """Take an unsealed stream over, if it still is at epoch `after`: epoch + 1. Whoever held it is fenced off from
        here on, and what it was acknowledged is the log. Raises StreamSealed, LeaseLost (somebody else took it)."""
        ...

    async def begin(
        self,
        lease: Lease,
        attempt: Attempt,
        head: Head | None,
        *,
        after: Sequence[Attempt] = (),
        ended: Sequence[Segment] = (),
    ) -> None:
        """Record the latest provider call, in place of what was recorded of its calls before: `after` are those before
        it, each as it ended, and `ended` the segments before its own; payload below the last of these belongs to them,
        for ever. `head` is what it answered before its body; None: nothing that readers get, which leaves the head as
        it is. At disk level without a head, since a call may be made next, and with segments.
        Raises LeaseLost, StreamSealed."""
        ...

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        """Compare-and-append payload that holds `events` whole events; returns the new tail.
        Raises LeaseLost (fenced: stop), StreamSealed, OffsetConflict(at, tail)."""
        ...

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        """Make the tail final, at disk level, after all payload below it. `seal.sealed_at` is set here, from the store
        clock; the last attempt ends with it, if it is open, and enters the ledger with all before it. Idempotent: the
        first seal wins and is what comes back. Raises LeaseLost."""
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
        """Every stream without a seal: what recovery looks at."""
        ...

    async def owners(self) -> set[str]:
        """The workers that unsealed streams name. Cheap: it is polled."""
        ...

    async def request_cancel(self, stream: StreamId) -> None:
        """Store the intent that the stream be stopped; whoever drains it, or recovers it, seals it `cancelled`.
        Does nothing to a sealed stream. Idempotent."""
        ...

    async def held(self, worker: str) -> dict[StreamId, bool]:
        """The unsealed streams that are `worker`'s, and of each whether somebody asked to stop it. Cheap: it is
        polled."""
        ...

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        """Drop a sealed stream's payload and keep its tombstone (see `StreamInfo.tombstone`). Unreadable at once.
        Idempotent, the first reason stays. Raises StoreError on an unsealed stream."""
        ...

    async def forget(self, stream: StreamId) -> None:
        """Drop a purged stream's tombstone, and its key's binding if that still means it. Idempotent."""
        ...

    async def due(self, limit: int) -> list[StreamInfo]:
        """At most `limit` streams whose `due_at` has come, the longest due first."""
        ...

    async def oldest(self, limit: int, principal: str | None = None) -> list[StreamInfo]:
        """At most `limit` sealed streams that have payload bytes, the oldest seal first; of `principal`, or of all."""
        ...

    async def kept(self, principal: str | None = None) -> Kept:
        """What is kept for `principal`, or for all. Cheap: every start asks."""
        ...

    async def ledger(
        self, *, principal: str | None = None, since: float = 0.0, after: Entry | None = None, limit: int = 1000
    ) -> list[Entry]:
        """At most `limit` calls of `principal`, or of all, that ended at `since` (store clock) or later, in the order
        in which they ended, those of one moment by stream and number; `after` continues a page, also where that entry
        was pruned."""
        ...

    async def tally(self, counts: Mapping[StreamId, Tally]) -> None:
        """Add to how often these streams were asked for again. It is kept for as long as the stream has a record or an
        entry in the ledger; counts of one that has neither are dropped."""
        ...

    async def prune(self, before: float) -> None:
        """Drop the ledger's entries that ended before `before`, by the store clock."""
        ...

    async def tidy(self) -> None:
        """Do all idle-time work now: pack what has ended, erase what was purged, give the space back."""
        ...

    async def verify(self, stream: StreamId | None = None) -> list[str]:
        """Read everything that is stored of a stream, or the store's own structures, and tell what is wrong: one
        sentence each, none where all is well. Changes nothing. Raises StreamNotFound."""
        ...


class Detached(UpstreamLost):
    """The connection to an answer that goes on without us was lost. The next `receive` attaches again behind the last
    whole block that was logged: what came after that comes again, and may differ."""


class Answer(Protocol):
    """A provider's answer, its head already here."""

    head: Head

    async def receive(self) -> bytes:
        """Next body bytes, never empty, transfer coding removed, content otherwise untouched.
        Raises anyio.EndOfStream at a framed end of the body (or where the body has no frame: see `framed`),
        UpstreamLost at any other (Detached where that is not the end), SourceFailed where a generator of your own
        raised."""
        ...

    framed: bool
    """Whether the end of the body can be told from a cut connection."""
    remote: Remote | None
    """Where the provider goes on with it if the connection is lost."""

    async def cancel(self) -> None:
        """Have the provider stop, where it would go on without us. Takes seconds at the most; raises nothing.
        Idempotent."""
        ...

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
    """What one block of a body means to its dialect."""

    BLANK = "nothing: a comment, an empty line"
    EVENT = "an event"
    USAGE = "an event that tells the usage and nothing else"
    END = "the provider's semantic end"
    ERROR = "the provider's own error"


class Scanner(Protocol):
    """One answer's reading of a dialect. Never raises on provider garbage: what it does not know is an EVENT."""

    def scan(self, block: bytes) -> Mark:
        """What this whole block means, given those before it."""
        ...

    def ends_at_framed_end(self) -> bool:
        """Whether a framed end of the body behind whole events, here, is the semantic end as well."""
        ...

    @property
    def foreign(self) -> bool:
        """Whole events came, and none is of this grammar, which was only guessed: any end that the framing tells is the
        semantic end."""
        ...

    @property
    def error(self) -> str:
        """After a Mark.ERROR: the provider's code or message, at most 200 characters; for the seal's message."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What the blocks so far tell of the tokens. Ask when the answer has ended: it may have to read them."""
        ...

    @property
    def model(self) -> str:
        """The model that answers, as the provider names it, at most 200 characters; empty where it does not."""
        ...


class Dialect(Protocol):
    """A provider's grammar. Adding one is one file, its line in `dialects/__init__.py`, and one fixture."""

    name: str
    framing: Framing
    """How its wire is cut into blocks, and so which media types it can be."""
    endpoint: re.Pattern[str] | None = None
    """Paths (without query) whose answers speak it, where the configuration says nothing."""
    known: re.Pattern[bytes] | None = None
    """What events of this grammar have and others hardly: by it a guess is believed. None where it is never guessed."""
    guessed: bool = False
    """Its scanner may yet find that it was guessed wrong (`Scanner.foreign`)."""
    header: str = ""
    """A response header that nobody else sends, in lower case."""
    keepalive: bytes | None = None
    """Bytes every known client of this wire ignores between two events; None where unsure."""
    ends_as_framed: bool = False
    """It has no grammar: any end that the framing tells is the semantic end, whatever came before."""

    def scanner(self) -> Scanner: ...

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The in-band event by which this wire tells a failure: the provider's SDK raises it, or at least knows it for
        one. None where there is none."""
        return None

    def asking_usage(self, body: bytes) -> bytes | None:
        """The request body that makes the provider add an event of usage (`Mark.USAGE`) which `body` does not ask for.
        None where it does, where that is no streaming request, and where nothing needs to be asked."""
        return None


class Duties(Protocol):
    """What a serving process does when another one speaks to it. Called on the event loop; must not block or raise."""

    def followed(self, stream: StreamId, by: str) -> None:
        """A reader of `stream` is there in process `by`. Said again every third of its lease: idempotent."""
        ...

    def left(self, stream: StreamId, by: str) -> None:
        """No reader of `stream` is left in process `by`; or `by` died or fell silent, and has been missing for
        `lease_s` since that was first seen. Said once."""
        ...

    def look(self) -> None:
        """Somebody changed one of our streams in the store (asked to stop it, or took it): look there now."""
        ...


class Following(Protocol):
    """A stream that another process drains, as its readers here wait for it."""

    def arm(self) -> anyio.Event:
        """Set at the next change, and now and then without one. Call it BEFORE the look whose result you then wait
        on."""
        ...


class Peers(Protocol):
    """The processes that serve one store, as one of them sees the others.

    What is true of a stream is the store's alone: every message is a hint, a lost one costs latency, never bytes.
    Nothing here waits, or raises.
    """

    me: str
    """This process's incarnation: random, never reused."""

    def beat(self) -> None:
        """Show the others that the loop which drains runs. Due every `lease_s/3`, from that loop."""
        ...

    def observe(self) -> None:
        """Look at every other's counter once. Due every `lease_s/3` of one's own monotonic clock."""
        ...

    def lost(self, worker: str) -> bool:
        """Whether `worker`'s streams may be taken over NOW: it is dead, or unknown, or was silent for its lease and
        still is. Ask right before the takeover. Never true of `me`."""
        ...

    def alone(self) -> bool:
        """Whether no other living process serves the store."""
        ...

    def workers(self) -> Collection[str]:
        """Everybody else who left something here, dead or alive."""
        ...

    def bury(self, worker: str) -> None:
        """Drop what a dead worker left behind here; nothing if it lives. Idempotent."""
        ...

    def changed(self, stream: StreamId) -> None:
        """A stream that is drained here has changed: wake who follows it elsewhere. Cheap where nobody does."""
        ...

    def tell(self, worker: str) -> None:
        """Have `worker` look at its streams (`Duties.look`)."""
        ...

    def follow(self, stream: StreamId, worker: str) -> AbstractContextManager[Following]:
        """Be woken when `worker` changes `stream`, and count as a reader there meanwhile. Several at once on one
        stream are fine."""
        ...

    async def run(self, duties: Duties) -> None:
        """Receive and send, until cancelled."""
        ...
