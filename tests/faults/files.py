"""Filesystem stores that get their segments and packs wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resumestream.model import Lease, StreamInfo
from resumestream.stores import FileStore
from resumestream.stores._frame import Frame
from resumestream.stores._writer import Batch
from resumestream.stores.files import FilePayload, takeover
from resumestream.stores.files.disk import Disk
from resumestream.stores.files.extents import Extent
from resumestream.stores.files.janitor import Janitor
from resumestream.stores.files.ticks import Ticks
from resumestream.stores.files.wipe import wipe


class ShownUnfenced(FileStore):
    """A tick is shown without a look whether somebody has fenced its worker off."""

    class Unfenced(Ticks):
        fenced = False

    def _open(self) -> sqlite3.Connection:
        conn = super()._open()
        if self._ticks:
            self._ticks.__class__ = self.Unfenced
        return conn


class TakerBelievesTheCatalog(FileStore):
    """A taker does not look at what the owner before it wrote."""

    def _reach(self, lower: list[Extent]) -> takeover.Reach:
        takeover.fence(self._files, lower)
        published = [extent for extent in lower if extent.at is not None]
        return takeover.Reach(published[-1].at or 0, published[-1].events, published[-1].first)


class TakerFencesNobody(FileStore):
    """A taker looks at what the owner before it wrote, and does not tell it."""

    def _reach(self, lower: list[Extent]) -> takeover.Reach:
        return takeover.reached(self._files, lower)


class SealsWhatTheCatalogKnows(FileStore):
    """A seal ends a stream where the catalog last saw it."""

    def _ending(self, batch: Batch, lease: Lease, row: int, info: StreamInfo) -> StreamInfo:
        super()._ending(batch, lease, row, info)
        return info


class _Payload(FileStore):
    """With a payload of its own."""

    made: type[FilePayload]

    def __init__(self, directory: Path, **more: Any) -> None:
        super().__init__(directory, **more)
        self._payload = self._files = self.made(self._files.directory, self._folder, Disk())


class PacksTheFirstFrame(_Payload):
    """What does not fit into the first frame of a stream is thrown away with its segments."""

    class made(FilePayload):
        def pack(self, conn: sqlite3.Connection, stream: int, packed: int, frame: Frame | None) -> int:
            super().pack(conn, stream, packed, frame)
            return int(conn.execute("SELECT tail FROM stream WHERE row = ?", (stream,)).fetchone()[0])


class ErasesTheNeighbours(_Payload):
    """Erasing a stream wipes all that lies in its segments."""

    class made(FilePayload):
        def erase(self, conn: sqlite3.Connection, stream: int) -> bool:
            for row, worker, first in conn.execute("SELECT row, worker, first FROM extent").fetchall():
                wipe(self.segments, row, worker, first)
            return super().erase(conn, stream)


class DeadOwnersThrownAway(_Payload):
    """The segments of a worker that ended go, whoever still needs them."""

    class made(FilePayload):
        def __init__(self, directory: Path, pages: Path, disk: Disk) -> None:
            super().__init__(directory, pages, disk)
            self.janitor.__class__ = Careless


class Careless(Janitor):
    def _unneeded(self, conn: sqlite3.Connection, worker: str) -> Iterator[Path]:
        if self._mine(worker):
            yield from super()._unneeded(conn, worker)
        else:
            yield from (self._segments.path(worker, number) for number in self._segments.numbers(worker))


FAULTS = (
    ShownUnfenced,
    TakerBelievesTheCatalog,
    TakerFencesNobody,
    SealsWhatTheCatalogKnows,
    PacksTheFirstFrame,
    ErasesTheNeighbours,
    DeadOwnersThrownAway,
)
