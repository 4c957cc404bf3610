"""The binary event stream of AWS: each message tells its length, has typed headers, and carries checksums.

total length (4) | headers length (4) | CRC of these eight (4) | headers | payload | CRC of all before (4)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct, error
from zlib import crc32

_PRELUDE = Struct(">III")
_CRC = Struct(">I")
_LENGTH = Struct(">H")
_LEAST_BYTES = _PRELUDE.size + _CRC.size

_STRING = 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Of the header values by their type; those of the types beside these (bytes, string) tell their own."""


class MessageSplitter:
    """Cuts a byte stream into messages as it arrives; how it was cut into pieces makes no difference.

    What is no message is held, and all after it: without a length nobody can tell where the next one begins.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        """Always starts at the start of a message."""

    @property
    def held(self) -> int:
        """Bytes that came in and are in no message yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, in order."""
        buffer, messages, at = self._buffer, [], 0
        buffer += data
        while len(buffer) - at >= _PRELUDE.size:
            total, headers, checksum = _PRELUDE.unpack_from(buffer, at)
            if total > len(buffer) - at or total < _LEAST_BYTES + headers or checksum != crc32(buffer[at : at + 8]):
                break
            messages.append(bytes(buffer[at : at + total]))
            at += total
        del buffer[:at]
        return messages

    def rest(self) -> bytes:
        """What is held: the beginning of a message, or what is none."""
        return bytes(self._buffer)


def headers_of(message: bytes) -> dict[str, str]:
    """The headers whose value is a string; none where they cannot be read, or the message is not whole."""
    try:
        return dict(_headers(message))
    except (error, IndexError, KeyError):
        return {}


def payload_of(message: bytes) -> bytes:
    """What a message carries; nothing where it is not whole."""
    if len(message) < _LEAST_BYTES:
        return b""
    total, headers, _ = _PRELUDE.unpack_from(message)
    return message[_PRELUDE.size + headers : -_CRC.size] if total == len(message) else b""


def message_of(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A whole message with these headers, each shorter than 64 KiB, their names than 256 bytes."""
    block = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    lengths = _PRELUDE.pack(_LEAST_BYTES + len(block) + len(payload), len(block), 0)[:8]
    body = lengths + _CRC.pack(crc32(lengths)) + block + payload
    return body + _CRC.pack(crc32(body))


def _header(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + bytes([_STRING]) + _LENGTH.pack(len(value)) + value


def _headers(message: bytes) -> Iterator[tuple[str, str]]:
    total, length, _ = _PRELUDE.unpack_from(message)
    at, end = _PRELUDE.size, _PRELUDE.size + length
    while total == len(message) and at < end:
        name = message[at + 1 : at + 1 + message[at]]
        at += 1 + len(name)
        kind, at = message[at], at + 1
        if kind in (6, _STRING):
            (size,) = _LENGTH.unpack_from(message, at)
            at += _LENGTH.size
        else:
            size = _SIZES[kind]
        value, at = message[at : at + size], at + size
        if kind == _STRING:
            yield name.decode("utf-8", "replace"), value.decode("utf-8", "replace")
