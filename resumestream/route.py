"""Which provider call follows one that failed: decided from a table, no I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from .ports import Source
from .retry_after import MAX_S, may_pass

BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
"""The first wait and the longest, as in the official SDKs; each is cut by up to a quarter, at random."""


class Failure(Enum):
    """How a call ended, as far as another one is concerned."""

    UNREACHABLE = "not made, or no connection: certainly not billed"
    BUSY = "answered 408, 429 or 5xx: not billed, and may pass"
    REFUSED = "answered anything else that is no success: the same for everybody"
    UNKNOWN = "sent, and no status came, or no byte after it: may have been billed"
    CUT = "ended in the middle of its answer: billed"
    NONE = "completed, or stopped, or failed on our side"


class Shown(Enum):
    """What readers have when a call is over."""

    NOTHING = "nothing yet, and no earlier call can have been billed"
    DOUBT = "nothing yet, and an earlier call may have been billed"
    THIS = "the answer of this call"
    EARLIER = "the answer of an earlier call, which broke off"


class Retry(Enum):
    """What may follow."""

    AGAIN = "the same upstream again, then the next"
    RESEND = "the same upstream again, if it takes the same key for the same call"
    SEGMENT = "the next upstream, as a new segment, if the operator wants that"
    NEVER = "nothing: this is the answer"


_A, _R, _S, _N = Retry.AGAIN, Retry.RESEND, Retry.SEGMENT, Retry.NEVER

DECISIONS: dict[Failure, dict[Shown, Retry]] = {
    failure: dict(zip(Shown, retries, strict=True))
    for failure, retries in {
        #                   NOTHING DOUBT THIS EARLIER
        Failure.UNREACHABLE: (_A, _R, _N, _S),
        Failure.BUSY: (_A, _R, _N, _S),
        Failure.REFUSED: (_N, _N, _N, _N),
        Failure.UNKNOWN: (_R, _R, _S, _S),
        Failure.CUT: (_N, _N, _S, _N),
        Failure.NONE: (_N, _N, _N, _N),
    }.items()
}
"""What may have been billed is never called a second time before the first byte, but by who takes it for the same."""


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
    usage_is_ours: bool = False
    """See Attempt."""


@dataclass(frozen=True, slots=True)
class Step:
    """A call to make, after a wait: to leg number `leg`, which was called again `tried` times before."""

    leg: int = 0
    tried: int = 0
    wait_s: float = 0.0


FIRST = Step()


class Route:
    """The calls one stream may make: `legs` in their order. With `segments`, a call that ended in the middle of its
    answer is followed by one to the next leg."""

    def __init__(self, legs: Sequence[Leg], *, segments: bool = False) -> None:
        self.legs, self.segments = tuple(legs), segments

    def after(self, step: Step, retry: Retry, *, retry_after_s: float | None, jitter: float) -> Step | None:
        """What follows that step. `jitter`: 0 to 1, at random, how much the wait is cut."""
        match retry:
            case Retry.AGAIN:
                return self._again(step, retry_after_s, jitter) or self._next(step)
            case Retry.RESEND:
                return self._again(step, retry_after_s, jitter) if self.legs[step.leg].resend else None
            case Retry.SEGMENT:
                return self._next(step) if self.segments else None
            case Retry.NEVER:
                return None

    def _again(self, step: Step, retry_after_s: float | None, jitter: float) -> Step | None:
        if step.tried == self.legs[step.leg].retries or (retry_after_s or 0) > MAX_S:  # the caller can wait
            return None
        backoff_s = min(BACKOFF_S * 2**step.tried, MAX_BACKOFF_S) * (1 - jitter / 4)
        return Step(step.leg, step.tried + 1, max(backoff_s, retry_after_s or 0.0))

    def _next(self, step: Step) -> Step | None:
        return Step(step.leg + 1) if step.leg + 1 < len(self.legs) else None


def only(source: Source, where: str) -> Route:
    """One call, to one place."""
    held = [source]

    async def ready(segment: int) -> Source:
        return held.pop()  # and with it goes the request: the answer may take an hour

    return Route([Leg(where, ready)])


def of_status(status: int) -> Failure:
    """What a status that is no success means."""
    return Failure.BUSY if may_pass(status) else Failure.REFUSED
