"""Anthropic messages."""

from __future__ import annotations

import re
from typing import Any

from ..framing import SSE, data_of, event_name, has_data
from ..ports import Dialect, Mark, Scanner
from .payload import COMMENT, describe, frame, parse
from .scanning import Telling


class Anthropic(Dialect):
    """Ends with `message_stop`; nothing else is an end. `ping` is an event like any other."""

    name = "anthropic"
    framing = SSE
    endpoint = re.compile(r"/messages$|/publishers/anthropic/models/[^/]+:streamRawPredict$")
    known = re.compile(
        rb'(?:"type"\s*:\s*"|event: ?)(?:message_(?:start|delta|stop)|content_block_(?:start|delta|stop))["\r\n]'
    )
    """A `ping` is anybody's."""
    keepalive = COMMENT

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK raises APIStatusError."""
        error = {"type": "api_error", "message": message, "code": code}
        return frame({"type": "error", "error": error}, event="error")


class _Scanner(Telling):
    """Usage comes with `message_start` and, counted to the end, with `message_delta`."""

    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            return Mark.BLANK
        if b'"usage"' not in block and b"message_stop" not in block and b"error" not in block:
            return Mark.EVENT
        data = data_of(block)
        body = parse(data)
        kinds = event_name(block), body.get("type")  # the SDK goes by the name, others by the type
        if "message_stop" in kinds:
            return Mark.END
        if "error" in kinds:
            self.error = describe(body.get("error") or data.decode("utf-8", "replace"))
            return Mark.ERROR
        self._tell(body)
        return Mark.EVENT

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        message = body.get("message")
        return super()._told(message if isinstance(message, dict) else body)
