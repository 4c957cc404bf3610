"""When a process that still holds its lock counts as frozen, so that its streams may be taken over."""

from __future__ import annotations

import math

OBSERVATIONS = 4
"""Equal ones in a row: three steps of a third of the lease each."""
SPAN = 0.95
"""Part of the lease that these must span, in case they come faster; a timer may ring a little early, and an owner that
was frozen for no more than half a lease shows itself after 5/6 of it at the latest."""


class LeaseWatch:
    """One taker's watch on one owner, whose counter moves every third of its lease. Has no clock: times are the
    taker's own monotonic seconds, so a wall clock that jumps takes nothing over."""

    def __init__(self) -> None:
        self._counter: int | None = None
        self._equal = 0
        self._since = self._last = -math.inf
        self._silent = False

    def observe(self, counter: int, now: float, lease_s: float) -> None:
        """What the owner's counter shows at `now`; due every third of `lease_s`."""
        # A taker that was itself paused may have been so together with the owner, and starts over.
        if counter != self._counter or now - self._last > lease_s / 2:
            self._counter, self._equal, self._since = counter, 0, now
        self._equal += 1
        self._last = now
        self._silent = self._equal >= OBSERVATIONS and now - self._since >= SPAN * lease_s

    def expired(self, counter: int) -> bool:
        """Whether the lease has run out; `counter` is read right before the takeover, as the owner may have thawed."""
        return self._silent and counter == self._counter
