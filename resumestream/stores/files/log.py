"""The segments that one worker writes: an append-only log, cut into files, shared by all its live streams."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread

from ...errors import StoreError
from .._writer import Writer
from .disk import failure, place
from .segments import Segments

logger = logging.getLogger("resumestream.store")

SEGMENT_BYTES = 64 * 1024 * 1024
"""About where a segment ends and the next begins."""
SLOW_S = 0.25
"""A write into the page cache takes microseconds; one that takes this long stops every stream of the worker, and is
said."""


class Log:
    """Its calls belong to one event loop. What was written once is never written over or cut off: whoever scans it
    finds the same records, whenever that is. With `writer` it ends at the first lost sync, whoever lost it."""

    def __init__(self, segments: Segments, worker: str, writer: Callable[[], Writer]) -> None:
        self._segments, self._disk, self._worker, self._writer = segments, segments.disk, worker, writer
        self._fd: int | None = None
        self.segment = 1
        self._position = 0
        self._dirty: dict[int, int] = {}
        """Segment -> descriptor, of those that may hold what is not at disk level."""
        self._new_names = False
        self._retired = 0
        self._synced = 0
        self._syncing: anyio.Event | None = None

    @property
    def end(self) -> int:
        """Place of the next record."""
        return place(self.segment, self._position)

    def begin(self) -> int:
        """Be ready to write. Returns `end`. Raises StoreError."""
        self.usable()
        try:
            self._file()
        except OSError as error:
            raise self._failed(error) from error
        return self.end

    def write(self, parts: Sequence[bytes]) -> int:
        """How many bytes of it, from where `begin` said on, are in the log now: all, unless there was no space. Raises
        StoreError when there are none."""
        data = b"".join(parts)
        written, began = 0, time.monotonic()
        assert self._fd is not None
        try:
            while written < len(data):
                count = self._disk.write(self._fd, data[written:] if written else data, self._position + written)
                written += count
                if not count:
                    break
        except OSError as error:
            if not written:
                raise self._failed(error) from error
        if (took_s := time.monotonic() - began) > SLOW_S:
            logger.warning("the disk at %s held the event loop for %.1f s", self._segments.directory.parent, took_s)
        self._position += written
        return written

    def turn(self) -> None:
        """Go on in the next segment: behind a record that is not whole there is nothing more, or nobody would find
        it."""
        self.segment, self._position, self._fd = self.segment + 1, 0, None

    async def sync(self, end: int) -> None:
        """Bring everything below `end` to disk level: one sync for all who ask while another runs. Raises
        StoreError."""
        while self._synced < end:
            self.usable()
            if self._syncing:
                await self._syncing.wait()
                continue
            done = self._syncing = anyio.Event()
            reached, upto, dirty, new_names = self.end, self.segment, dict(self._dirty), self._new_names
            self._new_names = False
            try:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._sync, list(dirty.values()), new_names)
            except OSError as error:
                self._writer().give_up(error)
                raise failure(error, self._segments.directory.parent) from error
            else:
                self._synced = reached
                for segment in dirty:
                    if segment < upto:  # nothing was written to it since
                        os.close(self._dirty.pop(segment))
            finally:
                self._syncing = None
                done.set()

    def full(self) -> StoreError:
        return failure(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), self._segments.directory.parent)

    def retire(self, segment: int) -> None:
        """Begin no more writes to it: it is thrown away. Any thread may call it."""
        self._retired = segment

    def close(self) -> None:
        for fd in self._dirty.values():
            os.close(fd)
        self._dirty.clear()
        self._fd = None

    def _file(self) -> None:
        if self._position >= SEGMENT_BYTES or self._retired == self.segment:
            self.turn()
        if self._fd is None:
            self._fd = self._disk.create(self._segments.path(self._worker, self.segment))
            self._dirty[self.segment] = self._fd
            self._new_names = True

    def usable(self) -> None:
        """Raises StoreError where nothing more can be written: another sync would say that what is lost is there."""
        if broken := self._writer().broken:
            raise StoreError(f"the store at {self._segments.directory.parent} must be opened again ({broken})")

    def _failed(self, error: OSError) -> StoreError:
        """Part of what failed may be there nevertheless; before anybody can see it, it is gone."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._position)
            self.turn()
        return failure(error, self._segments.directory.parent)

    def _sync(self, fds: list[int], new_names: bool) -> None:
        for fd in fds:
            self._disk.sync(fd)
        if new_names:
            self._disk.sync_directory(self._segments.folder(self._worker))
            self._disk.sync_directory(self._segments.directory)
