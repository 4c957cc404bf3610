"""What a worker knows of a stream that it holds."""

from __future__ import annotations

from dataclasses import dataclass

from ...model import StreamId
from .trail import Trail


@dataclass(slots=True, eq=False)
class Held:
    """Belongs to the event loop; `trail` is read by threads too."""

    stream: StreamId
    row: int
    epoch: int
    extent: int
    trail: Trail
    """What is visible."""
    events: int
    """Of the stream, below the extent."""
    opened_at: float
    """Since when it is written to these segments, by the store clock."""
    segment: int
    """The first of them."""
    next: int
    """The tail once all that was asked for is visible."""
    place: int = 0
    """Of the last record, visible or not."""
    end: int = 0
    """Behind that record."""
    ending: bool = False
    """It is being sealed."""
    fenced: bool = False
    """Somebody else holds it."""
    moving: bool = False
    """Its owner is about to go on in other segments: what is asked for now has to wait."""

    @property
    def tail(self) -> int:
        return self.trail.tail

    @property
    def all_events(self) -> int:
        return self.events + self.trail.events
