"""Offset tokens: where in a stream a reader is, as text (DESIGN §6).

Padded to 16 digits, the tokens of a segment sort as their offsets do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from .errors import OffsetMalformed

MAX_OFFSET = 10**16 - 1
"""What 16 digits hold."""

_TOKEN = re.compile(r"(?:s(?P<segment>[0-9]{2,6})\.)?(?P<at>[0-9]{1,16})")
_PADDED = re.compile(r"(?:s[0-9]{2,6}\.)?[0-9]{16}(?:\.end)?")
_FORMS = "a number of payload bytes, such as 4096 or 0000000000004096, s02. before it in a second segment, -1 or now"


class Edge(Enum):
    """A place that is named, not counted; of the latest segment."""

    START = "-1"
    NOW = "now"


START, NOW = Edge.START, Edge.NOW


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """`at` payload bytes into `segment`, the first being 1. `end`: the reader knows that nothing follows."""

    segment: int
    at: int
    end: bool = False

    def __str__(self) -> str:
        return format_offset(self.at, self.segment)


def format_offset(at: int, segment: int = 1) -> str:
    """The token: 16 digits, behind `sNN.` from the second segment on."""
    return f"{at:016}" if segment == 1 else f"s{segment:02}.{at:016}"


def parse_offset(text: str) -> Position | Edge:
    """What a token, an unpadded decimal, `-1` or `now` means. Raises OffsetMalformed."""
    if text in ("-1", "now"):
        return Edge(text)
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise _malformed(text)
    at, segment = int(match["at"]), int(match["segment"] or 1)
    first_by_name = match["segment"] is not None and segment < 2
    overlong_name = match["segment"] is not None and f"{segment:02}" != match["segment"]
    if first_by_name or overlong_name:
        raise _malformed(text)
    return Position(segment, at)


def parse_last_event_id(text: str) -> Position | Edge:
    """As `parse_offset`; a token with `.end` behind it says that the reader has everything. Raises OffsetMalformed."""
    token = text.removesuffix(".end")
    position = parse_offset(token)
    if token == text:
        return position
    if isinstance(position, Edge):
        raise _malformed(text)
    return Position(position.segment, position.at, end=True)


def is_token(text: str) -> bool:
    """Whether a `Last-Event-ID` is ours: written as we write it, unlike the short numbers other servers use."""
    return _PADDED.fullmatch(text) is not None


def _malformed(text: str) -> OffsetMalformed:
    return OffsetMalformed(f"The offset {text[:40]!a} is none. Use {_FORMS}.")
