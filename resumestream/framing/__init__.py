"""How bodies are cut into blocks, one file a wire. Not one byte is changed: the blocks and the rest, joined, are the
input.

A log takes whole blocks only, so a half one is never delivered; where a wire has none, every byte is a boundary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .lines import LineSplitter
from .messages import MessageSplitter
from .sse import Splitter, data_of, event_name, has_data, held_data, with_id

__all__ = [
    "BYTES",
    "LINES",
    "MESSAGES",
    "SSE",
    "BlockSplitter",
    "Framing",
    "Splitter",
    "data_of",
    "event_name",
    "has_data",
    "with_id",
]


class BlockSplitter(Protocol):
    """Cuts one body into blocks as it arrives, in time linear in its length. Never raises."""

    @property
    def held(self) -> int:
        """Bytes that came in and are in no block yet."""
        ...

    def feed(self, data: bytes) -> list[bytes]:
        """The blocks that `data` completes, in order."""
        ...

    def rest(self) -> bytes:
        """What is held: the beginning of a block that has not ended, or what is none."""
        ...


@dataclass(frozen=True, slots=True)
class Framing:
    """A way to cut bodies into blocks."""

    media_types: frozenset[str] = frozenset()
    """Of the answers that are cut this way."""
    splitter: Callable[[], BlockSplitter] | None = None
    """None: every byte is a boundary."""
    held: Callable[[bytes], bytes] = bytes
    """The data in what a splitter still holds at the end of a body; it may be cut short. Empty: no event began."""


SSE = Framing(frozenset({"text/event-stream"}), Splitter, held_data)
LINES = Framing(
    frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}),
    LineSplitter,
)
MESSAGES = Framing(frozenset({"application/vnd.amazon.eventstream"}), MessageSplitter)
BYTES = Framing()
