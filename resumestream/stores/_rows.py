"""StreamInfo and Binding as SQLite rows: the one place that knows both."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import math
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..errors import StoreError
from ..model import (
    Attempt,
    Binding,
    Entry,
    Gone,
    Head,
    Kept,
    NewStream,
    Outcome,
    Query,
    Remote,
    Seal,
    Segment,
    State,
    StreamId,
    StreamInfo,
    Tally,
)
from ..usage import Usage
from . import _rules

logger = logging.getLogger("resumestream.store")

PROBE_BYTES = 64 * 1024
"""Of the row that a probe writes: each index of `stream` may split a page at a create."""

_OF_NEW = ("id", "principal", "upstream", "key", "scope", "worker")
_OF_INFO = ("epoch", "tail", "events", "cancel_requested", "gone", "gone_at")
_NAMES = (*_OF_NEW, *_OF_INFO, "sealed_at", "due_at", "record", "sum")
_COLUMNS = ", ".join(_NAMES)
_FIXED = ("id", "principal", "upstream", "key", "scope")
"""Columns that never change: to set them again would rewrite their indexes."""
_ENTRY = "ledger.stream, number, principal, labels, attempt, ifnull(attaches, 0), ifnull(replays, 0)"
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
    columns["sealed_at"] = info.seal.sealed_at if info.seal else None
    columns["due_at"] = info.due_at if info.due_at < math.inf else None
    columns["record"] = json.dumps(rest, separators=(",", ":"))
    return columns | {"sum": _sum(columns)}


def _sum(columns: Mapping[str, Any]) -> int:
    """What tells that a record is as it was written. Unsealed ones have none: every append changes them."""
    if columns["sealed_at"] is None:
        return 0
    values = [_plain(columns[name]) for name in _NAMES if name != "sum"]
    return zlib.crc32(json.dumps(values, separators=(",", ":")).encode())


def _plain(value: Any) -> Any:
    """As SQLite gives it back, whatever it was given."""
    return float(value) if isinstance(value, int) else value


def _load(row: tuple[Any, ...]) -> StreamInfo:
    columns: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    try:
        if columns["sum"] == _sum(columns):
            return _built(columns)
    except (ValueError, KeyError, TypeError, AttributeError):  # one that is unsealed, and so has no sum
        pass
    raise StoreError(f"the record of stream {columns['id']} is damaged: it is not as it was written")


def _built(columns: dict[str, Any]) -> StreamInfo:
    record = json.loads(columns["record"])
    new, head, seal = record["new"], record["head"], record["seal"]
    new |= {name: columns[name] for name in _OF_NEW} | {"labels": tuple(new["labels"])}
    return StreamInfo(
        new=NewStream(**new),
        epoch=columns["epoch"],
        head=head and _head(head),
        tail=columns["tail"],
        events=columns["events"],
        attempts=tuple(map(_attempt, record["attempts"])),
        ended=tuple(map(_segment, record.get("ended", ()))),
        seal=seal and _seal(seal),
        cancel_requested=bool(columns["cancel_requested"]),
        gone=columns["gone"] and Gone(columns["gone"]),
        gone_at=columns["gone_at"],
    )


def _head(fields: dict[str, Any]) -> Head:
    return Head(fields["status"], tuple((name, value) for name, value in fields["headers"]))


def _seal(fields: dict[str, Any]) -> Seal:
    known: dict[str, Any] = {**fields, "outcome": Outcome(fields["outcome"])}
    return Seal(**known)


def _segment(fields: dict[str, Any]) -> Segment:
    return Segment(fields["end"], fields["events"], _head(fields["head"]), _seal(fields["seal"]))


def _attempt(fields: dict[str, Any]) -> Attempt:
    outcome, usage, remote = fields["outcome"], fields.get("usage"), fields.get("remote")
    known: dict[str, Any] = {
        **fields,
        "outcome": outcome and Outcome(outcome),
        "usage": usage and Usage(**usage),
        "remote": remote and Remote(**remote),
    }
    return Attempt(**known)


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


def sum_all(conn: sqlite3.Connection) -> None:
    """Give every record its sum, as it is."""
    rows = conn.execute(f"SELECT row, {_COLUMNS} FROM stream")
    while some := rows.fetchmany(1000):
        sums = [(_sum(dict(zip(_NAMES, columns, strict=True))), row) for row, *columns in some]
        conn.executemany("UPDATE stream SET sum = ? WHERE row = ?", sums)


def damage(conn: sqlite3.Connection) -> Iterator[str]:
    """One sentence for each record that is not as it was written."""
    for row in conn.execute(f"SELECT {_COLUMNS} FROM stream"):
        try:
            _load(row)
        except StoreError as error:
            yield error.message


def _intact(
    conn: sqlite3.Connection, sql: str, values: Sequence[object] = (), limit: int | None = None
) -> list[StreamInfo]:
    """The first records that are as they were written: one that is damaged hides no other."""

    def loaded() -> Iterator[StreamInfo]:
        for row in rows:
            try:
                yield _load(row)
            except StoreError as error:
                _tell_once(error.message)

    rows = conn.execute(sql, values)
    try:
        return list(itertools.islice(loaded(), limit))
    finally:
        rows.close()


@functools.lru_cache(maxsize=1024)
def _tell_once(message: str) -> None:
    logger.error("%s; it is left out of lists", message)


def unsealed(conn: sqlite3.Connection) -> list[StreamInfo]:
    # The plus has SQLite sort the few there are, and not look for them among all
    return _intact(conn, f"SELECT {_COLUMNS} FROM stream WHERE sealed_at IS NULL ORDER BY +row")


def owners(conn: sqlite3.Connection) -> set[str]:
    return {worker for (worker,) in conn.execute("SELECT DISTINCT worker FROM stream WHERE sealed_at IS NULL")}


def held(conn: sqlite3.Connection, worker: str) -> dict[StreamId, bool]:
    sql = "SELECT id, cancel_requested FROM stream WHERE worker = ? AND sealed_at IS NULL"
    return {StreamId(id_): bool(asked) for id_, asked in conn.execute(sql, (worker,))}


def due(conn: sqlite3.Connection, now: float, limit: int) -> list[StreamInfo]:
    return _intact(conn, f"SELECT {_COLUMNS} FROM stream WHERE due_at <= ? ORDER BY due_at", (now,), limit)


def oldest(conn: sqlite3.Connection, limit: int, principal: str | None) -> list[StreamInfo]:
    # The plus keeps SQLite on the index by age, which gives the oldest first
    theirs, values = ("", ()) if principal is None else (" AND +principal = ?", (principal,))
    full = "sealed_at IS NOT NULL AND gone IS NULL AND tail > 0"
    return _intact(conn, f"SELECT {_COLUMNS} FROM stream WHERE {full}{theirs} ORDER BY sealed_at", values, limit)


def kept(conn: sqlite3.Connection, principal: str | None) -> Kept:
    theirs, values = ("", ()) if principal is None else (" AND +principal = ?", (principal,))
    live, live_bytes = conn.execute(
        f"SELECT count(*), ifnull(sum(tail), 0) FROM stream WHERE sealed_at IS NULL{theirs}", values
    ).fetchone()
    (sealed_bytes,) = conn.execute(
        f"SELECT ifnull(sum(payload_bytes), 0) FROM kept WHERE TRUE{theirs}", values
    ).fetchone()
    return Kept(live, live_bytes + sealed_bytes)


def enter(conn: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Into the ledger."""
    for entry in entries:
        values = (entry.stream, entry.number, entry.principal, entry.attempt.ended_at or 0.0)
        texts = (json.dumps(entry.labels), json.dumps(asdict(entry.attempt), separators=(",", ":")))
        conn.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?)", values + texts)


