"""A stream goes from one worker's segments to another's: what is written to the catalog, and what is looked for.

In three steps, in this order: the new owner's extent is in the catalog and the old owner is told; what the old one
wrote is looked for; how far it came is put into the catalog. Whoever does a step late finds that it is not the newest
owner any more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from ...errors import LeaseLost
from ...model import StreamId
from . import extents
from .disk import parts
from .extents import Extent
from .held import Held
from .payload import FilePayload
from .segments import Segments


def fence(files: FilePayload, lower: list[Extent]) -> None:
    """Tell those who may still write that there is a new owner."""
    for worker in {extent.worker for extent in lower}:
        if worker != files.trails.me:
            files.trails.fence(worker)


class Reach(NamedTuple):
    at: int
    events: int
    segment: int
    """The last one of the owner before that has a part of it."""


def reached(files: FilePayload, lower: list[Extent]) -> Reach:
    """How far the owners before came; that much is at disk level then. Raises OSError."""
    published = [extent for extent in lower if extent.at is not None]
    if not published:
        return Reach(0, 0, 0)
    last = published[-1]
    trail = files.trails.whole(last.worker, last.row)
    if trail is None or not trail.last:
        return Reach(last.at or 0, last.events, last.first)
    segment, _ = parts(trail.last)
    _sync(files.segments, last.worker, last.first, segment)
    return Reach(trail.tail, last.events + trail.events, segment)


def publish(conn: sqlite3.Connection, stream: StreamId, row: int, extent: int, reach: Reach) -> None:
    """Raises LeaseLost where there is a newer owner."""
    held_by(conn, stream, row, extent)
    extents.publish(conn, row, extent, *reach)


def held_by(conn: sqlite3.Connection, stream: StreamId, row: int, extent: int) -> None:
    """Raises LeaseLost where `extent` is not the present owner's."""
    if extents.top(conn, row) != extent:
        raise LeaseLost(f"stream {stream} was taken over", stream=stream)


def leave(conn: sqlite3.Connection, held: Iterable[Held]) -> None:
    """Put how far streams came into the catalog: their owner ends, and its page goes with it."""
    for one in held:
        if extents.top(conn, one.row) == one.extent:
            values = (one.tail, one.all_events, one.row)
            conn.execute("UPDATE stream SET tail = ?, events = ? WHERE row = ? AND sealed_at IS NULL", values)
            extents.close(conn, one.extent, parts(one.place)[0])


def _sync(segments: Segments, worker: str, first: int, last: int) -> None:
    for number in segments.numbers(worker):
        if first <= number <= last:
            segments.sync(worker, number)
    segments.disk.sync_directory(segments.folder(worker))
