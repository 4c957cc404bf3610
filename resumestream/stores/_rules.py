"""What a store refuses and what a record becomes, free of storage: every store of this package decides here, and the
lifecycle table decides what may happen to a stream.

A rule either raises and nothing has happened, or returns the new record. Fencing comes before all else: an owner that
was fenced off must learn that, not that the stream has ended since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import (
    BindingMoved,
    LeaseLost,
    OffsetBeyondTail,
    OffsetConflict,
    StoreError,
    StreamGone,
    StreamNotFound,
    StreamSealed,
)
from ..lifecycle import ENDINGS, Moved, allows
from ..model import (
    EARLIER_KEPT,
    Attempt,
    Binding,
    Entry,
    Gone,
    Head,
    Lease,
    NewStream,
    Query,
    Seal,
    Segment,
    State,
    StreamId,
    StreamInfo,
    closed,
)

_ENDS_BY = {outcome: moved for moved, outcome in ENDINGS.items()}


def not_found(stream: StreamId) -> StreamNotFound:
    return StreamNotFound(f"there is no stream {stream}", stream=stream)


def owned(lease: Lease, *, epoch: int) -> None:
    if lease.epoch != epoch:
        raise LeaseLost(
            f"stream {lease.stream} is at epoch {epoch}; {lease.worker} held epoch {lease.epoch}", stream=lease.stream
        )


def appendable(lease: Lease, at: int, *, epoch: int, state: State, tail: int) -> None:
    """What an append must meet. Takes columns and not a record: it runs for every chunk."""
    owned(lease, epoch=epoch)
    if not allows(state, Moved.BYTES_LOGGED):
        raise StreamSealed(f"stream {lease.stream} has ended at offset {tail}", stream=lease.stream)
    if at != tail:
        raise OffsetConflict(at=at, tail=tail)


def continued(info: StreamInfo, epoch: int) -> StreamInfo:
    """Its owner, who has it at `epoch`, goes on with it."""
    lease = Lease(info.id, info.new.worker, epoch)
    appendable(lease, info.tail, epoch=info.epoch, state=info.state, tail=info.tail)
    return info


def readable(stream: StreamId, at: int, *, tail: int, gone: bool) -> None:
    if at < 0:
        raise ValueError(f"read at offset {at}; offsets start at 0")
    if gone:
        raise StreamGone(f"the payload of stream {stream} is no longer kept", stream=stream)
    if at > tail:
        raise OffsetBeyondTail(f"stream {stream} has {tail} bytes, none at offset {at}", stream=stream)


def bound(binding: Binding | None, new: NewStream, replaces: StreamId | None) -> Binding:
    """The key's binding once it means `new`."""
    present = binding.stream if binding else None
    if present != replaces:
        raise BindingMoved(
            f"the key means {present or 'no stream'}, not {replaces or 'none'}; read its binding again", stream=present
        )
    earlier = (*binding.earlier, binding.stream)[-EARLIER_KEPT:] if binding else ()
    return Binding(new.id, new.fingerprint, earlier)


def acquired(info: StreamInfo, worker: str, after: int) -> StreamInfo:
    if not allows(info.state, Moved.BYTES_LOGGED):
        raise StreamSealed(f"stream {info.id} has ended; there is nothing to take over", stream=info.id)
    if info.epoch != after:
        raise LeaseLost(f"stream {info.id} is at epoch {info.epoch}, not {after}: it was taken over", stream=info.id)
    return replace(info, new=replace(info.new, worker=worker), epoch=info.epoch + 1)


def begun(
    info: StreamInfo,
    lease: Lease,
    attempt: Attempt,
    head: Head | None,
    after: Sequence[Attempt],
    ended: Sequence[Segment],
) -> StreamInfo:
    owned(lease, epoch=info.epoch)
    if not allows(info.state, Moved.BYTES_LOGGED):
        raise StreamSealed(f"stream {info.id} has ended; no further call can belong to it", stream=info.id)
    return info.begun(attempt, head, after, ended)


def sealed(info: StreamInfo, lease: Lease, seal: Seal, now: float) -> StreamInfo:
    owned(lease, epoch=info.epoch)
    if not allows(info.state, _ENDS_BY[seal.outcome]):
        return info
    seal = replace(seal, sealed_at=now)
    return replace(info, seal=replace(seal, usage=None, model=""), attempts=closed(info.attempts, seal, info.tail))


def entries(info: StreamInfo) -> list[Entry]:
    """The ledger's entries of a stream that was just sealed."""
    new = info.new
    return [
        Entry(info.id, number, new.principal, new.labels, attempt) for number, attempt in enumerate(info.attempts, 1)
    ]


def place(entry: Entry) -> tuple[float, str, int]:
    """Where in the ledger an entry is."""
    return entry.attempt.ended_at or 0.0, entry.stream, entry.number


def page_of_ledger(since: float, after: Entry | None) -> tuple[float, str, int]:
    """Every entry of the page is behind this place."""
    start = (since, "", 0)
    return max(start, place(after)) if after else start


def cancel_requested(info: StreamInfo) -> StreamInfo:
    return replace(info, cancel_requested=True) if allows(info.state, Moved.STOP_ASKED) else info


def purged(info: StreamInfo, why: Gone, now: float) -> StreamInfo:
    if allows(info.state, Moved.PAYLOAD_DROPPED):
        return info.tombstone(why, now)
    if info.gone:
        return info
    raise StoreError(f"stream {info.id} is still live; seal it before its payload is dropped", stream=info.id)


def forgettable(info: StreamInfo) -> None:
    if not info.gone:
        raise StoreError(f"stream {info.id} still has its payload; purge it before it is forgotten", stream=info.id)


def matches(info: StreamInfo, query: Query) -> bool:
    """Whether a record is one that the query lists; `after` and `limit` are the lister's."""
    new = info.new
    return (
        query.principal in (None, new.principal)
        and query.state in (None, info.state)
        and query.upstream in (None, new.upstream)
        and (not query.keys or new.key in query.keys)
        and query.scope in (None, new.scope)
        and set(query.labels) <= set(new.labels)
    )


def page_start(after: StreamId, principal: str | None, query: Query) -> None:
    """A page goes on after a stream that is there and the asker's own; `principal` is that stream's, if there is one.
    The two failures look alike, or a page would tell of foreign streams."""
    if principal is None or query.principal not in (None, principal):
        raise not_found(after)
