"""OpenAI chat completions, legacy completions, and everything that speaks like them."""

from __future__ import annotations

import re
from typing import Any

from ..framing import data_of, has_data
from ..ports import Mark, Scanner
from .payload import LATER_INDEX, OPENAI_KEEPALIVE, describe, openai_error, parse, parts

_FINISH = re.compile(rb'"finish_reason"\s*:\s*(?!null|\s)')


class OpenAIChat:
    """Ends with `[DONE]`, or with a framed end after a `finish_reason` on every choice."""

    name = "openai-chat"
    keepalive: bytes | None = OPENAI_KEEPALIVE

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK raises APIError."""
        return openai_error(code, message)


class _Scanner:
    def __init__(self) -> None:
        self.error = ""
        self._finished = {0: False}
        """Choice index -> whether its finish_reason was seen."""

    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            return Mark.BLANK
        if b"[DONE]" in block and data_of(block).startswith(b"[DONE]"):
            return Mark.END
        if b'"error"' in block or _FINISH.search(block) or LATER_INDEX.search(block):
            return self._read(parse(data_of(block)))
        return Mark.EVENT

    def _read(self, body: dict[str, Any]) -> Mark:
        if body.get("error"):
            self.error = describe(body["error"])
            return Mark.ERROR
        for index, choice in parts(body, "choices"):
            self._finished[index] = self._finished.get(index, False) or bool(choice.get("finish_reason"))
        return Mark.EVENT

    def ends_at_framed_end(self) -> bool:
        return all(self._finished.values())
