"""Whatever no dialect knows: JSON bodies, NDJSON, binary event streams, other people's events."""

from __future__ import annotations

from ..framing import has_data
from ..ports import Mark, Scanner


class Unknown:
    """Ends where its body ends as framed. Nothing can be added to it without breaking somebody's client."""

    name = "unknown"
    keepalive: bytes | None = None

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        return None


class _Scanner:
    error = ""

    def scan(self, block: bytes) -> Mark:
        return Mark.EVENT if has_data(block) else Mark.BLANK

    def ends_at_framed_end(self) -> bool:
        return True
