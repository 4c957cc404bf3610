"""Overwriting one extent's payload where it lies among others'."""

from __future__ import annotations

import os

from .records import HEADER_BYTES, parse
from .segments import Segments

_BLOCK_BYTES = 256 * 1024


def wipe(segments: Segments, extent: int, worker: str, first: int) -> None:
    """Make zeros of all payload of `extent`, visible or not, durably. Its headers stay as they are, so that the records
    behind them are found at any moment. Raises OSError."""
    for number in segments.numbers(worker):
        if number >= first:
            try:
                fd = segments.disk.open(segments.path(worker, number), write=True)
            except FileNotFoundError:
                continue
            try:
                _wipe_segment(segments, fd, extent)
            finally:
                os.close(fd)


def _wipe_segment(segments: Segments, fd: int, extent: int) -> None:
    disk, position, wiped = segments.disk, 0, False
    size = os.fstat(fd).st_size
    while position < size:
        block, at = disk.read(fd, _BLOCK_BYTES, position), 0
        while record := parse(block, at):
            end = at + HEADER_BYTES + record.length
            if position + end > size:
                break
            if record.extent == extent and record.length:
                disk.write_all(fd, bytes(record.length), position + at + HEADER_BYTES)
                wiped = True
            at = end
        if not at:
            break
        position += at
    if wiped:
        disk.sync(fd)
