"""Which provider call follows one that failed: decided from a table, no I/O."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from .ports import Answer, Source
from .retry_after import MAX_S, may_pass

BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
"""The first wait and the longest, as in the official SDKs; each is cut by up to a quarter, at random."""


class Failed(Enum):
    """How a call went wrong, as far as another one is concerned."""

    UNREACHABLE = "no connection: certainly not billed"
    BUSY = "answered 408, 429 or 5xx: not billed, and may pass"
    REFUSED = "answered anything else that is no success: the same for everybody"
    UNKNOWN = "sent, and no status came, or no byte after it: may have been billed"
    CUT = "ended in the middle of its answer: billed"
    OURS = "stopped, or failed on our side"


class Then(Enum):
    """What may follow."""

    AGAIN = "the same upstream again, then the next"
    RESEND = "the same upstream again, if it takes the same key for the same call"
    SEGMENT = "the next upstream, as a new segment, if the operator wants that"
    NOTHING = "nothing: this is the answer"


FOLLOWS: dict[Failed, Then] = {
    Failed.UNREACHABLE: Then.AGAIN,
    Failed.BUSY: Then.AGAIN,
    Failed.REFUSED: Then.NOTHING,
    Failed.UNKNOWN: Then.RESEND,
    Failed.CUT: Then.SEGMENT,
    Failed.OURS: Then.NOTHING,
}
"""Before the first byte. After it, whatever else than `OURS` happens, only a new segment may follow."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One upstream that may be called."""

    where: str
    """How messages name it."""
    source: Callable[[int], Awaitable[Source]]
    """The call, made ready, for a segment of that number. May raise ConfigError."""
    retries: int = 0
    resend: bool = False
    """It takes the same key for the same call, so even one that may have been billed can be made again."""


@dataclass(frozen=True, slots=True)
class Step:
    """A call to make, after a wait."""

    leg: Leg
    wait_s: float = 0.0


class Route:
    """The calls one stream may make: `legs` in their order. With `segments`, a call that ended in the middle of its
    answer is followed by one to the next leg."""

    def __init__(self, legs: Sequence[Leg], *, segments: bool = False) -> None:
        self._legs, self.segments = list(legs), segments
        self._tried = 0
        """How often the present leg was called again."""

    @property
    def first(self) -> Step:
        return Step(self._legs[0])

    def after(self, failed: Failed, *, answered: bool, retry_after_s: float | None = None) -> Step | None:
        """What follows. `answered`: readers have this or an earlier call's head already, so that whatever follows is a
        new segment."""
        then = FOLLOWS[failed]
        if answered and then is not Then.NOTHING:
            then = Then.SEGMENT
        match then:
            case Then.AGAIN:
                return self._again(retry_after_s) or self._next()
            case Then.RESEND:
                return self._again(retry_after_s) if self._legs[0].resend else None
            case Then.SEGMENT:
                return self._next() if self.segments else None
            case Then.NOTHING:
                return None

    def _again(self, retry_after_s: float | None) -> Step | None:
        leg = self._legs[0]
        if self._tried == leg.retries or (retry_after_s or 0) > MAX_S:  # the caller can wait
            return None
        backoff_s = min(BACKOFF_S * 2**self._tried, MAX_BACKOFF_S) * (1 - random.random() / 4)
        self._tried += 1
        return Step(leg, max(backoff_s, retry_after_s or 0.0))

    def _next(self) -> Step | None:
        self._tried = 0
        del self._legs[0]
        return Step(self._legs[0]) if self._legs else None


class Opened:
    """Implements ports.Source: an answer that is here already."""

    def __init__(self, answer: Answer, upstream: str) -> None:
        self._answer, self.upstream = answer, upstream

    async def open(self) -> Answer:
        return self._answer


def only(source: Source, where: str) -> Route:
    """One call, to one place."""
    held = [source]

    async def ready(segment: int) -> Source:
        return held.pop()  # and with it goes the request: the answer may take an hour

    return Route([Leg(where, ready)])


def of_status(status: int) -> Failed:
    """What a status that is no success means."""
    return Failed.BUSY if may_pass(status) else Failed.REFUSED
