"""The store clock: what seals are stamped with and expiry is judged by."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def _elapsed() -> float:
    """Seconds that only ever go forward, and go on while the machine sleeps (where the platform can tell)."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":  # time.monotonic() stops in sleep there, CLOCK_MONOTONIC does not
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()


class StoreClock:
    """Wall time when it was made, from then on advanced by elapsed time alone: an operator or NTP that sets the wall
    clock back or forth makes no stream expire early and no seal older than its payload. Call it from any thread.

    `start` is another clock's: both tell the same time then, whatever the wall clock says by now."""

    def __init__(
        self,
        *,
        start: float | None = None,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = _elapsed,
    ) -> None:
        self._elapsed = elapsed
        self.start = wall() - elapsed() if start is None else start
        """When elapsed time was nothing, in seconds since the epoch. Means the same to every process of one boot."""

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.start + self._elapsed()
