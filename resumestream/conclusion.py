"""What a stream's provider calls have come to: decided from what is known of each, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .endings import SEGMENT_ENDED, Ending
from .model import Attempt, Head, Seal, Segment, StreamInfo, closed
from .route import Failure, Shown


@dataclass(frozen=True, slots=True)
class Over:
    """A call that is over."""

    failure: Failure
    ending: Ending
    seal: Seal
    """Of that ending, with what the provider told of its tokens."""
    attempt: Attempt | None
    """None: it was never made."""
    shown: bool
    """Readers got its answer."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """After some calls, or none."""

    attempts: tuple[Attempt, ...] = ()
    """Those that were made, each ended but for one that is gone on with."""
    ending: Ending | None = None
    """The stream's, where no call follows."""
    dead: Segment | None = None
    """What the answer of a further call would go on after, as a new segment."""
    foreign: bool = False
    """The answer that readers have is in another grammar than was guessed."""

    def shown(self, head: Head | None, *, this: bool) -> Shown:
        """What readers have, given the record's head and whether they got `this` present call's."""
        if this:
            return Shown.THIS
        if head is not None:
            return Shown.EARLIER
        return Shown.NOTHING if all(attempt.released for attempt in self.attempts) else Shown.DOUBT

    def then(self, over: Over, info: StreamInfo, *, followed: bool, now: float) -> Conclusion:
        """With a further call. `info` is the record, up to the last byte that came of it; `followed`: another call is
        made; `now` is store clock.

        Where readers have the answer of an earlier call, the stream ends as that one did, unless it was stopped or we
        failed.
        """
        shown, seal = self.shown(info.head, this=over.shown), replace(over.seal, sealed_at=now)
        attempts, dead = self.attempts, self.dead
        if over.attempt:
            before = (attempt for attempt in attempts if attempt.ended_at is not None)
            attempts = closed((*before, over.attempt), seal, info.tail)
        if shown is Shown.THIS and followed and info.head:
            detail = seal.detail if over.ending.told else SEGMENT_ENDED
            dead = Segment(info.tail, info.events, info.head, replace(seal, detail=detail, usage=None, model=""))
        stands = shown is Shown.EARLIER and over.failure is not Failure.NONE
        foreign = seal.foreign if over.shown else self.foreign
        return Conclusion(attempts, self.ending if stands else over.ending, dead, foreign)
