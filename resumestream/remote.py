"""Calls that go on at the provider while nobody is connected: what to ask for to read on or to stop one, and whether
what comes is what was asked for. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from .dialects.payload import parse
from .errors import OffsetMalformed, UpstreamLost
from .framing import Splitter, data_of, has_data
from .model import Head, Remote, ResumeKind
from .offsets import Position, parse_offset

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The largest event that is waited for to tell where an answer goes on."""

_PATH = re.compile(r"/(?!/)[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class Place:
    """How far an answer is logged, as far as its kind needs to know."""

    tail: int
    """In bytes of the answer."""
    response: str | None = None
    """The id that the provider gave it."""
    number: int | None = None
    """Of the last event that has one."""


def begun(kind: ResumeKind, path: str, body: bytes, said: Mapping[str, str]) -> Remote | None:
    """The call as it can be found again, if it can: `path` is its request's, `said` are its answer's headers, where a
    resumestream tells of its stream."""
    if kind == "responses":
        return Remote(kind, path) if _is_background(body) else None
    try:
        where, start = urlsplit(said.get("location", "")).path, parse_offset(said.get("stream-offset", ""))
    except (ValueError, OffsetMalformed):
        return None
    stream = said.get("stream-id")
    known = isinstance(start, Position) and stream and _PATH.fullmatch(where) and where.endswith(f"/{stream}")
    return Remote(kind, where, str(start)) if known else None


def reading_on(remote: Remote, place: Place) -> str | None:
    """The target of the GET that goes on behind `place`. None where that cannot be told."""
    if remote.kind == "resumestream":
        return f"{remote.path}?live=tail&offset={_position(remote, place)}"
    if place.response is None or place.number is None:
        return None
    return f"{remote.path}/{quote(place.response, safe='')}?stream=true&starting_after={place.number}"


def stopping(remote: Remote, response: str | None) -> str | None:
    """The target of the POST that stops it."""
    if remote.kind == "resumestream":
        return f"{remote.path}/cancel"
    return f"{remote.path}/{quote(response, safe='')}/cancel" if response else None


def goes_on(remote: Remote, place: Place, before: Head, now: Head) -> bool:
    """Whether the answer `now`, with all its headers, is the one that began with the head `before`, behind `place`."""
    if any(_told(before, name) != _told(now, name) for name in ("content-type", "content-encoding")):
        return False
    if remote.kind == "responses":
        return True
    return remote.path.endswith(f"/{now.get('stream-id')}") and now.get("stream-offset") == str(
        _position(remote, place)
    )


class Behind:
    """What is new in the events that were asked for behind `number`. Some providers send earlier ones again."""

    def __init__(self, number: int) -> None:
        self._number, self._splitter = number, Splitter()
        self._kept: list[bytes] = []

    def feed(self, data: bytes) -> bytes | None:
        """The answer from behind that event on, all that came of it; None while that cannot be told. Once told, what
        follows needs no more looking at. Raises UpstreamLost where an event is missing."""
        blocks = self._splitter.feed(data)
        for index, block in enumerate(blocks):
            number = _number_of(block) if has_data(block) else None
            if has_data(block) and (number is None or number == self._number + 1):  # no number: its end, or an error
                return b"".join((*self._kept, *blocks[index:], self._splitter.rest()))
            if number is not None and number > self._number:
                raise _gap(f"sent event {number} behind {self._number}")
            self._kept = [*self._kept, block] if number is None else []
        if self._splitter.held > MAX_EVENT_BYTES:
            raise _gap(f"sent more than {MAX_EVENT_BYTES} bytes and no event")
        return None


def response_id(data: bytes) -> str | None:
    """The id in the first event of a Responses answer that has one, whole events only."""
    for block in Splitter().feed(data):
        response = parse(data_of(block)).get("response") if has_data(block) else None
        named = response.get("id") if isinstance(response, dict) else None
        if isinstance(named, str) and named:
            return named
    return None


def last_number(data: bytes) -> int | None:
    """The number of the last event that has one, whole events only; what `data` begins with may be the rest of one."""
    numbers = (_number_of(block) for block in reversed(Splitter().feed(data)) if has_data(block))
    return next((number for number in numbers if number is not None), None)


def _number_of(block: bytes) -> int | None:
    number = parse(data_of(block)).get("sequence_number")
    return number if isinstance(number, int) else None


def _position(remote: Remote, place: Place) -> Position:
    start = parse_offset(remote.offset)
    assert isinstance(start, Position)
    return Position(start.segment, start.at + place.tail)


def _told(head: Head, name: str) -> str:
    value = (head.get(name) or "").partition(";")[0].strip().lower()
    return "" if value == "identity" else value


def _gap(what: str) -> UpstreamLost:
    return UpstreamLost(f"The upstream {what}; the events between them are missing.", detail="resume_gap")


def _is_background(body: bytes) -> bool:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(asked, dict) and asked.get("background") is True
