"""Ending streams that another process has, or had. It never calls a provider again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import anyio

from .dialects import spoken_in
from .endings import DELETED, Ending
from .errors import LeaseLost, StoreBusy, StoreError, StoreFull, StreamNotFound, StreamSealed
from .model import Attempt, Gone, Lease, Seal, StreamId, StreamInfo
from .policy import Policy
from .ports import LogStore
from .reading import Reading

logger = logging.getLogger("resumestream")

AT_ONCE = 16
"""Streams that are ended side by side: their commits are grouped."""
BLOCK_BYTES = 256 * 1024
"""How much of a log is looked at in one go; one block of a replay."""


class Heir(Protocol):
    """Sees to streams whose owner is lost, and to their calls where the provider goes on by itself. Never waits."""

    def adopt(self, info: StreamInfo, lease: Lease) -> bool:
        """Whether it goes on with the stream, and will end it."""
        ...

    def stop(self, info: StreamInfo) -> None:
        """Have the provider stop."""
        ...

    def sealed(self, info: StreamInfo) -> None:
        """Hears of each stream that was sealed here, right after it."""
        ...


async def _leave(info: StreamInfo) -> None:
    pass


def _unheard(info: StreamInfo) -> None:
    pass


async def recover(store: LogStore, policy: Policy, *, running: Callable[[StreamId], bool], heir: Heir) -> None:
    """Take over every stream whose owner is lost, and those of this process that are not `running`: given up here, they
    have no owner. Seal them, unless `heir` adopts them. What is damaged is left, and said. Raises StoreBusy,
    StoreFull, and StoreError where the store fails as a whole.

    `completed` or `provider_error` if its end is in the log already, `cancelled` if that was asked for, else
    `interrupted`.
    """
    me = store.peers.me
    failed: list[StoreError] = []

    def ownerless(info: StreamInfo) -> bool:
        owner = info.new.worker
        return not running(info.id) if owner == me else store.peers.lost(owner)

    left = (info for info in await store.unsealed() if ownerless(info))

    async def end() -> None:
        for info in left:
            try:
                await _end(store, info, policy, heir)
            except (StoreBusy, StoreFull) as error:
                failed.append(error)
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(end)
    if failed:
        raise failed[0]


async def delete(
    store: LogStore,
    stream: StreamId,
    *,
    stop: Callable[[StreamInfo], Awaitable[None]] = _leave,
    sealed: Callable[[StreamInfo], None] = _unheard,
) -> StreamInfo:
    """Seal a stream `cancelled` if it is not sealed yet, whoever drains it, `stop` its provider call then, and drop its
    payload: a forced takeover. `sealed` hears of the seal.

    Cancelled, it may be sealed and not yet dropped: deleting it again does the rest. Raises StreamNotFound,
    StoreError.
    """
    while not (info := await store.stat(stream)).sealed:
        with suppress(LeaseLost, StreamSealed):
            lease, info = await take(store, info)
            sealed(await store.seal(lease, Ending.of(DELETED).seal))
            await stop(info)
    return await store.purge(stream, Gone.DELETED)


async def take(store: LogStore, info: StreamInfo) -> tuple[Lease, StreamInfo]:
    """The lease of a stream that another process has, or had, and its record as nobody else changes it any more.
    Raises LeaseLost, StreamSealed, StreamNotFound, StoreError."""
    owner = info.new.worker
    lease = await store.acquire(info.id, store.peers.me, after=info.epoch)
    store.peers.tell(owner)  # it may live, or only have been asleep
    info = await store.stat(info.id)
    if not info.attempts:  # the claim is the call, as far as anybody can tell
        await store.begin(lease, Attempt(info.new.upstream, info.new.created_at), info.head)
        info = await store.stat(info.id)
    return lease, info


async def _end(store: LogStore, info: StreamInfo, policy: Policy, heir: Heir) -> None:
    """Raises StoreBusy, StoreFull."""
    asked = Ending.of("given_up" if info.new.worker == store.peers.me else "process_died")
    try:
        lease, info = await take(store, info)
        if info.cancel_requested:
            asked = Ending.of("requested")
        reading = await _read(store, info, policy)
        ended = reading.logged_end if reading and not _in_flight(info) else None
        goes_on = info.attempts[-1].ended_at is None and not info.cancel_requested
        if ended is None and goes_on and heir.adopt(info, lease):
            logger.warning("stream %s: its owner is lost; going on with its provider call", info.id)
            return
        ending = ended or asked
        heir.sealed(await store.seal(lease, _told(ending.sealing(info.attempts), info, reading)))
        if ended is None:
            heir.stop(info)
    except (StreamSealed, LeaseLost, StreamNotFound):
        return
    except (StoreBusy, StoreFull):
        raise
    except Exception:  # one that is damaged, for one: the others are ended
        logger.exception("stream %s has no owner and cannot be sealed", info.id)
        return
    logger.warning("stream %s: sealed %s (%s)", info.id, ending.seal.outcome, ending.detail)


def _in_flight(info: StreamInfo) -> bool:
    """Whether a call was made of which readers have nothing yet: what is in the log is of an earlier one."""
    latest = info.attempts[-1]
    return latest.ended_at is None and latest.status is None


def _told(seal: Seal, info: StreamInfo, reading: Reading | None) -> Seal:
    if reading is None:
        return seal
    return replace(seal, foreign=reading.foreign) if _in_flight(info) else reading.telling(seal)


async def _read(store: LogStore, info: StreamInfo, policy: Policy) -> Reading | None:
    """What the log has of the latest answer that readers got: all of it, or the first and the last block of a long one.
    Its end may be there: its owner died in the moment between that and the seal. None where nothing can be told from
    it."""
    head, base, tail = info.head, info.base, info.tail
    if head is None or not head.ok:
        return None
    dialect = spoken_in(info.new, head)
    splitter = dialect.framing.splitter
    if splitter is None:
        return None
    reading = Reading(dialect, policy=policy, where=info.new.upstream or "the source")
    try:
        reading.feed(await _logged(store, info.id, base, min(tail, base + BLOCK_BYTES)))
        if tail - base <= 2 * BLOCK_BYTES:
            reading.feed(await _logged(store, info.id, base + BLOCK_BYTES, tail))
            return reading
        reading.again()
        last = await _logged(store, info.id, tail - BLOCK_BYTES, tail)
    except StoreError as error:
        logger.error("stream %s: the end of its log cannot be read: %s", info.id, error.message)
        return None
    blocks = splitter()
    for block in (*blocks.feed(last)[1:], blocks.rest()):  # the first may be the rest of an event
        reading.feed(block)
    if reading.ended:
        reading.ended = replace(reading.ended, released=False)  # what comes so late was not the first
    return reading


async def _logged(store: LogStore, stream: StreamId, at: int, end: int) -> bytes:
    data = b""
    while at + len(data) < end:
        data += await store.read(stream, at + len(data), end - at - len(data))
    return data
