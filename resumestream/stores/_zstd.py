"""Sealed payload, compressed: independent zstd frames that say how long they are and check what comes out of them."""

from __future__ import annotations

import sys

from ..errors import StoreError

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdDecompressor, ZstdError
    from compression.zstd import compress as _compress
else:
    from backports.zstd import CompressionParameter, ZstdDecompressor, ZstdError
    from backports.zstd import compress as _compress

_LEVEL = 9
"""Measured on streams of 500 tokens, OpenAI's and Anthropic's: 4 to 6 % smaller than levels 1 and 3, which are alike,
at 1.2 us of CPU a token more, once, after the stream's end. Level 12 takes twice that for 3 %."""
_OPTIONS: dict[int, int] = {
    CompressionParameter.compression_level: _LEVEL,
    CompressionParameter.content_size_flag: True,
    CompressionParameter.checksum_flag: True,
}


def compress(raw: bytes) -> bytes:
    """One frame. It may be longer than `raw`: what does not shrink is better kept as it is."""
    return _compress(raw, options=_OPTIONS)


def decompress(frame: bytes, size: int) -> bytes:
    """The `size` bytes that one frame was made of; never more memory than that. Raises StoreError on anything else."""
    inflater = ZstdDecompressor()
    try:
        raw = inflater.decompress(frame, max_length=size)
        # Where the frame holds just `size` bytes, its checksum may still be unread
        rest = b"" if inflater.eof else inflater.decompress(b"", max_length=1)
    except (ZstdError, EOFError) as error:
        raise StoreError(f"the store is damaged: a compressed frame of payload cannot be read ({error})") from error
    if rest or len(raw) != size or not inflater.eof or inflater.unused_data:
        raise StoreError(f"the store is damaged: a compressed frame of payload does not hold its {size} bytes")
    return raw
