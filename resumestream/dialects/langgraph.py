"""Runs of a LangGraph server, and what looks like them."""

from __future__ import annotations

import re

from ..framing import SSE, data_of, event_name, has_data
from ..ports import Dialect, Mark, Scanner
from .payload import COMMENT, describe, frame, parse
from .scanning import Telling

_TOLD = re.compile(rb"event: ?(?:end|error)")


class LangGraph(Dialect):
    """Ends with `event: end`. Servers differ in whether they send it, and the SDKs take a framed end for one, so after
    any whole event it is."""

    name = "langgraph"
    framing = SSE
    endpoint = re.compile(r"/runs/stream$")
    known = re.compile(rb"event: ?(?:metadata|values|updates|messages)[/|\r\n]")
    keepalive = COMMENT

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK hands it on and takes the run for ended; without it, it would look for the rest elsewhere."""
        return frame({"error": code, "message": message}, event="error")


class _Scanner(Telling):
    def __init__(self) -> None:
        super().__init__()
        self._begun = False

    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            return Mark.BLANK
        self._begun = True
        kind = event_name(block) if _TOLD.search(block) else ""
        if kind == "end":
            return Mark.END
        if kind == "error":
            body = parse(data_of(block))
            self.error = describe(body.get("error") or body)
            return Mark.ERROR
        return Mark.EVENT

    def ends_at_framed_end(self) -> bool:
        return self._begun
