"""Server-sent events as a reader sees them, parsed anew here: the suite trusts no parser of what it checks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

BLOCK = re.compile(rb"(?:[^\r\n]+(?:\r\n|\n|\r))*(?:\r\n|\n|\r)")
"""Lines, and the empty line that ends them."""

_COMMENT = re.compile(rb"(?m)^:[^\n]*\n\n?")
_SPARE_LINE = re.compile(rb"(\r\n\r\n)(?:\r\n)+")


@dataclass(frozen=True, slots=True)
class Event:
    """A block with at least one `data` line."""

    raw: bytes
    """All of it, the empty line included."""
    name: str
    data: str
    id: str | None

    def json(self) -> Any:
        """The data as JSON. Raises ValueError."""
        return json.loads(self.data)


def blocks(body: bytes) -> list[bytes]:
    """The whole blocks; what comes behind the last empty line is left out."""
    found, at = [], 0
    while match := BLOCK.match(body, at):
        found.append(match[0])
        at = match.end()
    return found


def events(body: bytes) -> list[Event]:
    """The whole events; blocks without data, such as comments, are none."""
    return [event for block in blocks(body) if (event := _event(block))]


def _event(block: bytes) -> Event | None:
    fields: dict[str, list[str]] = {}
    for line in re.split(r"\r\n|\n|\r", block.decode("utf-8", "replace")):
        name, _, value = line.partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    if "data" not in fields:
        return None
    ids = fields.get("id")
    return Event(block, fields.get("event", ["message"])[-1], "\n".join(fields["data"]), ids[-1] if ids else None)


def without_ids(body: bytes) -> bytes:
    """`live=events` as the payload that it was made of: without ids, comments, and the event that tells the end."""
    kept = [event.raw for event in events(body) if event.name != "resumestream.end"]
    return b"".join(re.sub(rb"(?m)^id: ?[^\r\n]*(?:\r\n|\n|\r)", b"", raw) for raw in kept)


def without_keepalives(body: bytes) -> bytes:
    """The body without comments and without empty lines between events, which is what servers put there."""
    return _SPARE_LINE.sub(rb"\1", _COMMENT.sub(b"", body))
