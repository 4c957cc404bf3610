"""Anthropic messages."""

from __future__ import annotations

from ..framing import data_of, event_name, has_data
from ..ports import Mark, Scanner
from .payload import describe, frame, parse


class Anthropic:
    """Ends with `message_stop`; nothing else is an end. `ping` is an event like any other."""

    name = "anthropic"
    keepalive: bytes | None = b":\n"

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK raises APIStatusError."""
        error = {"type": "api_error", "message": message, "code": code}
        return frame({"type": "error", "error": error}, event="error")


class _Scanner:
    def __init__(self) -> None:
        self.error = ""

    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            return Mark.BLANK
        if b"message_stop" not in block and b"error" not in block:
            return Mark.EVENT
        data = data_of(block)
        body = parse(data)
        kinds = event_name(block), body.get("type")  # the SDK goes by the name, others by the type
        if "message_stop" in kinds:
            return Mark.END
        if "error" in kinds:
            self.error = describe(body.get("error") or data.decode("utf-8", "replace"))
            return Mark.ERROR
        return Mark.EVENT

    def ends_at_framed_end(self) -> bool:
        return False
