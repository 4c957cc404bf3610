"""Ollama's chat and generate: one JSON object a line."""

from __future__ import annotations

import json
import re
from typing import Any

from ..framing import LINES
from ..ports import Dialect, Mark, Scanner
from .payload import describe, parse
from .scanning import Telling, bare_counts

_TOLD = re.compile(rb'"done"\s*:\s*true|"error"')


class Ollama(Dialect):
    """Ends with `"done": true`. Nothing can be added between two lines: the SDK reads every line as JSON."""

    name = "ollama"
    framing = LINES
    endpoint = re.compile(r"/api/(?:chat|generate)$")
    known = re.compile(rb'"done"\s*:\s*(?:true|false)')

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK raises ResponseError."""
        return json.dumps({"error": message, "code": code}, separators=(",", ":")).encode() + b"\n"


class _Scanner(Telling):
    def __init__(self) -> None:
        super().__init__()
        self._begun = False

    def scan(self, block: bytes) -> Mark:
        if not block.strip():
            return Mark.BLANK
        if self._begun and not _TOLD.search(block):
            return Mark.EVENT
        self._begun = True
        body = parse(block)
        if body.get("error"):
            self.error = describe(body["error"])
            return Mark.ERROR
        self._tell(body)
        return Mark.END if body.get("done") is True else Mark.EVENT

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        return bare_counts(body), body.get("model")
