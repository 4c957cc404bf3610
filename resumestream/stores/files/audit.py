"""What is wrong between the catalog and the files that it names: one sentence each. Changes nothing.

A file that nothing names is no damage: the janitor drops it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from .packs import Packs
from .segments import Segments


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


def segments(conn: sqlite3.Connection, segments: Segments) -> Iterator[str]:
    sql = (
        "SELECT extent.worker, last, extent.stream FROM extent JOIN stream ON stream.row = extent.stream "
        "WHERE NOT copied AND gone IS NULL AND at IS NOT NULL AND last IS NOT NULL AND at < ifnull("
        "(SELECT min(next.at) FROM extent AS next WHERE next.stream = extent.stream AND next.row > extent.row), tail)"
    )
    for worker, last, stream in conn.execute(sql):
        if not segments.path(worker, last).exists():
            yield f"the segment {worker}/{segments.path(worker, last).name} is missing: stream row {stream} is in it"
