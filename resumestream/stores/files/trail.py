"""Where the records of one extent are, without a list of them all: they name their predecessors. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left

STEP_BYTES = 16 * 1024
"""Payload between two entries of the index: a thousandth of it is kept in memory, and a read walks back
over this much at most before it finds what it wants."""


class Trail:
    """Grows at its end only, so a thread may walk what another lengthens."""

    __slots__ = ("_ats", "_places", "at", "events", "last", "tail")

    def __init__(self, at: int) -> None:
        self.at = self.tail = at
        """Offsets of the stream: where the extent begins, and how far it has come."""
        self.events = 0
        self.last = 0
        """Place of the last record; 0 where there is none."""
        self._ats, self._places = array("Q"), array("Q")

    def add(self, place: int, length: int, events: int) -> None:
        """A record at the tail."""
        if not self._ats or self.tail - self._ats[-1] >= STEP_BYTES:
            self._places.append(place)
            self._ats.append(self.tail)
        self.last = place
        self.tail += length
        self.events += events

    def beyond(self, end: int) -> int:
        """Place of a record from which the one that holds the byte before `end` is reached by walking back."""
        found = bisect_left(self._ats, end)
        return self._places[found] if found < len(self._ats) else self.last
