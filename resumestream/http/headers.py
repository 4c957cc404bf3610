"""The headers of ours on answers about streams: one function a group, nothing else knows their names."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from ..model import Head, Headers, StreamInfo
from ..offsets import NOW, Position
from ..upstream import replayable
from .positions import bounded

UNCACHED: Headers = (
    ("cache-control", "no-store, no-transform"),
    ("x-accel-buffering", "no"),
    ("x-content-type-options", "nosniff"),
)
"""No cache keeps it, nothing re-encodes it, nginx does not buffer it, and no browser takes it for a page."""

_REPLACED = frozenset({name for name, _ in UNCACHED} | {"content-length", "date", "server"})


def of_stream(info: StreamInfo, start: Position, *, node: str) -> Headers:
    """On every answer that reads a stream: which, from where (the offset of the first body byte), and who serves it."""
    here = (("stream-id", info.id), ("stream-offset", str(start)), ("stream-node", node))
    return (*here, *boundary(info, start.segment))


def boundary(info: StreamInfo, segment: int) -> Headers:
    """On what reads a segment that another follows: how it ended, and the offset at which the next one begins. All else
    about the end of a stream is of the whole one."""
    if segment == info.segment:
        return ()
    ended = info.ended[segment - 1].seal.outcome
    return (("stream-segment-outcome", ended.value), ("stream-next-segment", str(Position(segment + 1, 0))))


def outcome(info: StreamInfo) -> Headers:
    """On every answer about a sealed stream."""
    return (("stream-outcome", info.seal.outcome.value),) if info.seal else ()


def found_at(info: StreamInfo, head: Head, streams: str | None, *, replayed: bool) -> Headers:
    """To who asked for the call: where its stream is found again, and whether it was an earlier request's call.
    `streams` is the path of the streams face, or None where that is not known."""
    location = f"{streams}/{info.id}?live={'events' if head.is_sse else 'tail'}"
    return (
        *((("location", location),) if streams is not None and head.ok else ()),
        *((("idempotent-replayed", "true"),) if replayed else ()),
    )


def position(info: StreamInfo, next_: Position) -> Headers:
    """Where a catch-up page ends, and whether more can follow in its segment."""
    seen = info.seen(next_.segment)
    closed = (("stream-closed", "true"),) if seen.sealed and next_.at == seen.tail else ()
    up_to_date = (("stream-up-to-date", "true"),) if next_.at == seen.tail else ()
    return (("stream-next-offset", str(next_)), *up_to_date, *closed)


def record(info: StreamInfo) -> Headers:
    """What HEAD tells: of the whole stream, and the position of its latest segment's tail."""
    head = info.head
    upstream = (
        (("stream-content-type", head.content_type), ("stream-upstream-status", str(head.status))) if head else ()
    )
    expires = info.expires_at
    until = () if math.isinf(expires) else (("stream-expires-at", timestamp(expires)),)
    return (("stream-state", info.state.value), *outcome(info), *position(info, bounded(info, NOW)), *until, *upstream)


def answer(info: StreamInfo, head: Head, *, replayed: bool, now: float) -> Headers:
    """The upstream's own headers as this caller gets them: a replay has no rate limit, and less time to wait."""
    kept = [(name, value) for name, value in head.headers if name not in _REPLACED]
    if not replayed:
        return tuple(kept)
    kept = [(name, value) for name, value in replayable(tuple(kept)) if name not in ("retry-after", "retry-after-ms")]
    if info.seal and info.seal.retry_at is not None:
        kept.append(("retry-after", str(max(0, math.ceil(info.seal.retry_at - now)))))
    return tuple(kept)


def timestamp(at: float) -> str:
    """Store clock as RFC 3339 text in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
