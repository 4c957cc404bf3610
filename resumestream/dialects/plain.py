"""Bodies without events: the JSON answer of any provider, text, pictures, anything."""

from __future__ import annotations

import json
from typing import Any

from ..framing import BYTES
from ..ports import Dialect, Mark, Scanner
from .scanning import Telling, bare_counts

_BLANK = b" \t\r\n"
_MOST_BYTES = 1024 * 1024
"""A larger document is not read for its usage."""


class Plain(Dialect):
    """Ends where its body ends as framed; every byte is a boundary."""

    name = "plain"
    framing = BYTES
    ends_as_framed = True

    def scanner(self) -> Scanner:
        return _Scanner()


class _Scanner(Telling):
    """Takes the body in pieces as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._document: bytearray | None = bytearray()
        """What may be a JSON document, as far as it came, from its first byte on."""

    def scan(self, block: bytes) -> Mark:
        document = self._document
        if document is not None:
            document += block if document else block.lstrip(_BLANK)
            if len(document) > _MOST_BYTES or bytes(document[:1]) not in (b"", b"{", b"["):
                self._document = None
        return Mark.BLANK

    def _catch_up(self) -> None:
        if not self._document:
            return
        try:
            value = json.loads(self._document)
        except (ValueError, RecursionError):
            return
        self._document = None
        # Gemini without `alt=sse` answers with a list of what would be its events.
        for body in value if isinstance(value, list) else [value]:
            if isinstance(body, dict):
                self._tell(body)

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        usage = body.get("usage") or body.get("usageMetadata") or bare_counts(body)
        return usage, body.get("model") or body.get("modelVersion")
