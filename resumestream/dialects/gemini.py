"""Google Gemini `streamGenerateContent?alt=sse`."""

from __future__ import annotations

import re
from typing import Any

from ..framing import SSE, data_of, has_data
from ..ports import Dialect, Mark, Scanner
from .payload import LATER_INDEX, describe, frame, parse, parts
from .scanning import Finished, Telling


class Gemini(Dialect):
    """Has no terminal event: ends with a framed end after a `finishReason` on every candidate, or a blocked prompt."""

    name = "gemini"
    framing = SSE
    endpoint = re.compile(r":streamGenerateContent$")
    known = re.compile(rb'"(?:candidates|promptFeedback|usageMetadata|modelVersion)"\s*:')
    keepalive = b"\r\n"
    """The google-genai SDK takes comments and ids for broken JSON; a blank line is all it skips."""

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK raises ServerError; `error` must be the only key for that."""
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "resumestream"}
        error = {"code": 503, "message": message, "status": "UNAVAILABLE", "details": [info]}
        return frame({"error": error}, end="\r\n")


class _Scanner(Telling):
    """Nearly every event tells the usage so far."""

    def __init__(self) -> None:
        super().__init__()
        self._finished = Finished()

    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            # An error may also come as bare JSON over several lines, outside the event stream's own grammar.
            return self._read(parse(block), Mark.BLANK) if b'"error"' in block else Mark.BLANK
        if b'"usageMetadata"' in block:
            self._tell_later(block)
        if b"Reason" in block or b'"error"' in block or LATER_INDEX.search(block):
            return self._read(parse(data_of(block)), Mark.EVENT)
        return Mark.EVENT

    def _read(self, body: dict[str, Any], otherwise: Mark) -> Mark:
        if body.get("error"):
            self.error = describe(body["error"])
            return Mark.ERROR
        for index, candidate in parts(body, "candidates"):
            self._finished.saw(index, candidate.get("finishReason"))
        feedback = body.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            self._finished.saw(0, True)  # a blocked prompt has no candidates
        return otherwise

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        return body.get("usageMetadata"), body.get("modelVersion")

    def ends_at_framed_end(self) -> bool:
        return self._finished.all
