"""A frame: a run of one stream's payload as it is kept for good, compressed where that makes it shorter."""

from __future__ import annotations

import zlib
from typing import NamedTuple, Self

from ..errors import StoreError
from . import _zstd

FRAME_BYTES = 256 * 1024
"""Payload of a frame: one block of a replay, so that a reader who goes through a stream inflates each frame once, and
the most that one packing step copies. Frames of 1 MiB would be 3 to 8 % smaller (measured), and inflated four times."""


class Frame(NamedTuple):
    """One that is ready to stay."""

    length: int
    """Of the payload; data as long as that is the payload itself, shorter data a zstd frame."""
    sum: int
    """CRC-32 of the data."""
    data: bytes
    """b"" where it is at disk level already, in `pack` from `position` on."""
    size: int
    pack: str = ""
    position: int = 0

    @classmethod
    def of(cls, raw: bytes) -> Self:
        small = _zstd.compress(raw)
        data = small if len(small) < len(raw) else raw
        return cls(len(raw), zlib.crc32(data), data, len(data))


def checked(at: int, length: int, size: int, sum_: int, data: bytes) -> bytes:
    """The data. Raises StoreError where it is not as it was written."""
    if len(data) != size or zlib.crc32(data) != sum_:
        raise damaged(at, at + length, "they are not as they were written")
    return data


def inflated(at: int, length: int, data: bytes) -> bytes:
    """The payload. Raises StoreError."""
    try:
        return data if len(data) == length else _zstd.decompress(data, length)
    except StoreError as error:
        raise damaged(at, at + length, "they do not inflate") from error


def damaged(at: int, end: int, how: str) -> StoreError:
    return StoreError(f"the store is damaged at offsets {at} to {end} of a stream: {how}")
