"""What every refusal about a stream tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import ResumeStreamError, StreamGone
from .model import StreamInfo
from .offsets import format_offset


def gone(info: StreamInfo) -> StreamGone:
    """The refusal for a stream whose payload is no more."""
    outcome = info.seal.outcome if info.seal else "unknown"
    return StreamGone(
        f"Stream {info.id} was {info.gone}; it had ended {outcome} after {info.tail} bytes.", stream=info.id
    )


@contextmanager
def about(info: StreamInfo | None) -> Iterator[None]:
    """Refusals raised in here are about this stream: they name it, and how and where it ended if it did."""
    try:
        yield
    except ResumeStreamError as error:
        if info is not None and info.seal is not None:
            error.stream = error.stream or info.id
            latest = info.latest
            error.outcome, error.next_offset = info.seal.outcome, format_offset(latest.tail, latest.segment)
        raise
