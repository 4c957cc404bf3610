"""A record of a segment: a header with its own check, then payload of one stream. Pure."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

MAGIC = b"rsr\x01"
"""The last byte is the version of the layout."""
_BODY = struct.Struct("<QQIIIQ?")
_FRAME = struct.Struct("<4sI")
HEADER_BYTES = _FRAME.size + _BODY.size


class Record(NamedTuple):
    """The header of one; its payload follows it."""

    extent: int
    """Whose it is: an extent is one worker's uninterrupted hold on one stream."""
    at: int
    """Its offset in the stream."""
    length: int
    events: int
    sum: int
    """CRC-32 of its payload."""
    previous: int
    """Place of the extent's record before it; 0 at the first."""
    more: bool
    """The append it is a part of goes on in the extent's next record, and counts for nothing without that."""


def header(extent: int, at: int, data: bytes | memoryview, events: int, previous: int, more: bool) -> bytes:
    body = _BODY.pack(extent, at, len(data), events, zlib.crc32(data), previous, more)
    return _FRAME.pack(MAGIC, zlib.crc32(body)) + body


def parse(buffer: bytes | memoryview, position: int = 0) -> Record | None:
    """The header at `position` of `buffer`; None where there is none that is whole."""
    if len(buffer) - position < HEADER_BYTES:
        return None
    magic, sum_ = _FRAME.unpack_from(buffer, position)
    start = position + _FRAME.size
    if magic != MAGIC or zlib.crc32(buffer[start : start + _BODY.size]) != sum_:
        return None
    return Record(*_BODY.unpack_from(buffer, start))
