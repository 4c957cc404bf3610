"""The nouns. Frozen, clockless, standard library only; units stand in the names (`_s` seconds, `_bytes` bytes).

Times (`*_at`) are seconds of the store clock. Offsets are logical: payload bytes before a position, whatever the
store's framing. State is derived, never stored, so no store can disagree with the lifecycle table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, NewType

from .errors import ConfigError
from .usage import Usage

StreamId = NewType("StreamId", str)
"""At least 128 random bits, URL-safe, never reused."""

Durability = Literal["none", "process", "disk"]
"""What an acknowledged byte survives: nothing, a process kill, a power cut."""

Headers = tuple[tuple[str, str], ...]
"""In the order received, names in lower case, values as latin-1 text."""


class State(StrEnum):
    """Where a stream is in its life."""

    PENDING = "pending"
    STREAMING = "streaming"
    SEALED = "sealed"
    EXPIRED = "expired"


class Outcome(StrEnum):
    """How a stream ended: exactly one."""

    COMPLETED = "completed"
    PROVIDER_ERROR = "provider_error"
    TRUNCATED = "truncated"
    STALLED = "stalled"
    CANCELLED = "cancelled"
    OVERFLOW = "overflow"
    INTERRUPTED = "interrupted"


class Gone(StrEnum):
    """Why a payload is no longer kept."""

    EXPIRED = "expired"
    EVICTED = "evicted"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Head:
    """What the upstream answered before its body."""

    status: int
    headers: Headers = ()

    @property
    def content_type(self) -> str:
        return self.get("content-type") or ""

    @property
    def media_type(self) -> str:
        """Of a body that can be read; empty for one that came compressed: it is kept as it is, and is only bytes."""
        if self.get("content-encoding") not in (None, "identity"):
            return ""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def is_sse(self) -> bool:
        """Whether the payload can be read as events."""
        return self.media_type == "text/event-stream"

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Seal:
    """How a stream ended. The first durable seal wins for ever."""

    outcome: Outcome
    detail: str
    """Machine-readable code that refines the outcome."""
    message: str
    """One English sentence; never a credential or a request body. Empty once the payload is gone."""
    released: bool = False
    """The key may start a new call: the provider definitely did not bill this one."""
    retry_at: float | None = None
    """Store clock; until then a released key gets the recorded answer, as the provider's `Retry-After` asked."""
    sealed_at: float = 0.0
    usage: Usage | None = None
    model: str = ""
    """What the last provider call reported; the record keeps both with that call."""
    foreign: bool = False
    """The answer was in another grammar than its path let expect: nothing can be added to it."""


ResumeKind = Literal["responses", "resumestream"]
"""How an upstream can be read on from: OpenAI Responses in background mode, or another resumestream."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A call that goes on at the provider whoever is connected. Holds no credential, and no query."""

    kind: ResumeKind
    path: str
    offset: str = ""
    """Of the call's first byte, at another resumestream."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider call, with or without bytes."""

    upstream: str
    started_at: float
    status: int | None = None
    request_id: str | None = None
    ended_at: float | None = None
    bytes: int = 0
    """Payload that came of it; as `outcome` and `ended_at`, known once it has ended."""
    outcome: Outcome | None = None
    usage: Usage | None = None
    model: str = ""
    """As the provider names it; empty where it does not say."""
    remote: Remote | None = None
    usage_is_ours: bool = False
    """The provider was asked by us to tell the usage: that event is left out of the log."""
    released: bool = False
    """The provider definitely did not bill it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The bytes of one provider call, after which another went on. `end` and `events` count from the log's begin."""

    end: int
    events: int
    head: Head
    seal: Seal
    """How it ended, as a stream would have. `sealed_at` is when."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How often a stream was asked for again, each time without a provider call."""

    attaches: int = 0
    """While it was live."""
    replays: int = 0
    """Since its seal."""

    def __add__(self, more: Tally) -> Tally:
        return Tally(self.attaches + more.attaches, self.replays + more.replays)


