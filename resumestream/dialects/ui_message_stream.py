"""The UI message stream of Vercel's AI SDK."""

from __future__ import annotations

import re
from typing import Any

from ..framing import SSE, data_of, has_data
from ..ports import Dialect, Mark, Scanner
from .payload import COMMENT, describe, frame, parse
from .scanning import Telling

_TOLD = re.compile(rb'"type"\s*:\s*"(?:finish|abort|error)"')


class UIMessageStream(Dialect):
    """Ends with `[DONE]`, or with a framed end after `finish` or `abort`. It is told by its header: paths are the app's
    own."""

    name = "ui-message-stream"
    framing = SSE
    header = "x-vercel-ai-ui-message-stream"
    keepalive = COMMENT

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The chat goes into status `error`. Its schema is strict: there is no place for the code."""
        return frame({"type": "error", "errorText": message})


class _Scanner(Telling):
    """Usage is what the app puts into the message's metadata, by custom `usage` or `totalUsage`."""

    def __init__(self) -> None:
        super().__init__()
        self._finished = False

    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            return Mark.BLANK
        if b"[DONE]" in block and data_of(block) == b"[DONE]":
            return Mark.END
        if _TOLD.search(block):
            return self._read(parse(data_of(block)))
        return Mark.EVENT

    def _read(self, body: dict[str, Any]) -> Mark:
        kind = body.get("type")
        if kind == "error":
            self.error = describe(body.get("errorText"))
            return Mark.ERROR
        self._finished = self._finished or kind in ("finish", "abort")
        self._tell(body)
        return Mark.EVENT

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        metadata = body.get("messageMetadata")
        if not isinstance(metadata, dict):
            return None, None
        return metadata.get("totalUsage") or metadata.get("usage"), metadata.get("model")

    def ends_at_framed_end(self) -> bool:
        return self._finished
