"""Payload out of segments: back along a trail, every byte checked."""

from __future__ import annotations

import zlib

from .._frame import damaged
from .records import Record
from .segments import Reading, missing
from .trail import Trail


def payload(files: Reading, extent: int, trail: Trail, at: int, end: int) -> bytes:
    """From `at` to `end`, which the trail has. Raises StoreError where that is not as it was written, OSError."""
    pieces: list[bytes] = []
    place, begins = trail.beyond(end), None
    while place:
        found = files.record(place)
        if found is None or not _follows(found[0], extent, begins):
            break
        record, data = found
        begins, place = record.at, record.previous
        if record.at >= end or not record.length:
            continue
        if len(data) != record.length or zlib.crc32(data) != record.sum:
            raise damaged(record.at, record.at + record.length, "they are not as they were written")
        pieces.append(data[max(0, at - record.at) : end - record.at])
        if record.at <= at:
            break
    pieces.reverse()
    whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(whole) != end - at:
        raise missing(at, end)
    return whole


def _follows(record: Record, extent: int, begins: int | None) -> bool:
    return record.extent == extent and (begins is None or record.at + record.length == begins)
