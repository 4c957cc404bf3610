"""Reading a provider's JSON, which may be anything, and writing one event."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..redaction import redact

LATER_INDEX = re.compile(rb'"index"\s*:\s*[1-9]')
"""Something beside the first choice or candidate, which every answer has."""

COMMENT = b":\n"
"""The keep-alive that most clients ignore. No blank line: the openai SDK takes one for an event once it has seen an
id."""

_MOST = 200


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; empty if it is anything else. Never raises."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def is_whole(data: bytes) -> bool:
    """Whether that is all of an event's data, though the end of the event never came: JSON says itself where it ends,
    unless it is a number. Nothing at all is no part of anything. Never raises."""
    data = data.strip()
    if data in (b"", b"[DONE]"):
        return True
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, bool) or not isinstance(value, int | float)


def parts(body: dict[str, Any], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects in the list `body[name]` with their `index`, 0 where they have none."""
    items = body.get(name)
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            index = item.get("index")
            yield index if isinstance(index, int) else 0, item


def describe(error: object) -> str:
    """A provider's error object in one printable line of at most 200 characters: its code, else its message.

    Codes first: a message may echo what the caller sent. A credential in it is starred out: this is stored and shown.
    """
    if isinstance(error, dict):
        texts = [error.get(name) for name in ("code", "status", "type", "message")]
        error = next((text for text in texts if text and isinstance(text, str)), error.get("code"))
    return one_line(redact(str(error)) if isinstance(error, str | int) else "") or "unspecified"


def one_line(text: str) -> str:
    """The text in one printable line of at most 200 characters."""
    printable = "".join(char if char.isprintable() else " " for char in text[: 4 * _MOST])
    return " ".join(printable.split())[:_MOST].rstrip()


def frame(body: dict[str, Any], *, event: str = "", end: str = "\n") -> bytes:
    """One event with `body` as JSON. ASCII with every control character escaped, so no text can break out of it."""
    named = f"event: {event}{end}" if event else ""
    return f"{named}data: {json.dumps(body, separators=(',', ':'))}{end}{end}".encode("ascii")


def openai_error(code: str, message: str) -> bytes:
    """The event that the openai SDK raises as APIError."""
    return frame({"error": {"message": message, "type": "server_error", "code": code}})
