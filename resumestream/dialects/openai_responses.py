"""OpenAI Responses."""

from __future__ import annotations

import re
from typing import Any

from ..framing import SSE, data_of, event_name, has_data
from ..ports import Dialect, Mark, Scanner
from .payload import COMMENT, describe, frame, parse
from .scanning import Telling

_FINAL = re.compile(rb"response\.(?:completed|incomplete|failed|cancelled)")


class OpenAIResponses(Dialect):
    """Ends with `response.completed` or `response.incomplete`; nothing else is an end."""

    name = "openai-responses"
    framing = SSE
    endpoint = re.compile(r"/responses$")
    known = re.compile(rb'"type"\s*:\s*"response\.|event: ?response\.')
    keepalive = COMMENT

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK raises APIError, for the key `error`; the AI SDK takes it for an error only with all the others."""
        error = {"type": "server_error", "code": code, "message": message, "param": None}
        return frame({"type": "error", "sequence_number": 0, "error": error})


class _Scanner(Telling):
    def __init__(self) -> None:
        super().__init__()
        self._begun = False

    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            return Mark.BLANK
        if self._begun and b'"error"' not in block and not _FINAL.search(block):
            return Mark.EVENT
        self._begun = True
        body = parse(data_of(block))
        kind = body.get("type") or event_name(block)
        self._tell(body)
        if kind in ("response.completed", "response.incomplete"):
            return Mark.END
        if kind in ("response.failed", "response.cancelled"):
            response = body.get("response")
            reported = response.get("error") if isinstance(response, dict) else None
            return self._failed(reported or kind)
        # A response.* event may carry its own `error` without being one.
        if kind == "error" or (body.get("error") and not str(kind).startswith("response.")):
            return self._failed(body.get("error") or {"code": body.get("code"), "message": body.get("message")})
        return Mark.EVENT

    def _failed(self, error: object) -> Mark:
        self.error = describe(error)
        return Mark.ERROR

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        response = body.get("response")
        return super()._told(response) if isinstance(response, dict) else (None, None)
