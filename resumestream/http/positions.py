"""From what a reader names to a byte of one stream."""

from __future__ import annotations

from ..errors import OffsetBeyondTail
from ..model import StreamInfo
from ..offsets import Edge, Position


def bounded(info: StreamInfo, start: Position | Edge) -> Position:
    """What a position means in this stream. Raises OffsetBeyondTail."""
    if not isinstance(start, Position):
        return Position(info.segment, 0 if start is Edge.START else info.latest.tail)
    if start.segment > info.segment:
        raise OffsetBeyondTail(f"Stream {info.id} has {info.segment} segments; there is no segment {start.segment}.")
    tail = info.seen(start.segment).tail
    if start.at > tail:
        raise OffsetBeyondTail(f"Offset {start.at} is beyond the tail of stream {info.id}, which is {tail}.")
    return start
