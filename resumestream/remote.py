"""Calls that go on at the provider while nobody is connected: what to ask for to read on, and to stop one."""

from __future__ import annotations

import json
from urllib.parse import quote, urlsplit

from .dialects.payload import parse
from .framing import Splitter, data_of, has_data
from .model import Remote, ResumeKind
from .offsets import Position, parse_offset

FIRST_BYTES = 64 * 1024
"""Of a log; the first event of a Responses answer, which has its id, is in them."""
LAST_BYTES = 1024 * 1024
"""Of a log; its last whole event is looked for in them."""


def begun(kind: ResumeKind, path: str, body: bytes, location: str | None, offset: str | None) -> Remote | None:
    """The call as it can be found again, if it can: `path` is its request's, `location` and `offset` are what a
    resumestream says of its stream."""
    if kind == "responses":
        return Remote(kind, path) if _is_background(body) else None
    where = urlsplit(location or "").path
    if not where.startswith("/") or where.startswith("//") or offset is None:
        return None
    return Remote(kind, where, offset)


def reading_on(remote: Remote, first: bytes, last: bytes, tail: int) -> str | None:
    """The target of the GET that goes on behind `tail` bytes, which begin with `first` and end with `last`. None where
    that cannot be told."""
    if remote.kind == "resumestream":
        start = parse_offset(remote.offset)
        if not isinstance(start, Position):
            return None
        return f"{remote.path}?live=tail&offset={Position(start.segment, start.at + tail)}"
    named, numbers = response_id(first), [body.get("sequence_number") for body in _bodies(last)]
    known = [number for number in numbers if isinstance(number, int)]
    return f"{remote.path}/{named}?stream=true&starting_after={known[-1]}" if named and known else None


def stopping(remote: Remote, first: bytes) -> str | None:
    """The target of the POST that stops it."""
    if remote.kind == "resumestream":
        return f"{remote.path}/cancel"
    named = response_id(first)
    return f"{remote.path}/{named}/cancel" if named else None


def response_id(first: bytes) -> str | None:
    for body in _bodies(first):
        response = body.get("response")
        if isinstance(response, dict) and isinstance(response.get("id"), str) and response["id"]:
            return quote(response["id"], safe="")
    return None


def _bodies(data: bytes) -> list[dict[str, object]]:
    return [parse(data_of(block)) for block in Splitter().feed(data) if has_data(block)]


def _is_background(body: bytes) -> bool:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(asked, dict) and asked.get("background") is True
