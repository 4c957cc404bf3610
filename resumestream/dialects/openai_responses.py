"""OpenAI Responses."""

from __future__ import annotations

import re

from ..framing import data_of, event_name, has_data
from ..ports import Mark, Scanner
from .payload import OPENAI_KEEPALIVE, describe, openai_error, parse

_FINAL = re.compile(rb"response\.(?:completed|incomplete|failed|cancelled)")


class OpenAIResponses:
    """Ends with `response.completed` or `response.incomplete`; nothing else is an end."""

    name = "openai-responses"
    keepalive: bytes | None = OPENAI_KEEPALIVE

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK raises APIError; an event of type `error` it would only hand on."""
        return openai_error(code, message)


class _Scanner:
    def __init__(self) -> None:
        self.error = ""

    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            return Mark.BLANK
        if b'"error"' not in block and not _FINAL.search(block):
            return Mark.EVENT
        body = parse(data_of(block))
        kind = body.get("type") or event_name(block)
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

    def ends_at_framed_end(self) -> bool:
        return False
