"""Messages of AWS's binary event stream, written and read anew: the suite trusts no parser of what it checks."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from zlib import crc32

_PRELUDE_BYTES, _CRC_BYTES = 12, 4
_STRING = 7
"""The type of a header whose value is text."""


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A whole message."""
    block = b"".join(
        struct.pack(f">B{len(name)}sBH{len(value)}s", len(name), name.encode(), _STRING, len(value), value.encode())
        for name, value in headers.items()
    )
    lengths = struct.pack(">II", _PRELUDE_BYTES + len(block) + len(payload) + _CRC_BYTES, len(block))
    body = lengths + struct.pack(">I", crc32(lengths)) + block + payload
    return body + struct.pack(">I", crc32(body))


def read(raw: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and payload of exactly one message whose headers are all text. Raises ValueError."""
    if len(raw) < _PRELUDE_BYTES + _CRC_BYTES:
        raise ValueError(f"{len(raw)} bytes are no message")
    total, size, checksum = struct.unpack_from(">III", raw)
    if total != len(raw) or checksum != crc32(raw[:8]) or raw[-4:] != struct.pack(">I", crc32(raw[:-4])):
        raise ValueError("the length or a checksum is wrong")
    block, payload = raw[_PRELUDE_BYTES : _PRELUDE_BYTES + size], raw[_PRELUDE_BYTES + size : -_CRC_BYTES]
    return _headers(block), payload


def _headers(block: bytes) -> dict[str, str]:
    headers = {}
    while block:
        name, rest = block[1 : 1 + block[0]], block[1 + block[0] :]
        if len(rest) < 3 or rest[0] != _STRING:
            raise ValueError("a header is not text")
        length = int.from_bytes(rest[1:3], "big")
        headers[name.decode()], block = rest[3 : 3 + length].decode(), rest[3 + length :]
    return headers
