"""How far a stream has come, as anybody may be told: by the catalog, and by what its owner has made visible since."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace

from ...errors import StoreError
from ...model import Query, StreamInfo
from .. import _rows, _rules
from . import extents
from .trails import Trails


class Unsettled(StoreError):
    """Somebody is taking the stream over, and has not found out yet how far it came."""


def live(conn: sqlite3.Connection, trails: Trails, row: int) -> tuple[int, int]:
    """Tail and events of an unsealed stream. Nothing below can be lost to a taker: the owner's mark is read first, then
    that the owner still was the owner. Raises Unsettled."""
    while True:
        held = extents.of(conn, row)
        extent = held[-1] if held else None
        if extent and extent.at is None:
            raise Unsettled("the stream is being taken over; ask again", retry_after_s=1)
        trail = None
        if extent and extent.worker == trails.me:
            trail = trails.own.get(extent.row)
        elif extent:
            mark = trails.mark(extent.worker)
            conn.execute("COMMIT")
            conn.execute("BEGIN")
            if extents.top(conn, row) != extent.row:
                continue
            trail = trails.visible(extent.worker, extent.row, mark)
        tail, events = conn.execute("SELECT tail, events FROM stream WHERE row = ?", (row,)).fetchone()
        if extent and trail and trail.tail >= tail:
            return trail.tail, extent.events + trail.events
        return tail, events


def overlay(conn: sqlite3.Connection, trails: Trails, row: int, info: StreamInfo) -> StreamInfo:
    """The record as of now. Raises Unsettled."""
    if info.sealed:
        return info
    tail, events = live(conn, trails, row)
    return replace(info, tail=tail, events=events)


def overlaid(conn: sqlite3.Connection, trails: Trails, infos: list[StreamInfo]) -> list[StreamInfo]:
    """Records as of now; of one that is being taken over, what the catalog knows."""
    found = list[StreamInfo]()
    for info in infos:
        now = info
        with contextlib.suppress(Unsettled):
            if not info.sealed:
                (row,) = conn.execute("SELECT row FROM stream WHERE id = ?", (info.id,)).fetchone()
                now = overlay(conn, trails, row, info)
        found.append(now)
    return found


def unsealed_after(conn: sqlite3.Connection, query: Query) -> list[StreamInfo]:
    """Those that a page of the query could have, newest first. Raises StreamNotFound."""
    unsealed = _rows.unsealed(conn)[::-1]
    if query.after is None:
        return unsealed
    last = conn.execute("SELECT row, principal FROM stream WHERE id = ?", (query.after,)).fetchone()
    _rules.page_start(query.after, last and last[1], query)
    older = {id_ for (id_,) in conn.execute("SELECT id FROM stream WHERE sealed_at IS NULL AND row < ?", last[:1])}
    return [info for info in unsealed if info.id in older]
