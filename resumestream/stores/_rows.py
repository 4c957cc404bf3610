"""StreamInfo and Binding as SQLite rows: the one place that knows both."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from typing import Any

from ..model import Attempt, Binding, Gone, Head, NewStream, Outcome, Query, Seal, State, StreamId, StreamInfo
from . import _rules

_COLUMNS = (
    "id, principal, upstream, key, scope, worker, epoch, tail, events, "
    "cancel_requested, sealed_at, gone, gone_at, record"
)
_FIXED = ("id", "principal", "upstream", "key", "scope")
_STATES = {
    State.PENDING: "sealed_at IS NULL AND tail = 0",
    State.STREAMING: "sealed_at IS NULL AND tail > 0",
    State.SEALED: "sealed_at IS NOT NULL AND gone IS NULL",
    State.EXPIRED: "gone IS NOT NULL",
}


def _dump(info: StreamInfo) -> dict[str, Any]:
    new = info.new
    record = {
        "created_at": new.created_at,
        "retain_s": new.retain_s,
        "tombstone_s": new.tombstone_s,
        "fingerprint": new.fingerprint,
        "labels": new.labels,
        "on_disconnect": new.on_disconnect,
        "dialect": new.dialect,
        "previous": new.previous,
        "head": info.head and asdict(info.head),
        "attempts": [asdict(attempt) for attempt in info.attempts],
        "seal": info.seal and asdict(info.seal),
    }
    return {
        "id": new.id,
        "principal": new.principal,
        "upstream": new.upstream,
        "key": new.key,
        "scope": new.scope,
        "worker": new.worker,
        "epoch": info.epoch,
        "tail": info.tail,
        "events": info.events,
        "cancel_requested": info.cancel_requested,
        "sealed_at": info.seal and info.seal.sealed_at,
        "gone": info.gone,
        "gone_at": info.gone_at,
        "record": json.dumps(record, separators=(",", ":")),
    }


def _load(row: tuple[Any, ...]) -> StreamInfo:
    (id_, principal, upstream, key, scope, worker, epoch, tail, events, cancel, _, gone, gone_at, text) = row
    record = json.loads(text)
    head, attempts, seal = record.pop("head"), record.pop("attempts"), record.pop("seal")
    record["labels"] = tuple(record["labels"])
    return StreamInfo(
        new=NewStream(id=id_, principal=principal, upstream=upstream, worker=worker, key=key, scope=scope, **record),
        epoch=epoch,
        head=head and Head(head["status"], tuple((name, value) for name, value in head["headers"])),
        tail=tail,
        events=events,
        attempts=tuple(Attempt(**attempt) for attempt in attempts),
        seal=seal and Seal(**{**seal, "outcome": Outcome(seal["outcome"])}),
        cancel_requested=bool(cancel),
        gone=gone and Gone(gone),
        gone_at=gone_at,
    )


def insert(conn: sqlite3.Connection, info: StreamInfo) -> None:
    values = _dump(info)
    marks = ", ".join(f":{name}" for name in values)
    row = conn.execute(f"INSERT INTO stream ({', '.join(values)}) VALUES ({marks})", values).lastrowid
    conn.executemany("INSERT OR IGNORE INTO label VALUES (?, ?)", [(label, row) for label in info.new.labels])


def update(conn: sqlite3.Connection, row: int, info: StreamInfo) -> None:
    values = _dump(info)
    sets = ", ".join(f"{name} = :{name}" for name in values if name not in _FIXED)
    conn.execute(f"UPDATE stream SET {sets} WHERE row = :row", {**values, "row": row})


def delete(conn: sqlite3.Connection, row: int, info: StreamInfo) -> None:
    conn.execute("DELETE FROM stream WHERE row = ?", (row,))
    conn.executemany("DELETE FROM label WHERE label = ? AND stream = ?", [(label, row) for label in info.new.labels])


def get(conn: sqlite3.Connection, stream: StreamId) -> tuple[int, StreamInfo]:
    """The row number that slices name, and the record. Raises StreamNotFound."""
    found = conn.execute(f"SELECT row, {_COLUMNS} FROM stream WHERE id = ?", (stream,)).fetchone()
    if found is None:
        raise _rules.not_found(stream)
    return found[0], _load(found[1:])


def unsealed(conn: sqlite3.Connection) -> list[StreamInfo]:
    return [_load(row) for row in conn.execute(f"SELECT {_COLUMNS} FROM stream WHERE sealed_at IS NULL ORDER BY row")]


def cancel_requests(conn: sqlite3.Connection) -> list[StreamId]:
    asked = "SELECT id FROM stream WHERE cancel_requested AND sealed_at IS NULL ORDER BY row"
    return [StreamId(id_) for (id_,) in conn.execute(asked)]


def find(conn: sqlite3.Connection, query: Query) -> list[StreamInfo]:
    where, values = ["TRUE"], list[str | int]()

    def condition(sql: str, *parameters: str | int) -> None:
        where.append(sql)
        values.extend(parameters)

    if query.principal is not None:
        condition("principal = ?", query.principal)
    if query.state is not None:
        condition(_STATES[query.state])
    if query.upstream is not None:
        condition("upstream = ?", query.upstream)
    if query.keys:
        condition(f"key IN ({', '.join('?' * len(query.keys))})", *query.keys)
    if query.scope is not None:
        condition("scope = ?", query.scope)
    for label in query.labels:
        condition("row IN (SELECT stream FROM label WHERE label = ?)", label)
    if query.after is not None:
        last = conn.execute("SELECT row, principal FROM stream WHERE id = ?", (query.after,)).fetchone()
        _rules.page_start(query.after, last and last[1], query)
        condition("row < ?", last[0])
    sql = f"SELECT {_COLUMNS} FROM stream WHERE {' AND '.join(where)} ORDER BY row DESC LIMIT ?"
    return [_load(row) for row in conn.execute(sql, (*values, query.limit))]


def binding(conn: sqlite3.Connection, key: str) -> Binding | None:
    sql = "SELECT stream, generation, fingerprint, earlier FROM binding WHERE key = ?"
    if (found := conn.execute(sql, (key,)).fetchone()) is None:
        return None
    stream, generation, fingerprint, earlier = found
    return Binding(stream, generation, fingerprint, tuple(json.loads(earlier)))


def bind(conn: sqlite3.Connection, key: str, to: Binding) -> None:
    values = (key, to.stream, to.generation, to.fingerprint, json.dumps(to.earlier))
    conn.execute("INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?, ?)", values)


def unbind(conn: sqlite3.Connection, key: str, stream: StreamId) -> None:
    """Forget the key if it still means `stream`."""
    conn.execute("DELETE FROM binding WHERE key = ? AND stream = ?", (key, stream))


def secrets(conn: sqlite3.Connection) -> tuple[bytes, ...]:
    """Newest first."""
    return tuple(value for (value,) in conn.execute("SELECT value FROM secret ORDER BY id DESC"))
