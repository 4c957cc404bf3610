"""What serving processes say to each other, and how that looks in a datagram: a kind, the sender, streams by line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from ...model import StreamId
from .registry import is_id

MAX_BYTES = 16 * 1024
_STREAM = re.compile(r"[!-~]{1,255}")


class Kind(StrEnum):
    FOLLOW = "f"
    LEAVE = "l"
    CHANGED = "c"
    LOOK = "o"


@dataclass(frozen=True, slots=True)
class Message:
    kind: Kind
    sender: str
    streams: tuple[StreamId, ...] = ()

    def encode(self) -> bytes:
        return "\n".join((self.kind + self.sender, *self.streams)).encode("ascii")


def messages(kind: Kind, sender: str, streams: Iterable[StreamId]) -> Iterator[Message]:
    """As few as hold all the streams, each at most MAX_BYTES when encoded."""
    size, batch = MAX_BYTES, list[StreamId]()
    for stream in streams:
        if size + 1 + len(stream) > MAX_BYTES:
            if batch:
                yield Message(kind, sender, tuple(batch))
            size, batch = len(kind + sender), []
        size += 1 + len(stream)
        batch.append(stream)
    if batch:
        yield Message(kind, sender, tuple(batch))


def decode(datagram: bytes) -> Message | None:
    """None for what is none of ours."""
    try:
        head, *lines = datagram.decode("ascii").split("\n")
        kind = Kind(head[:1])
    except ValueError:
        return None
    if not is_id(head[1:]) or not all(map(_STREAM.fullmatch, lines)):
        return None
    return Message(kind, head[1:], tuple(map(StreamId, lines)))
