"""The durable stores' catalog: every stream's record, keys, secrets and the ledger, in one SQLite file.

Writes go through one thread that commits groups (`_writer`), reads through a few read-only connections of their own,
so that a reader never waits for a commit. Where the payload is, a subclass says.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import anyio
import anyio.to_thread

from ..errors import StoreError, StreamNotFound
from ..model import (
    Attempt,
    Binding,
    Durability,
    Entry,
    Gone,
    Head,
    Kept,
    Lease,
    NewStream,
    Query,
    Seal,
    Segment,
    StreamId,
    StreamInfo,
    Tally,
)
from ..policy import Policy
from ..ports import Peers
from . import _audit, _rows, _rules, _schema
from ._payload import Payload
from ._reserve import Reserve
from ._writer import Batch, Writer
from .clock import StoreClock
from .peers import FilePeers, Onlooker, refuse_network

T = TypeVar("T")

READERS = 4
"""Connections that read at a time; further reads wait their turn."""
PROBE_EVERY_S = 1
"""So long a probe that succeeded answers for those after it: anybody may ask, and each would be a commit."""


class CatalogStore:
    """`serving`: take a place among the peers, make the store where there is none, do its idle-time work. Otherwise it
    is opened beside servers, or without one, to look, to leave an intent, and to delete.

    Not to be shared between event loops. After `async with` it can be entered again.
    """

    def __init__(
        self,
        path: Path,
        payload: Payload,
        *,
        location: Path,
        policy: Policy,
        serving: bool,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._path, self._payload = path, payload
        self.location = str(location)
        self.durability: Durability = policy.durability
        self.secrets: Sequence[bytes] = ()
        self._busy_s = policy.busy_s
        self._serving = serving
        self._given_clock = clock
        self._folder = path.with_name(path.name + ".peers")
        self._peers = FilePeers(self._folder, lease_s=policy.lease_s) if serving else None
        self._reserve: Reserve | None = None
        self._onlooker = Onlooker(self._folder)
        self.peers: Peers = self._peers or self._onlooker
        self._idle: deque[sqlite3.Connection] = deque()
        self._writer: Writer | None = None

    async def __aenter__(self) -> Self:
        if self._writer:
            raise StoreError(f"the store at {self.location} is open already; make another handle")
        self._conn = await anyio.to_thread.run_sync(self._open)
        self._slots = anyio.CapacityLimiter(READERS)
        self._reading = 0
        self._quiet = anyio.Event()
        self._probed_at = -math.inf
        all_disk = self.durability == "disk"
        self._writer = Writer(
            self._conn, self.location, self._payload, self._reserve, all_disk=all_disk, busy_s=self._busy_s
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with anyio.CancelScope(shield=True):
            if self._reading:
                await self._quiet.wait()
            await anyio.to_thread.run_sync(self._close, writer, limiter=anyio.CapacityLimiter(1))

    async def probe(self) -> None:
        if self.now() >= self._probed_at + PROBE_EVERY_S:
            await self._write(lambda batch: _rows.touch(batch.conn))
            self._probed_at = self.now()

    def now(self) -> float:
        return self._clock()

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        def op(batch: Batch) -> Lease:
            if new.key is not None:
                binding = _rules.bound(_rows.binding(batch.conn, new.key), new, replaces)
                _rows.bind(batch.conn, new.key, binding)
            _rows.insert(batch.conn, StreamInfo(new))
            self._inserted(batch, new)
            return Lease(new.id, new.worker, 1)

        return await self._write(op, disk=new.key is not None)

    async def binding(self, key: str) -> Binding | None:
        return await self._read(lambda conn: _rows.binding(conn, key))

    async def acquire(self, stream: StreamId, worker: str, *, after: int) -> Lease:
        info = await self._change(stream, lambda info: _rules.acquired(info, worker, after), vital=True)
        return Lease(stream, worker, info.epoch)

    async def begin(
        self,
        lease: Lease,
        attempt: Attempt,
        head: Head | None,
        *,
        after: Sequence[Attempt] = (),
        ended: Sequence[Segment] = (),
    ) -> None:
        def rule(info: StreamInfo) -> StreamInfo:
            return _rules.begun(info, lease, attempt, head, after, ended)

        await self._change(lease.stream, rule, disk=head is None or bool(ended))

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        def op(batch: Batch) -> StreamInfo:
            row, info = _rows.get(batch.conn, lease.stream)
            info = self._ending(batch, lease, row, info)
            sealed = _rules.sealed(info, lease, seal, self.now())
            if sealed is not info:
                self._update(batch, row, sealed, chore=True)
                _rows.enter(batch.conn, _rules.entries(sealed))
            return sealed

        return await self._write(op, disk=True, vital=True)

    async def stat(self, stream: StreamId) -> StreamInfo:
        return await self._read(lambda conn: _rows.get(conn, stream)[1])

    async def find(self, query: Query) -> list[StreamInfo]:
        return await self._read(lambda conn: _rows.find(conn, query))

    async def unsealed(self) -> list[StreamInfo]:
        return await self._read(_rows.unsealed)

    async def owners(self) -> set[str]:
        return await self._read(_rows.owners)

    async def request_cancel(self, stream: StreamId) -> None:
        await self._change(stream, _rules.cancel_requested, disk=True, vital=True)

    async def held(self, worker: str) -> dict[StreamId, bool]:
        return await self._read(lambda conn: _rows.held(conn, worker))

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        def rule(info: StreamInfo) -> StreamInfo:
            return _rules.purged(info, why, self.now())

        return await self._change(stream, rule, disk=True, chore=True, vital=True)

    async def forget(self, stream: StreamId) -> None:
        def op(batch: Batch) -> None:
            try:
                row, info = _rows.get(batch.conn, stream)
            except StreamNotFound:
                return
            _rules.forgettable(info)
            _rows.delete(batch.conn, row, info)
            if info.new.key is not None:
                _rows.unbind(batch.conn, info.new.key, stream)

        await self._write(op, vital=True)

    async def due(self, limit: int) -> list[StreamInfo]:
        return await self._read(lambda conn: _rows.due(conn, self.now(), limit))

    async def oldest(self, limit: int, principal: str | None = None) -> list[StreamInfo]:
        return await self._read(lambda conn: _rows.oldest(conn, limit, principal))

    async def kept(self, principal: str | None = None) -> Kept:
        return await self._read(lambda conn: _rows.kept(conn, principal))

    async def ledger(
        self, *, principal: str | None = None, since: float = 0.0, after: Entry | None = None, limit: int = 1000
    ) -> list[Entry]:
        behind = _rules.page_of_ledger(since, after)
        return await self._read(lambda conn: _rows.ledger(conn, principal, behind, limit))

    async def tally(self, counts: Mapping[StreamId, Tally]) -> None:
        await self._write(lambda batch: _rows.tally(batch.conn, counts))

    async def prune(self, before: float) -> None:
        await self._write(lambda batch: _rows.prune(batch.conn, before))

    async def tidy(self) -> None:
        anew = True
        while await self._entered().keep(anew=anew):
            anew = False

    async def verify(self, stream: StreamId | None = None) -> list[str]:
        def look(conn: sqlite3.Connection) -> list[str]:
            try:
                return _audit.whole(conn, self._payload) if stream is None else _audit.one(conn, self._payload, stream)
            except sqlite3.DatabaseError as error:
                if _schema.primary_code(error) != sqlite3.SQLITE_CORRUPT:
                    raise
                return [_schema.translate(error, self.location).message]

        return await self._read(look)

    async def _change(
        self,
        stream: StreamId,
        rule: Callable[[StreamInfo], StreamInfo],
        *,
        disk: bool = False,
        chore: bool = False,
        vital: bool = False,
    ) -> StreamInfo:
        """Put a record through a rule. `chore`: what changed makes work for idle time."""

        def op(batch: Batch) -> StreamInfo:
            row, info = _rows.get(batch.conn, stream)
            changed = rule(info)
            if changed is not info:
                self._update(batch, row, changed, chore=chore)
            return changed

        return await self._write(op, disk=disk, vital=vital)

    def _inserted(self, batch: Batch, new: NewStream) -> None:
        """A stream is made in this transaction."""

    def _ending(self, batch: Batch, lease: Lease, row: int, info: StreamInfo) -> StreamInfo:
        """The record of a stream that is to be sealed, with what its owner alone knows. Refuses before it writes."""
        return info

    def _update(self, batch: Batch, row: int, info: StreamInfo, *, chore: bool) -> None:
        _rows.update(batch.conn, row, info)
        if chore:
            batch.conn.execute("INSERT OR IGNORE INTO chore VALUES (?, 0)", (row,))
            batch.chores = True

    async def _write(self, op: Callable[[Batch], T], *, disk: bool = False, vital: bool = False) -> T:
        """`vital`: it ends a stream or frees space, and may take what is kept in reserve for that."""
        return await self._entered().call(op, disk=disk, vital=vital)

    async def _read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """Look at one state of the store, in a thread."""
        self._entered()
        self._reading += 1
        try:
            return await anyio.to_thread.run_sync(self._look, look, limiter=self._slots)
        finally:
            self._reading -= 1
            if not self._reading and not self._writer:
                self._quiet.set()

    def _look(self, look: Callable[[sqlite3.Connection], T]) -> T:
        try:
            try:
                conn = self._idle.pop()
            except IndexError:
                conn = _schema.connect(self._path, "ro", busy_s=self._busy_s)
            try:
                conn.execute("BEGIN")
                return look(conn)
            finally:
                if conn.in_transaction:  # nothing was written; a COMMIT would tell of a damaged page once more
                    conn.execute("ROLLBACK")
                self._idle.append(conn)
        except _schema.FAILURES as error:
            raise _schema.translate(error, self.location) from error

    def _entered(self) -> Writer:
        if self._writer is None:
            raise StoreError(f"the store at {self.location} is not open; enter it first")
        return self._writer

    def _open(self) -> sqlite3.Connection:
        _schema.prepare(self._path, create=self._serving)
        with contextlib.ExitStack() as undo:
            if self._peers:
                refuse_network(self._path)
            conn = _schema.open_writer(self._path, busy_s=self._busy_s, create=self._serving, payload=self._payload)
            undo.callback(conn.close)
            if self._peers:
                self._peers.open()
                undo.callback(self._peers.close)
            self._introduce(conn)
            self._clock = self._given_clock or self._store_clock()
            if self._peers:
                self._reserve = self._take_reserve(self._peers)
                undo.callback(self._reserve.give_up)
                self._serve(self._peers)
            undo.pop_all()
        return conn

    def _serve(self, peers: FilePeers) -> None:
        """Be ready to write payload."""

    def _introduce(self, conn: sqlite3.Connection) -> None:
        """Share secrets with all who open the store, and tell them, or learn from it, what an append survives."""
        try:
            self.secrets = _rows.secrets(conn)
            if self._serving:
                _schema.stamp(conn, self.durability, self._busy_s)
            else:
                self.durability = _schema.stamped(conn) or self.durability
        except _schema.FAILURES as error:
            raise _schema.translate(error, self.location) from error

    def _store_clock(self) -> StoreClock:
        """The one that the living peers go by, where there are any."""
        if not self._peers:
            return StoreClock(start=self._onlooker.clock_start)
        clock = StoreClock(start=self._peers.clock_start)
        self._peers.publish_clock(clock.start)
        return clock

    def _take_reserve(self, peers: FilePeers) -> Reserve:
        """And free what dead processes had."""
        for file in self._folder.glob("*.reserve"):
            if peers.lost(file.stem):
                file.unlink(missing_ok=True)
        reserve = Reserve(self._folder / f"{peers.me}.reserve")
        reserve.take()
        return reserve

    def _close(self, writer: Writer) -> None:
        """The last connection to a store empties and removes the WAL as it closes. That is the writer's; but over a
        WAL that lost something it must not happen, so there it is one that cannot write."""
        with contextlib.ExitStack() as closing:
            if self._peers:
                closing.callback(self._peers.close)
            if self._reserve:
                closing.callback(self._reserve.give_up)
            closing.callback(self._conn.close)
            closing.callback(self._close_idle)
            writer.stop()
            writer.join()
            if writer.broken:
                self._look(_rows.owners)
                self._conn.close()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
