"""What was seen from outside while faults happened: by readers, by the provider, by who looked afterwards. Pure.

Times are seconds of one monotonic clock. A *turn* is one thing that a caller wanted answered: one key, one request
body, one script of the provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class End(Enum):
    """How a reader's answer ended."""

    CLEAN = "clean"
    """As framed."""
    CUT = "cut"
    """Otherwise than as framed; or, for EventSource, with nothing but the word to come back."""
    LEFT = "left"
    """The reader itself went away, or was made to."""
    TOLD = "told"
    """Clean, and the failure was said in it: an in-band error, or the end event of `live=events`."""
    OPEN = "open"
    """Not yet."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Payload bytes and where they lie, in bytes from the start of their segment."""

    at: int
    data: bytes

    @property
    def end(self) -> int:
        return self.at + len(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One answer to one reader. A refusal (status from 300 on) has no pieces."""

    reader: str
    turn: str
    stream: str
    """Empty where the answer named none."""
    status: int
    """0: the connection ended before a status line."""
    segment: int = 1
    asked: int | None = None
    """The byte that it asked to begin at; None: it named none."""
    at: int | None = None
    """The byte that the answer said it begins at; None: it did not say."""
    pieces: tuple[Piece, ...] = ()
    """In the order they came."""
    events: bool = False
    """It gets events only: between and after them, what is no event may be missing. Else not a byte may."""
    end: End
    outcome: str = ""
    """What the head of the answer said of it; empty where it did not."""
    told: str = ""
    """What the end event of `live=events` said of it."""
    live: bool = True
    """It promised to go on to the end of the stream. Else it is a page, that may end before."""
    began_s: float
    ended_s: float
    silence_s: float = 0
    """The longest that it got nothing at all, keep-alives included, while it waited."""
    undisturbed: bool = False
    """No fault was there while it read, and all was over: it must get to the end, and be told the outcome."""

    @property
    def reached(self) -> int:
        return self.pieces[-1].end if self.pieces else self.at or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What an SDK handed to its user: text, and whether it came to its end without an exception."""

    reader: str
    turn: str
    text: str
    finished: bool
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that reached the provider: its ledger's word, the meter of truth."""

    number: int
    turn: str
    sent: bytes
    """Payload bytes that left it."""
    status: int | None
    """None: no status line left it."""
    refused: bool = False
    """A definite early failure, not billed: a status from 300 on, or an error as the first event."""
    disconnected: bool = False
    """The client went away before the script was played out."""
    tokens_billed: int = 0
    began_s: float = 0
    ended_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a server said of a stream when everything was over. Ask every worker; ask after every restart."""

    stream: str
    turn: str
    asked: str
    """Which worker, and when: for people."""
    state: str
    outcome: str = ""
    detail: str = ""
    payload: Mapping[int, bytes] = field(default_factory=dict)
    """Segment to its bytes, read page by page from 0."""
    sealed_after_s: float | None = None
    """From the last fault that could end it to the seal. None: no fault was meant to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What was wanted, and what may come of it under the faults of the scenario."""

    name: str
    text: str = ""
    """The whole answer as an SDK's user reads it."""
    outcomes: frozenset[str]
    """One of these is right."""
    calls: int = 1
    """How many billed calls were consented to: 1, one more for each `Stream-Retry` or failover."""
    dispatched: bool = True
    """At least one call must have been made."""
    stoppable: bool = False
    """Somebody asked to stop it, or nobody listens and the policy stops it then; or its server died, or gave up a
    provider that stalls or says too much; or the network between the two was cut."""
    expires: bool = False
    """Its payload may be gone in the end, and nothing else of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A stranger's request about a stream, and the same about an id that never was."""

    route: str
    stream: str
    foreign: tuple[int, bytes]
    """Status and body, the id taken out of it."""
    unknown: tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Listing:
    """The list of streams that a stranger to this one was given."""

    stream: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long and how much is right, for this server as configured."""

    silence_s: float = 20
    """No live reader hears nothing at all for longer."""
    end_s: float = 40
    """When nothing is done any more, every answer has ended and every stream is sealed within this."""
    settle_s: float = 20
    """A stream whose server died is sealed within this."""
    growth_bytes: int = 64 * 2**20
    """How much more memory a server may hold than before the load."""


@dataclass(slots=True, kw_only=True)
class History:
    """Everything of one scenario. `canaries` may be in no text of `traces`."""

    turns: list[Turn] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    growth: dict[str, int] = field(default_factory=dict)
    """Process to the bytes that it grew by."""
    traces: dict[str, bytes] = field(default_factory=dict)
    """Where from (a log, a store's file, the head of an answer, a refusal) to all of it."""
    canaries: tuple[bytes, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
