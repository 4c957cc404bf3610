"""Compressed payload: what went in comes out, and nothing else ever does."""

from __future__ import annotations

import contextlib
import random

import pytest

from resumestream.errors import StoreError
from resumestream.stores._zstd import compress, decompress

RAW = random.Random(1).randbytes(300) * 40 + b"the end"


@pytest.mark.parametrize("raw", [b"", b"x", RAW, random.Random(2).randbytes(5000)])
def test_what_went_in_comes_out(raw: bytes) -> None:
    """Whatever it was."""
    assert decompress(compress(raw), len(raw)) == raw


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    """Wherever it is: never other bytes, never more of them."""
    frame = compress(RAW)
    for at in range(len(frame)):
        spoilt = bytearray(frame)
        spoilt[at] ^= 1 << at % 8
        with contextlib.suppress(StoreError):
            assert decompress(bytes(spoilt), len(RAW)) == RAW  # a bit of the header may mean nothing
        with pytest.raises(StoreError, match="damaged"):
            decompress(frame[:at], len(RAW))


@pytest.mark.parametrize("size", [0, 1, len(RAW) - 1, len(RAW) + 1])
def test_another_size_is_damage(size: int) -> None:
    """The record and the frame must agree."""
    with pytest.raises(StoreError, match="damaged"):
        decompress(compress(RAW), size)


@pytest.mark.parametrize("more", [b"x", compress(b"another frame")])
def test_what_follows_a_frame_is_damage(more: bytes) -> None:
    """One frame, and no more."""
    with pytest.raises(StoreError, match="damaged"):
        decompress(compress(RAW) + more, len(RAW))
