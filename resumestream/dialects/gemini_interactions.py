"""Google Gemini `interactions`."""

from __future__ import annotations

import re
from typing import Any

from ..framing import SSE, data_of, event_name, has_data
from ..ports import Dialect, Mark, Scanner
from .payload import COMMENT, describe, frame, parse
from .scanning import Telling

_TOLD = re.compile(rb"interaction\.(?:created|completed)|error|\[DONE\]")


class GeminiInteractions(Dialect):
    """Ends with `interaction.completed`, or with the `[DONE]` behind it."""

    name = "gemini-interactions"
    framing = SSE
    endpoint = re.compile(r"/interactions$")
    known = re.compile(
        rb'"event_type"\s*:\s*"(?:interaction|step|content)\.|event: ?(?:interaction|step|content)\.|\[DONE\]'
    )
    keepalive = COMMENT

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK hands it on as an event of type `error`."""
        return frame({"event_type": "error", "error": {"code": code, "message": message}}, event="error")


class _Scanner(Telling):
    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            return Mark.BLANK
        if not _TOLD.search(block):
            return Mark.EVENT
        data = data_of(block)
        body = parse(data)
        kind = body.get("event_type") or event_name(block)
        if data == b"[DONE]":
            return Mark.END
        if kind == "error" or body.get("error"):
            return self._failed(body.get("error") or kind)
        self._tell(body)
        if kind != "interaction.completed":
            return Mark.EVENT
        interaction = body.get("interaction")
        status = interaction.get("status") if isinstance(interaction, dict) else None
        return self._failed(status) if status in ("failed", "cancelled") else Mark.END

    def _failed(self, error: object) -> Mark:
        self.error = describe(error)
        return Mark.ERROR

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        interaction = body.get("interaction")
        return super()._told(interaction) if isinstance(interaction, dict) else (None, None)
