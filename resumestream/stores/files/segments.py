"""The segment files of all workers, to read. Nothing stays open between two reads, so an unlinked one is gone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import StoreError
from .._frame import damaged
from .disk import Disk, parts
from .records import HEADER_BYTES, Record, parse

BLOCK_BYTES = 32 * 1024
"""Read at a time while records are walked: of a lone stream it holds many, and among many streams it costs little more
than the record that is wanted."""
_NAME = re.compile(r"(\d{8,10})\.seg")


class Segments:
    def __init__(self, directory: Path, disk: Disk) -> None:
        self.directory, self.disk = directory, disk

    def folder(self, worker: str) -> Path:
        return self.directory / worker

    def path(self, worker: str, number: int) -> Path:
        return self.folder(worker) / f"{number:08}.seg"

    def workers(self) -> list[str]:
        """Who has segments here."""
        try:
            return sorted(name for name in os.listdir(self.directory) if not name.startswith("."))
        except FileNotFoundError:
            return []

    def numbers(self, worker: str) -> list[int]:
        """Those that are there, in order."""
        try:
            names = os.listdir(self.folder(worker))
        except FileNotFoundError:
            return []
        return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))

    def sync(self, worker: str, number: int) -> None:
        """Bring it to disk level, whoever wrote it. Raises OSError."""
        fd = self.disk.open(self.path(worker, number), write=True)
        try:
            self.disk.sync(fd)
        finally:
            os.close(fd)

    @contextmanager
    def reading(self, worker: str) -> Iterator[Reading]:
        files = Reading(self, worker)
        try:
            yield files
        finally:
            files.close()


class Reading:
    """One reader's look at one worker's segments. Raises OSError; FileNotFoundError where a segment is gone."""

    def __init__(self, segments: Segments, worker: str) -> None:
        self._segments, self._worker = segments, worker
        self._files: dict[int, int] = {}
        self._block, self._block_at = b"", -1

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)

    def size(self, segment: int) -> int:
        return os.fstat(self._file(segment)).st_size

    def read(self, place: int, size: int) -> bytes:
        """Fewer bytes only at the end of the segment."""
        segment, position = parts(place)
        return self._segments.disk.read(self._file(segment), size, position)

    def record(self, place: int) -> tuple[Record, bytes] | None:
        """The record at `place` and what is there of its payload. Good at walking backwards."""
        block, at = self._near(place, HEADER_BYTES)
        if (record := parse(block, at)) is None:
            return None
        start = at + HEADER_BYTES
        data = block[start : start + record.length]
        if len(data) < record.length:
            data = self.read(place + HEADER_BYTES, record.length)
        return record, data

    def _near(self, place: int, size: int) -> tuple[bytes, int]:
        """A block that holds `size` bytes from `place` on, and where in it."""
        offset = place - self._block_at
        if self._block_at < 0 or offset < 0 or offset + size > len(self._block):
            _, position = parts(place)
            self._block_at = place - min(position, BLOCK_BYTES // 2)
            self._block = self.read(self._block_at, BLOCK_BYTES)
            offset = place - self._block_at
        return self._block, offset

    def _file(self, segment: int) -> int:
        if segment not in self._files:
            self._files[segment] = self._segments.disk.open(self._segments.path(self._worker, segment))
        return self._files[segment]


class Missing(StoreError):
    """Records of a stream are not there: it is damaged, or was packed since the catalog was asked."""


def missing(at: int, end: int) -> Missing:
    return Missing(damaged(at, end, "their records are missing").message)