@dataclass(frozen=True, slots=True)
class Entry:
    """One provider call in the ledger, which outlives the stream's payload and its tombstone."""

    stream: StreamId
    number: int
    """Counts the stream's calls from 1."""
    principal: str
    labels: tuple[str, ...]
    attempt: Attempt
    tally: Tally = Tally()
    """So far, and of the whole stream: its last call tells it, and no other."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store keeps, of one principal or of all."""

    live: int
    """Streams without a seal."""
    payload_bytes: int
    """Of live and of sealed streams, uncompressed."""


@dataclass(frozen=True, slots=True)
class NewStream:
    """What is known of a stream before its provider call."""

    id: StreamId
    principal: str
    upstream: str
    worker: str
    """The incarnation of the process that will drain it."""
    created_at: float
    retain_s: float
    tombstone_s: float
    key: str | None = None
    """Keyed hash of the caller's key (or scope and request), or None: nobody can attach by key."""
    fingerprint: str = ""
    scope: str = ""
    """Keyed hash of the caller's scope."""
    labels: tuple[str, ...] = ()
    own_labels: int = 0
    """How many of `labels`, the first ones, its principal has; the others the caller chose."""
    on_disconnect: str = "continue"
    dialect: str = "unknown"
    dialect_guessed: bool = False
    """By the path: the answer itself may prove it wrong."""
    previous: StreamId | None = None


def state_of(*, gone: bool, sealed: bool, tail: int) -> State:
    if gone:
        return State.EXPIRED
    if sealed:
        return State.SEALED
    return State.STREAMING if tail else State.PENDING


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream's whole record. `attempts` has one entry a provider call, in order; only the last may be open."""

    new: NewStream
    epoch: int = 1
    head: Head | None = None
    tail: int = 0
    events: int = 0
    """Whole events (blocks with at least one `data` line) below the tail; 0 where the payload has none."""
    attempts: tuple[Attempt, ...] = ()
    ended: tuple[Segment, ...] = ()
    """Segments before the latest, which `head` and `seal` are of. All lie one behind the other in one log."""
    seal: Seal | None = None
    cancel_requested: bool = False
    gone: Gone | None = None
    gone_at: float | None = None

    @property
    def id(self) -> StreamId:
        return self.new.id

    @property
    def sealed(self) -> bool:
        return self.seal is not None

    @property
    def completed(self) -> bool:
        return self.seal is not None and self.seal.outcome is Outcome.COMPLETED

    def begun(
        self, attempt: Attempt, head: Head | None, after: Sequence[Attempt], ended: Sequence[Segment]
    ) -> StreamInfo:
        """With that provider call as its latest; see LogStore.begin."""
        return replace(self, attempts=(*after, attempt), ended=tuple(ended), head=head or self.head)

    @property
    def segment(self) -> int:
        """The number of the latest; the first is 1."""
        return len(self.ended) + 1

    @property
    def base(self) -> int:
        """Where in the log the latest segment begins."""
        return self.ended[-1].end if self.ended else 0

    @property
    def latest(self) -> StreamInfo:
        return self.seen(self.segment)

    def seen(self, segment: int) -> StreamInfo:
        """The stream as a reader of that segment sees it: `tail` and `events` are the segment's, and one that ended
        looks sealed. Raises IndexError where there is none."""
        if not 1 <= segment <= self.segment:
            raise IndexError(segment)
        ended = self.ended[: segment - 1]
        base, events = (ended[-1].end, ended[-1].events) if ended else (0, 0)
        if segment == self.segment:
            return replace(self, tail=self.tail - base, events=self.events - events) if ended else self
        of = self.ended[segment - 1]
        return replace(self, ended=ended, tail=of.end - base, events=of.events - events, head=of.head, seal=of.seal)

    @property
    def state(self) -> State:
        return state_of(gone=self.gone is not None, sealed=self.sealed, tail=self.tail)

    @property
    def expires_at(self) -> float:
        """When the payload may go; infinity while live: a live stream never expires."""
        return self.seal.sealed_at + self.new.retain_s if self.seal else math.inf

    def as_of(self, now: float) -> StreamInfo:
        """The record as it looks at `now`: expired also where nobody has dropped the payload yet."""
        return self if self.gone or now < self.expires_at else self.tombstone(Gone.EXPIRED, now)

    def tombstone(self, why: Gone, now: float) -> StreamInfo:
        """The record without its payload and the seal's message, which may quote it. What expired is gone since then,
        whenever that was noticed."""
        gone_at = min(now, self.expires_at) if why is Gone.EXPIRED else now
        ended = tuple(replace(segment, seal=replace(segment.seal, message="")) for segment in self.ended)
        return replace(self, ended=ended, seal=self.seal and replace(self.seal, message=""), gone=why, gone_at=gone_at)

    @property
    def due_at(self) -> float:
        """When retention next does something to it: drops the payload, then the tombstone. Infinity while live."""
        return self.forgets_at if self.gone else self.expires_at

    @property
    def forgets_at(self) -> float:
        """When the tombstone (and the key with it) may go; infinity while the payload is there."""
        return self.gone_at + self.new.tombstone_s if self.gone_at is not None else math.inf


