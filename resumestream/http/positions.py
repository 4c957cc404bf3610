"""From what a reader names to a byte of one stream."""

from __future__ import annotations

from ..errors import OffsetBeyondTail
from ..model import StreamInfo
from ..offsets import Edge, Position


def bounded(info: StreamInfo, start: Position | Edge) -> int:
    """The byte a position means in this stream. Raises OffsetBeyondTail."""
    if start is Edge.START:
        return 0
    if start is Edge.NOW:
        return info.tail
    assert isinstance(start, Position)
    if start.segment != 1:
        raise OffsetBeyondTail(f"Stream {info.id} has one segment; there is no segment {start.segment}.")
    if start.at > info.tail:
        raise OffsetBeyondTail(f"Offset {start.at} is beyond the tail of stream {info.id}, which is {info.tail}.")
    return start.at
