"""A directory: records in a catalog, payload in files. One write a turn of the loop for all live streams."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import anyio
import anyio.to_thread

from ..errors import LeaseLost, OffsetConflict, StoreBusy, StoreError, StoreFull, StoreUnusable, StreamSealed
from ..model import Attempt, Head, Kept, Lease, NewStream, Query, Seal, Segment, StreamId, StreamInfo
from ..policy import Policy
from . import _rows, _rules
from ._catalog import CatalogStore
from ._schema import lost_a_sync
from ._writer import Batch
from .files import FilePayload, extents, takeover, view
from .files.disk import Disk, failure, parts
from .files.held import Held
from .files.log import Log
from .files.ticks import Ticks
from .files.trail import Trail
from .peers import FilePeers, refuse_network

logger = logging.getLogger("resumestream.store")

T = TypeVar("T")

INLINE_BYTES = 8 * 1024
"""A read of up to this much of a stream that is held here costs less than a thread would."""


class FileStore(CatalogStore):
    """See CatalogStore. `directory` is made where there is none. At durability `process` an append leaves the event
    loop only when it was fenced off."""

    def __init__(
        self,
        directory: Path,
        *,
        policy: Policy,
        serving: bool,
        clock: Callable[[], float] | None = None,
        disk: Disk | None = None,
    ) -> None:
        directory = directory.resolve()
        catalog = directory / "catalog.db"
        self._files = FilePayload(directory, directory / "catalog.db.peers", disk or Disk())
        super().__init__(catalog, self._files, location=directory, policy=policy, serving=serving, clock=clock)
        self._relocate_s = policy.relocate_s
        self._held: dict[StreamId, Held] = {}
        self._made: dict[StreamId, Held] = {}
        self._log: Log | None = None
        self._ticks: Ticks | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._taking = anyio.Lock()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._writer is None:
            return
        with anyio.CancelScope(shield=True):
            if self._ticks:
                await self._ticks.quiet()
            if held := list(self._held.values()):
                with contextlib.suppress(StoreError):
                    if self._log:  # the catalog is synced as it closes, and must not know of more than there is
                        await self._log.sync(self._log.end)
                    await self._write(lambda batch: takeover.leave(batch.conn, held))
            await super().__aexit__(*exc)
        self._held.clear()
        if self._log:
            self._log.close()
        self._log = self._ticks = None
        self._files.close()

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        with _uncancelled():
            try:
                lease = await super().create(new, replaces=replaces)
            except BaseException:
                self._made.pop(new.id, None)
                raise
            self._hold(self._made.pop(new.id))
            return lease

    async def acquire(self, stream: StreamId, worker: str, *, after: int) -> Lease:
        held = await self._take(stream, lambda info: _rules.acquired(info, worker, after))
        return Lease(stream, worker, held.epoch)

    async def begin(
        self,
        lease: Lease,
        attempt: Attempt,
        head: Head | None,
        *,
        after: Sequence[Attempt] = (),
        ended: Sequence[Segment] = (),
    ) -> None:
        if any(attempt.bytes for attempt in after):  # the record must not know of more than there is
            held = await self._adopt(lease)
            with _uncancelled():
                if self._ticks and self._log:
                    await self._ticks.quiet()
                    await self._log.sync(held.end)
        await super().begin(lease, attempt, head, after=after, ended=ended)

    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        held = self._held.get(lease.stream)
        if held is None or held.epoch != lease.epoch or held.fenced or held.moving:
            held = await self._adopt(lease)
        if self._ticks is None:
            raise StoreError("this handle was opened to look; open one that serves")
        if held.ending:
            raise StreamSealed(f"stream {lease.stream} is being sealed", stream=lease.stream)
        if at != held.next:
            raise OffsetConflict(at=at, tail=held.next)
        return await self._ticks.append(held, data, events)

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        try:
            held = await self._adopt(lease)
        except StreamSealed:
            return await super().seal(lease, seal)
        held.ending = True
        with _uncancelled():
            try:
                if self._ticks and self._log:
                    await self._ticks.quiet()
                    await self._log.sync(held.end)
                info = await super().seal(lease, seal)
            except StoreError:
                held.ending = False
                raise
            self._held.pop(lease.stream, None)
            return info

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        held = self._held.get(stream) if self._ticks and not self._ticks.fenced else None
        if held and held.trail.at <= at <= held.tail and min(held.tail - at, max_bytes) <= INLINE_BYTES:
            try:
                return self._files.held(held, at, min(at + max_bytes, held.tail))
            except OSError as error:
                raise failure(error, self.location) from error

        def look(conn: sqlite3.Connection) -> bytes:
            sql = "SELECT row, tail, gone IS NOT NULL, sealed_at IS NOT NULL FROM stream WHERE id = ?"
            if (found := conn.execute(sql, (stream,)).fetchone()) is None:
                raise _rules.not_found(stream)
            row, tail, gone, sealed = found
            if not sealed:
                tail, _ = view.live(conn, self._files.trails, row)
            _rules.readable(stream, at, tail=tail, gone=gone)
            return self._files.read(conn, row, at, min(at + max_bytes, tail), tail)

        return await self._read(look)

    async def stat(self, stream: StreamId) -> StreamInfo:
        return await self._read(lambda conn: view.overlay(conn, self._files.trails, *_rows.get(conn, stream)))

    async def find(self, query: Query) -> list[StreamInfo]:
        return await self._read(lambda conn: view.found(conn, self._files.trails, query))

    async def unsealed(self) -> list[StreamInfo]:
        return await self._read(lambda conn: view.overlaid(conn, self._files.trails, _rows.unsealed(conn)))

    async def kept(self, principal: str | None = None) -> Kept:
        return await self._read(lambda conn: view.kept(conn, self._files.trails, principal))

    async def tidy(self) -> None:
        """See LogStore.tidy. A live stream that has kept its segments for long goes on in the present one, and what it
        has below is packed like that of an ended one."""
        old = self.now() - self._relocate_s / 2  # tidy comes twice in that time
        for held in list(self._held.values()):
            if self._log and held.segment < self._log.segment and held.opened_at <= old and not held.ending:
                await self._move(held)
        for row, base in await self._read(self._files.behind):
            packed = 0
            try:
                while packed < base:
                    packed = await self._write(partial(self._pack_behind, row, packed, base))
            except (StoreBusy, StoreFull):
                raise  # no other stream would fare better
            except (StoreError, OSError) as error:
                logger.error("stream row %d cannot be packed and keeps its segments: %s", row, error)
        await super().tidy()

    async def _read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        read = super()._read
        return await view.settled(lambda: read(look), self._files.trails, self.location)

    # --- who holds a stream -------------------------------------------------------------------------------------

    async def _adopt(self, lease: Lease) -> Held:
        """Hold a stream whose lease was had before, through another handle or before this one was opened. Raises
        LeaseLost, StreamSealed."""
        self._entered()
        async with self._taking:
            held = self._held.get(lease.stream)
            if held and held.epoch == lease.epoch and not held.fenced:
                return held
            return await self._take(lease.stream, lambda info: _rules.continued(info, lease.epoch))

    async def _move(self, held: Held) -> None:
        """Go on with a stream in the present segment. What was asked for before is in the one it had."""
        async with self._taking:
            if self._ticks is None or held.ending or self._held.get(held.stream) is not held:
                return
            held.moving = True
            try:
                await self._ticks.quiet()
                await self._take(held.stream, lambda info: _rules.continued(info, held.epoch))
            finally:
                held.moving = False

    async def _take(self, stream: StreamId, rule: Callable[[StreamInfo], StreamInfo]) -> Held:
        """Go on with a stream in our own segments, from where its owners before came to."""

        def begin(batch: Batch) -> tuple[int, StreamInfo, int, list[extents.Extent]]:
            row, info = _rows.get(batch.conn, stream)
            changed = rule(info)
            if changed is not info:
                self._update(batch, row, changed, chore=False)
            lower = extents.of(batch.conn, row)
            return row, changed, self._begin(batch, row, None), lower

        if self._log:
            self._log.usable()
        with _uncancelled():
            row, info, extent, lower = await self._write(begin, vital=True)
            if mine := self._held.pop(stream, None):
                mine.fenced = True
            try:
                reach = await anyio.to_thread.run_sync(self._reach, lower)
            except OSError as error:
                if lost_a_sync(error):
                    self._entered().give_up(error)
                raise failure(error, self.location) from error
            if reach.at < info.tail:
                logger.error("of stream %s, %d bytes are left of %d", stream, reach.at, info.tail)
                reach = reach._replace(at=info.tail, events=info.events)
            await self._write(lambda batch: takeover.publish(batch.conn, stream, row, extent, reach), vital=True)
            if self._ticks:
                self._ticks.look_again()  # it may have been taken between that commit and now
            return self._hold(self._held_from(stream, row, info, extent, reach))

    def _reach(self, lower: list[extents.Extent]) -> takeover.Reach:
        takeover.fence(self._files, lower)
        return takeover.reached(self._files, lower)

    def _hold(self, held: Held) -> Held:
        self._files.trails.own[held.extent] = held.trail
        self._held[held.stream] = held
        return held

    async def _taken(self, mine: Collection[Held]) -> Collection[Held]:
        """Which of these others hold now."""
        asked = list(mine)
        taken = await self._read(lambda conn: [one for one in asked if extents.top(conn, one.row) != one.extent])
        for one in taken:
            if self._held.get(one.stream) is one:
                del self._held[one.stream]
        return taken

    # --- in the writer's thread ---------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        refuse_network(Path(self.location))
        self._check_catalog()
        return super()._open()

    def _serve(self, peers: FilePeers) -> None:
        try:
            self._files.serve(peers.me)
        except OSError as error:
            raise failure(error, self.location) from error
        self._log = self._files.janitor.log = Log(self._files.segments, peers.me, self._entered)
        disk = self.durability == "disk"
        self._ticks = Ticks(self._log, peers.page, disk=disk, mine=self._held.values, taken=self._taken)

    def _check_catalog(self) -> None:
        """Neither a link nor lost: a new one would not know what was paid for. Raises StoreUnusable."""
        folder = Path(self.location)
        try:
            linked = self._path.is_symlink()
            lost = not self._path.exists() and any(any((folder / name).glob("*")) for name in ("packs", "segments"))
        except OSError as error:
            raise StoreUnusable(f"the store at {folder} cannot be looked at: {error.strerror}") from error
        if linked:
            raise StoreUnusable(f"{self._path} is a link; a store keeps all that it has in its own directory")
        if lost:
            raise StoreUnusable(
                f"the store at {folder} has payload and no {self._path.name}; bring that back, or use another directory"
            )

    def _pack_behind(self, row: int, packed: int, base: int, batch: Batch) -> int:
        return self._files.pack_behind(batch.conn, row, packed, base)

    def _inserted(self, batch: Batch, new: NewStream) -> None:
        (row,) = batch.conn.execute("SELECT row FROM stream WHERE id = ?", (new.id,)).fetchone()
        extent = self._begin(batch, row, 0)
        self._made[new.id] = self._held_from(new.id, row, StreamInfo(new), extent, takeover.Reach(0, 0, 0))

    def _held_from(self, stream: StreamId, row: int, info: StreamInfo, extent: int, reach: takeover.Reach) -> Held:
        segment = self._log.segment if self._log else 0
        trail = Trail(reach.at)
        return Held(stream, row, info.epoch, extent, trail, reach.events, self.now(), segment, reach.at)

    def _begin(self, batch: Batch, row: int, at: int | None) -> int:
        segment = self._log.segment if self._log else 0
        return extents.begin(batch.conn, row, self._files.trails.me, segment, at, self.now())

    def _ending(self, batch: Batch, lease: Lease, row: int, info: StreamInfo) -> StreamInfo:
        _rules.owned(lease, epoch=info.epoch)
        held = self._held.get(info.id)
        if info.sealed:
            return info
        if held is None:
            raise LeaseLost(f"stream {info.id} was taken over", stream=info.id)
        takeover.held_by(batch.conn, info.id, row, held.extent)
        extents.close(batch.conn, held.extent, parts(held.place)[0])
        return replace(info, tail=held.tail, events=held.all_events)


@contextlib.contextmanager
def _uncancelled() -> Iterator[None]:
    with anyio.CancelScope(shield=True):
        yield