def closed(attempts: tuple[Attempt, ...], seal: Seal, tail: int) -> tuple[Attempt, ...]:
    """With the last one, where it is still open, ended by that seal, at that tail of the log."""
    if not attempts or attempts[-1].ended_at is not None:
        return attempts
    *before, last = attempts
    ended = replace(
        last,
        ended_at=seal.sealed_at,
        bytes=tail - sum(attempt.bytes for attempt in before),
        outcome=seal.outcome,
        usage=seal.usage,
        model=seal.model,
        released=seal.released,
    )
    return (*before, ended)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to append and seal, until somebody holds a higher epoch."""

    stream: StreamId
    worker: str
    epoch: int


EARLIER_KEPT = 100
"""Streams that a binding remembers: more than any client retries, and few enough that a loop of retries which never
ends makes no re-bind dearer than the last."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Which stream a key means; that stream's id, never reused, is what compare-and-set compares."""

    stream: StreamId
    fingerprint: str
    earlier: tuple[StreamId, ...] = ()
    """The last `EARLIER_KEPT` streams the key meant before, oldest first."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which streams to list: all conditions hold, `labels` each. Newest first; `after` continues a page."""

    principal: str | None = None
    """None lists every principal's: operators only."""
    state: State | None = None
    upstream: str | None = None
    keys: tuple[str, ...] = ()
    scope: str | None = None
    labels: tuple[str, ...] = ()
    after: StreamId | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Payload from `at` to `next`. `info` is set on the last page only: the stream is sealed and `next` its end."""

    at: int
    data: bytes
    info: StreamInfo | None = None

    @property
    def next(self) -> int:
        return self.at + len(self.data)


LIMITS = ("max_live_streams", "max_total_bytes")
"""What of a server's Policy can also be set for one principal."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a stream belongs to. `admin` sees and stops everybody's."""

    id: str
    labels: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    """This principal's own caps beside the server's: `max_live_streams` (429), `max_total_bytes` of kept payload (the
    principal's oldest sealed payloads are evicted first, then 507)."""
    admin: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.id, str) and self.id):
            raise ConfigError(f"a Principal's id is {self.id!r}; it must be text, and not empty: all would share it")
        for name, most in self.limits.items():
            if name not in LIMITS:
                raise ConfigError(f"Principal.limits has {name!r}; it knows {' and '.join(LIMITS)}")
            if isinstance(most, bool) or not isinstance(most, int) or most <= 0:
                raise ConfigError(f"Principal.limits[{name!r}] is {most!r}; it must be an int greater than 0")


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event of your own source. `data` that is not text becomes JSON."""

    data: Any
    event: str | None = None
