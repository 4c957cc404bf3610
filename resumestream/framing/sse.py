"""Server-sent events at byte level.

A block is everything up to and including the blank line that ends it; a block with at least one `data` line is an
Event. Lines end in LF, CRLF or CR, mixed as they come. Only boundaries are decided here, never content, so whatever
comes in goes out: the blocks and the rest, joined, are the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

_BOM = b"\xef\xbb\xbf"

# A blank line: a line end that is the first byte of a block or follows another line end. Each alternative starts with
# a literal, so that the regex engine skips from line end to line end. An LF after CR belongs to that CR. A CR that is
# the last byte so far may be half of a CRLF: wait for its LF, except after a lone CR, where lines end in CR and the
# next byte may not come before the next event. If an LF does follow there, it becomes an empty block of its own.
_BLANK = re.compile(
    rb"""
    \n (?<![^\n]\n)
    | \r (?<![^\r\n]\r) (?: \n | (?!\Z) | (?<=\r\r) )
    """,
    re.VERBOSE,
)

# Literal first, since that is quick to find; then whether it starts a line. A BOM may precede any block's first line
# here: blocks do not know their place, and no field name begins with one.
_DATA_LINE = re.compile(rb"data(?:(?<![^\r\n]data)|(?<=\A\xef\xbb\xbfdata))(?=[:\r\n]|\Z)")
_LAST_LINES = re.compile(rb"(?:\n|\r(?!\n))(\r\n|\n|\r)\Z")


class Splitter:
    """Cuts a byte stream into blocks as it arrives, in time linear in its length however small the pieces.

    The blocks of an LF, CRLF or CR stream do not depend on how it was cut into pieces; nor do the events of any stream.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        """Always starts at the start of a block."""

    @property
    def held(self) -> int:
        """Bytes that came in and are in no block yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The blocks that `data` completes, in order."""
        buffer = self._buffer
        searched = max(len(buffer) - 1, 0)  # the last byte may have been a CR that waits
        buffer += data
        ends = [match.end() for match in _BLANK.finditer(buffer, searched)]
        if not ends:
            return []
        whole = bytes(buffer[: ends[-1]])
        del buffer[: ends[-1]]
        return [whole[start:end] for start, end in pairwise((0, *ends))]

    def rest(self) -> bytes:
        """What is held: the beginning of a block whose blank line has not come."""
        return bytes(self._buffer)


def has_data(block: bytes) -> bool:
    """Whether the block is an Event."""
    return _DATA_LINE.search(block) is not None


def data_of(block: bytes) -> bytes:
    """The block's data lines joined with LF, as an EventSource hands them on."""
    return b"\n".join(value for name, value in _fields(block) if name == b"data")


def held_data(rest: bytes) -> bytes:
    """The data of a block whose blank line has not come; all of it where it has none, or where it stops in the middle
    of another field. Empty where there are only comments."""
    names = [name for name, _ in _fields(rest)]
    if not any(names):
        return b""
    return data_of(rest) or rest if names[-1] == b"data" or rest.endswith((b"\r", b"\n")) else rest


def event_name(block: bytes) -> str:
    """The block's `event` field; empty if it has none."""
    names = [value for name, value in _fields(block) if name == b"event"]
    return names[-1].decode("utf-8", "replace") if names else ""


def with_id(block: bytes, id: bytes) -> bytes:  # noqa: A002 - the field's own name
    """The block as sent with `id: <id>` as its last field, which wins over an `id` it came with.

    Returned unchanged: a block without data, and one whose blank line has not come.
    """
    lines = _LAST_LINES.search(block[-3:])
    if lines is None or not has_data(block):
        return block
    end = lines[1]
    return block.removesuffix(end) + b"id: " + id + end + end


def _fields(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and value of each line; a comment has the empty name. Bytes split at CR, LF and CRLF only."""
    for line in block.removeprefix(_BOM).splitlines():
        name, _, value = line.partition(b":")
        yield name, value.removeprefix(b" ")
