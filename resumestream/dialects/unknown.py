"""Events of somebody whose grammar we do not know."""

from __future__ import annotations

from ..framing import SSE, has_data
from ..ports import Dialect, Mark, Scanner
from .scanning import Telling


class Unknown(Dialect):
    """Ends where its body ends as framed. Nothing can be added to it without breaking somebody's client."""

    name = "unknown"
    framing = SSE
    ends_as_framed = True

    def scanner(self) -> Scanner:
        return _Scanner()


class _Scanner(Telling):
    def scan(self, block: bytes) -> Mark:
        return Mark.EVENT if has_data(block) else Mark.BLANK
