"""Ending streams that another process has, or had. It never calls a provider again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import anyio

from .dialects import spoken
from .endings import Ending
from .errors import LeaseLost, StoreBusy, StoreError, StoreFull, StreamNotFound, StreamSealed
from .model import Attempt, Gone, Lease, StreamId, StreamInfo
from .policy import Policy
from .ports import LogStore
from .reading import Reading

logger = logging.getLogger("resumestream")

AT_ONCE = 16
"""Streams that are ended side by side: their commits are grouped."""
LAST_BYTES = 256 * 1024
"""How far back a log is looked at for the end of its answer; one block of a replay."""


Adopt = Callable[[StreamInfo, Lease], Awaitable[bool]]
"""Whether somebody goes on with a stream that was taken over, and will end it."""


Sealed = Callable[[StreamInfo], None]
"""Hears of each stream that was sealed here, right after it."""


async def _nobody(info: StreamInfo, lease: Lease) -> bool:
    return False


def _unheard(info: StreamInfo) -> None:
    pass


async def recover(
    store: LogStore,
    policy: Policy,
    *,
    running: Callable[[StreamId], bool],
    adopt: Adopt = _nobody,
    sealed: Sealed = _unheard,
) -> None:
    """Take over every stream whose owner is lost, and those of this process that are not `running`: given up here, they
    have no owner. Seal them, unless somebody can `adopt` them. What is damaged is left, and said. Raises StoreBusy,
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
                await _end(store, info, policy, adopt, sealed)
            except (StoreBusy, StoreFull) as error:
                failed.append(error)
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(end)
    if failed:
        raise failed[0]


async def delete(store: LogStore, stream: StreamId, *, sealed: Sealed = _unheard) -> StreamInfo:
    """Seal a stream `cancelled` if it is not sealed yet, whoever drains it, and drop its payload: a forced takeover.

    Cancelled, it may be sealed and not yet dropped: deleting it again does the rest. Raises StreamNotFound,
    StoreError.
    """
    while not (info := await store.stat(stream)).sealed:
        with suppress(LeaseLost, StreamSealed):
            lease, _ = await take(store, info)
            sealed(await store.seal(lease, Ending.of("deleted").seal))
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
    return lease, info


async def _end(store: LogStore, info: StreamInfo, policy: Policy, adopt: Adopt, sealed: Sealed) -> None:
    """Raises StoreBusy, StoreFull."""
    asked = Ending.of("given_up" if info.new.worker == store.peers.me else "process_died")
    try:
        lease, info = await take(store, info)
        if info.cancel_requested:
            asked = Ending.of("requested")
        ending = await _logged_end(store, info, policy)
        if ending is None and not info.cancel_requested and await adopt(info, lease):
            logger.warning("stream %s: its owner is lost; going on with its provider call", info.id)
            return
        ending = ending or asked
        sealed(await store.seal(lease, ending.seal))
    except (StreamSealed, LeaseLost, StreamNotFound):
        return
    except (StoreBusy, StoreFull):
        raise
    except StoreError:
        logger.exception("stream %s has no owner and cannot be sealed", info.id)
        return
    logger.warning("stream %s: sealed %s (%s)", info.id, ending.seal.outcome, ending.detail)


async def _logged_end(store: LogStore, info: StreamInfo, policy: Policy) -> Ending | None:
    """The end of the answer, if the log has it: its owner died in the moment between that and the seal."""
    head, start = info.head, max(info.base, info.tail - LAST_BYTES)
    if head is None:
        return None
    dialect = spoken(info.new.dialect, head)
    splitter = dialect.framing.splitter
    if splitter is None:
        return None
    data = b""
    try:
        while start + len(data) < info.tail:
            data += await store.read(info.id, start + len(data), LAST_BYTES)
    except StoreError as error:
        logger.error("stream %s: the end of its log cannot be read: %s", info.id, error.message)
        return None
    where = info.new.upstream or "the source"
    reading = Reading(dialect, policy=policy, where=where)
    if start == info.base:
        reading.feed(data)
        return reading.ended
    for block in splitter().feed(data)[1:]:  # the first may be the rest of an event
        reading.feed(block)
    return reading.ended and replace(reading.ended, released=False)  # what comes so late was not the first
