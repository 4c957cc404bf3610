"""What is wrong between the catalog and the files that it names: one sentence each. Changes nothing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

from .packs import Packs
from .segments import Segments
from .trails import Trails

FRESH_S = 60
"""A file may be this old before the catalog has to name it."""


def packs(conn: sqlite3.Connection, packs: Packs) -> Iterator[str]:
    sql = (
        "SELECT name, ifnull(max(position + size), 0) FROM pack LEFT JOIN frame ON frame.pack = pack.row GROUP BY name"
    )
    named = dict(conn.execute(sql).fetchall())
    there = set(packs.names())
    for name, end in named.items():
        if end and name not in there:
            yield f"the pack {name} is missing"
        elif end > packs.size(name):
            yield f"the pack {name} ends after {packs.size(name)} bytes, and {end} are in use"
    for name in there.difference(named):
        if _old(packs.made_at(name)):
            yield f"nothing names the pack {name}; it may be removed"


def segments(conn: sqlite3.Connection, segments: Segments, trails: Trails) -> Iterator[str]:
    sql = (
        "SELECT extent.worker, last, extent.stream FROM extent JOIN stream ON stream.row = extent.stream "
        "WHERE NOT copied AND gone IS NULL AND at IS NOT NULL AND last IS NOT NULL AND at < ifnull("
        "(SELECT min(next.at) FROM extent AS next WHERE next.stream = extent.stream AND next.row > extent.row), tail)"
    )
    for worker, last, stream in conn.execute(sql):
        if not segments.path(worker, last).exists():
            yield f"the segment {worker}/{segments.path(worker, last).name} is missing: stream row {stream} is in it"
    named = {worker for (worker,) in conn.execute("SELECT DISTINCT worker FROM extent")}
    for worker in segments.workers():
        if worker not in named and segments.numbers(worker) and not trails.alive(worker):
            yield f"nothing names the segments in {worker}; a server removes them at its next idle moment"


def _old(made_at: float) -> bool:
    return time.time() - made_at > FRESH_S
