"""A stream's record as JSON: first a sentence for people, then everything for programs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from ..model import State, StreamInfo
from ..offsets import format_offset
from ..usage import Usage
from .headers import timestamp


def sentence(info: StreamInfo) -> str:
    """What happened, for people."""
    size = f"{info.tail} bytes, {info.events} events" if info.events else f"{info.tail} bytes"
    match info.state:
        case State.PENDING:
            return f"pending: {info.new.upstream or 'the source'} has not answered yet"
        case State.STREAMING:
            return f"streaming: {size} so far"
    assert info.seal is not None
    if info.gone:
        return f"{info.seal.outcome}: {size} ({info.gone}; the payload is no longer kept)"
    return f"{info.seal.outcome}: {info.seal.message}" + (f"; {size}" if info.completed else "")


def describe(info: StreamInfo, *, node: str, durability: str) -> dict[str, Any]:
    """The record for `GET /streams/{id}/info` and for the command line."""
    new, seal, head = info.new, info.seal, info.head
    return {
        "summary": sentence(info),
        "id": info.id,
        "state": info.state,
        "outcome": seal.outcome if seal else None,
        "detail": {"code": seal.detail, "message": seal.message} if seal else None,
        "upstream": new.upstream,
        "dialect": "unknown" if seal and seal.foreign else new.dialect,
        "content_type": head.content_type if head else None,
        "upstream_status": head.status if head else None,
        "bytes": info.tail,
        "events": info.events,
        "next_offset": format_offset(info.latest.tail, info.segment),
        "closed": info.sealed,
        "labels": list(new.labels),
        "previous": new.previous,
        "cancel_requested": info.cancel_requested,
        "durability": durability,
        "node": node,
        "owner": {"worker": new.worker, "epoch": info.epoch},
        "segments": [_segment(info.seen(number)) for number in range(1, info.segment + 1)],
        "attempts": [
            {
                "upstream": attempt.upstream,
                "status": attempt.status,
                "request_id": attempt.request_id,
                "started_at": timestamp(attempt.started_at),
                "ended_at": None if attempt.ended_at is None else timestamp(attempt.ended_at),
                "bytes": None if attempt.ended_at is None else attempt.bytes,
                "outcome": attempt.outcome,
                "model": attempt.model,
                "usage": attempt.usage and _usage(attempt.usage),
            }
            for attempt in info.attempts
        ],
        "created_at": timestamp(new.created_at),
        "sealed_at": timestamp(seal.sealed_at) if seal else None,
        "expires_at": None if math.isinf(info.expires_at) else timestamp(info.expires_at),
        "gone": {"why": info.gone, "at": timestamp(info.gone_at)} if info.gone and info.gone_at is not None else None,
    }


def _segment(seen: StreamInfo) -> dict[str, Any]:
    return {
        "segment": seen.segment,
        "bytes": seen.tail,
        "events": seen.events,
        "upstream_status": seen.head.status if seen.head else None,
        "outcome": seen.seal and seen.seal.outcome,
        "detail": seen.seal and seen.seal.detail,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """Normalised, and beside that in the provider's own words."""
    known = asdict(usage)
    verbatim = known.pop("verbatim")
    return known | {"verbatim": json.loads(verbatim) if verbatim else None}