def ledger(conn: sqlite3.Connection, principal: str | None, behind: tuple[float, str, int], limit: int) -> list[Entry]:
    theirs, values = ("", ()) if principal is None else ("principal = ? AND", (principal,))
    sql = f"""SELECT {_ENTRY} FROM ledger LEFT JOIN tally ON tally.stream = ledger.stream
    AND number = (SELECT max(number) FROM ledger AS of_stream WHERE of_stream.stream = ledger.stream)
    WHERE {theirs} (ended_at, ledger.stream, number) > (?, ?, ?)
    ORDER BY ended_at, ledger.stream, number LIMIT ?"""
    return [
        Entry(
            StreamId(stream),
            number,
            principal,
            tuple(json.loads(labels)),
            _attempt(json.loads(attempt)),
            Tally(attaches, replays),
        )
        for stream, number, principal, labels, attempt, attaches, replays in conn.execute(
            sql, (*values, *behind, limit)
        )
    ]


def tally(conn: sqlite3.Connection, counts: Mapping[StreamId, Tally]) -> None:
    sql = """INSERT INTO tally SELECT ?1, ?2, ?3
    WHERE EXISTS (SELECT 1 FROM stream WHERE id = ?1) OR EXISTS (SELECT 1 FROM ledger WHERE stream = ?1)
    ON CONFLICT DO UPDATE SET attaches = attaches + excluded.attaches, replays = replays + excluded.replays"""
    conn.executemany(sql, [(stream, more.attaches, more.replays) for stream, more in counts.items()])


def prune(conn: sqlite3.Connection, before: float) -> None:
    conn.execute("DELETE FROM ledger WHERE ended_at < ?", (before,))


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
    sql = f"SELECT {_COLUMNS} FROM stream WHERE {' AND '.join(where)} ORDER BY row DESC"
    return _intact(conn, sql, values, query.limit)


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
    """Write what nobody would miss, with as many new pages as a create may need."""
    row = conn.execute("INSERT INTO probe (filler) VALUES (zeroblob(?))", (PROBE_BYTES,)).lastrowid
    conn.execute("DELETE FROM probe WHERE id < ?", (row,))
