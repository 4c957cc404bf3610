"""How far a stream has come, as anybody may be told: by the catalog, and by what its owner has made visible since."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import anyio

from ...errors import StoreBusy, StoreError
from ...model import Kept, Query, State, StreamInfo
from .. import _rows, _rules
from . import extents
from .disk import failure
from .segments import Missing
from .trails import Trails

T = TypeVar("T")

SETTLE_S = 1
"""How long a read waits for a takeover to be over: one takes milliseconds."""
SETTLE_EVERY_S = 0.005
LOOKS = 3
"""How often a read starts over because what it was about to open was moved."""


class Unsettled(StoreError):
    """Somebody is taking the stream over, and has not found out yet how far it came."""


async def settled(ask: Callable[[], Awaitable[T]], trails: Trails, location: str) -> T:
    """What `ask` returns that looks into files, once nothing that it looks at is on its way elsewhere. Raises
    StoreError."""
    until, looks = anyio.current_time() + SETTLE_S, 0
    while True:
        try:
            return await ask()
        except Unsettled as unsettled:
            if anyio.current_time() >= until:
                raise StoreBusy(unsettled.message, retry_after_s=1) from None
            await anyio.sleep(SETTLE_EVERY_S)
        except (FileNotFoundError, Missing) as missing:
            looks += 1
            if looks == LOOKS and isinstance(missing, Missing):
                raise
            if looks == LOOKS:
                raise StoreError(f"the store at {location} is damaged: {missing}") from missing
            trails.forget()
        except OSError as error:
            raise failure(error, location) from error


def live(conn: sqlite3.Connection, trails: Trails, row: int) -> tuple[int, int]:
    """Tail and events of an unsealed stream. Nothing below can be lost to a taker: the owner's mark is read first, then
    that the owner still was the owner. Raises Unsettled."""
    while True:
        held = extents.of(conn, row)
        newest = held[-1].row if held else 0
        while held and held[-1].at is None:
            if trails.alive(held[-1].worker):
                raise Unsettled("the stream is being taken over; ask again", retry_after_s=1)
            held.pop()  # it died before it had found out; whoever takes over next finds at least what it would have
        extent = held[-1] if held else None
        trail = None
        if extent and extent.worker == trails.me:
            trail = trails.own.get(extent.row)
        elif extent:
            mark = trails.mark(extent.worker)
            conn.execute("COMMIT")
            conn.execute("BEGIN")
            if extents.top(conn, row) != newest:
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


def found(conn: sqlite3.Connection, trails: Trails, query: Query) -> list[StreamInfo]:
    """See LogStore.find."""
    if query.state not in (State.PENDING, State.STREAMING):
        return overlaid(conn, trails, _rows.find(conn, query))
    # The catalog does not know yet which of these have payload; there are few
    newest = overlaid(conn, trails, _unsealed_after(conn, query))
    return [info for info in newest if _rules.matches(info, query)][: query.limit]


def kept(conn: sqlite3.Connection, trails: Trails, principal: str | None) -> Kept:
    """With what owners have made visible that the catalog does not know yet."""
    known = _rows.kept(conn, principal)
    theirs, values = ("", ()) if principal is None else (" AND +principal = ?", (principal,))
    sql = (
        "SELECT extent.row, extent.worker, tail FROM stream JOIN extent ON extent.row = "
        "(SELECT max(row) FROM extent AS newest WHERE newest.stream = stream.row) "
        f"WHERE sealed_at IS NULL AND at IS NOT NULL{theirs}"
    )
    more, marks = 0, dict[str, int | None]()
    for extent, worker, tail in conn.execute(sql, values).fetchall():
        if worker == trails.me:
            trail = trails.own.get(extent)
        else:
            if worker not in marks:
                marks[worker] = trails.mark(worker)
            trail = trails.visible(worker, extent, marks[worker])
        more += max(0, trail.tail - tail) if trail else 0
    return replace(known, payload_bytes=known.payload_bytes + more)


def _unsealed_after(conn: sqlite3.Connection, query: Query) -> list[StreamInfo]:
    """Those that a page of the query could have, newest first. Raises StreamNotFound."""
    unsealed = _rows.unsealed(conn)[::-1]
    if query.after is None:
        return unsealed
    last = conn.execute("SELECT row, principal FROM stream WHERE id = ?", (query.after,)).fetchone()
    _rules.page_start(query.after, last and last[1], query)
    older = {id_ for (id_,) in conn.execute("SELECT id FROM stream WHERE sealed_at IS NULL AND row < ?", last[:1])}
    return [info for info in unsealed if info.id in older]
