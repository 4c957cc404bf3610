"""One SQLite file: what `resumestream` keeps its streams in unless told otherwise. The payload is rows of it, too."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from ..model import Lease, StreamId, state_of
from ..policy import Policy
from . import _rules
from ._catalog import CatalogStore
from ._slices import Slices
from ._writer import Batch


class SQLiteStore(CatalogStore):
    """See CatalogStore."""

    def __init__(self, path: Path, *, policy: Policy, serving: bool, clock: Callable[[], float] | None = None) -> None:
        path = path.resolve()
        self._slices = Slices()
        super().__init__(path, self._slices, location=path, policy=policy, serving=serving, clock=clock)

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        def op(batch: Batch) -> int:
            sql = "SELECT row, epoch, gone IS NOT NULL, sealed_at IS NOT NULL, tail FROM stream WHERE id = ?"
            found = batch.conn.execute(sql, (lease.stream,)).fetchone()
            if found is None:
                raise _rules.not_found(lease.stream)
            row, epoch, gone, sealed, tail = found
            state = state_of(gone=gone, sealed=sealed, tail=tail)
            _rules.appendable(lease, at, epoch=epoch, state=state, tail=tail)
            if data:
                batch.chunks.add(row, at, data)
            tail += len(data)
            batch.conn.execute("UPDATE stream SET tail = ?, events = events + ? WHERE row = ?", (tail, events, row))
            return int(tail)

        return await self._write(op)

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        def look(conn: sqlite3.Connection) -> bytes:
            sql = "SELECT row, tail, gone IS NOT NULL FROM stream WHERE id = ?"
            if (found := conn.execute(sql, (stream,)).fetchone()) is None:
                raise _rules.not_found(stream)
            row, tail, gone = found
            _rules.readable(stream, at, tail=tail, gone=gone)
            return self._slices.read(conn, row, at, min(at + max_bytes, tail))

        return await self._read(look)
