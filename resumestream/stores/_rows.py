"""StreamInfo and Binding as SQLite rows: the one place that knows both."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from typing import Any

from ..model import Attempt, Binding, Gone, Head, NewStream, Outcome, Query, Seal, State, StreamId, StreamInfo
from . import _rules

_OF_NEW = ("id", "principal", "upstream", "key", "scope", "worker")
_OF_INFO = ("epoch", "tail", "events", "cancel_requested", "gone", "gone_at")
_NAMES = (*_OF_NEW, *_OF_INFO, "sealed_at", "record")
_COLUMNS = ", ".join(_NAMES)
_FIXED = ("id", "principal", "upstream", "key", "scope")
"""Columns that never change: to set them again would rewrite their indexes."""
_STATES = {
    State.PENDING: "sealed_at IS NULL AND tail = 0",
    State.STREAMING: "sealed_at IS NULL AND tail > 0",
    State.SEALED: "sealed_at IS NOT NULL AND gone IS NULL",
    State.EXPIRED: "gone IS NOT NULL",
}


def _dump(info: StreamInfo) -> dict[str, Any]:
    """What is searched for as columns, the rest as JSON: a field that the model gains is kept without a change here."""
    rest = asdict(info)
    new = rest["new"]
    columns = {name: new.pop(name) for name in _OF_NEW} | {name: rest.pop(name) for name in _OF_INFO}
    sealed_at = info.seal.sealed_at if info.seal else None
    return {**columns, "sealed_at": sealed_at, "record": json.dumps(rest, separators=(",", ":"))}


def _load(row: tuple[Any, ...]) -> StreamInfo:
    columns = dict(zip(_NAMES, row, strict=True))
    record = json.loads(columns["record"])
    new, head, seal = record["new"], record["head"], record["seal"]
    new |= {name: columns[name] for name in _OF_NEW} | {"labels": tuple(new["labels"])}
    return StreamInfo(
        new=NewStream(**new),
        epoch=columns["epoch"],
        head=head and Head(head["status"], tuple((name, value) for name, value in head["headers"])),
        tail=columns["tail"],
        events=columns["events"],
        attempts=tuple(Attempt(**attempt) for attempt in record["attempts"]),
        seal=seal and Seal(**(seal | {"outcome": Outcome(seal["outcome"])})),
        cancel_requested=bool(columns["cancel_requested"]),
        gone=columns["gone"] and Gone(columns["gone"]),
        gone_at=columns["gone_at"],
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
        # The plus keeps SQLite from walking all streams of a principal where a key or a scope names a few
        condition("+principal = ?" if query.keys or query.scope else "principal = ?", query.principal)
    if query.state is not None:
        condition(_STATES[query.state])
    if query.upstream is not None:
        condition("upstream = ?", query.upstream)
    if query.keys:
        condition(f"key IN ({', '.join('?' * len(query.keys))})", *query.keys)
    if query.scope is not None:
        condition("scope = ? AND scope <> ''" if query.scope else "scope = ?", query.scope)
    for label in query.labels:
        condition("row IN (SELECT stream FROM label WHERE label = ?)", label)
    if query.after is not None:
        last = conn.execute("SELECT row, principal FROM stream WHERE id = ?", (query.after,)).fetchone()
        _rules.page_start(query.after, last and last[1], query)
        condition("row < ?", last[0])
    sql = f"SELECT {_COLUMNS} FROM stream WHERE {' AND '.join(where)} ORDER BY row DESC LIMIT ?"
    return [_load(row) for row in conn.execute(sql, (*values, query.limit))]


def binding(conn: sqlite3.Connection, key: str) -> Binding | None:
    sql = "SELECT stream, fingerprint, earlier FROM binding WHERE key = ?"
    if (found := conn.execute(sql, (key,)).fetchone()) is None:
        return None
    stream, fingerprint, earlier = found
    return Binding(stream, fingerprint, tuple(json.loads(earlier)))


def bind(conn: sqlite3.Connection, key: str, to: Binding) -> None:
    values = (key, to.stream, to.fingerprint, json.dumps(to.earlier))
    conn.execute("INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?)", values)


def unbind(conn: sqlite3.Connection, key: str, stream: StreamId) -> None:
    """Forget the key if it still means `stream`."""
    conn.execute("DELETE FROM binding WHERE key = ? AND stream = ?", (key, stream))


def secrets(conn: sqlite3.Connection) -> tuple[bytes, ...]:
    """Newest first."""
    return tuple(value for (value,) in conn.execute("SELECT value FROM secret ORDER BY id DESC"))


def touch(conn: sqlite3.Connection) -> None:
    """Write something that nobody would miss."""
    conn.execute("INSERT OR REPLACE INTO probe VALUES (1)")
