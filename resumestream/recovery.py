"""Sealing what nobody drains any more. It never calls a provider again."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

from .dialects import spoken
from .endings import Ending
from .errors import LeaseLost, StreamNotFound, StreamSealed
from .framing import Splitter
from .model import StreamId, StreamInfo
from .policy import Policy
from .ports import LogStore
from .reading import Reading

logger = logging.getLogger("resumestream")

LAST_BYTES = 256 * 1024
"""How far back a log is looked at for the end of its answer; one block of a replay."""


async def recover(store: LogStore, worker: str, policy: Policy, *, running: Collection[StreamId], because: str) -> None:
    """Seal every unsealed stream that is not among `running`: the store is ours alone, so it has no owner. Raises
    StoreError.

    `completed` or `provider_error` if its end is in the log already, `cancelled` if that was asked for, else
    `interrupted`, with `because` as the detail.
    """
    for info in await store.unsealed():
        if info.id in running:
            continue
        asked = Ending.of("requested") if info.cancel_requested else Ending.of(because)
        try:
            lease = await store.acquire(info.id, worker)
            ending = await _logged_end(store, info, policy) or asked
            await store.seal(lease, ending.seal)
        except (StreamSealed, LeaseLost, StreamNotFound):
            continue
        logger.warning("stream %s: sealed %s (%s)", info.id, ending.seal.outcome, ending.detail)


async def _logged_end(store: LogStore, info: StreamInfo, policy: Policy) -> Ending | None:
    """The end of the answer, if the log has it: its owner died in the moment between that and the seal."""
    head, start = info.head, max(0, info.tail - LAST_BYTES)
    if head is None or not head.is_sse:
        return None
    data = b""
    while start + len(data) < info.tail:
        data += await store.read(info.id, start + len(data), LAST_BYTES)
    where = info.new.upstream or "the source"
    reading = Reading(spoken(info.new.dialect, head).scanner(), sse=True, policy=policy, where=where)
    if start == 0:
        reading.feed(data)
        return reading.ended
    for block in Splitter().feed(data)[1:]:  # the first may be the rest of an event
        reading.feed(block)
    return reading.ended and replace(reading.ended, released=False)  # what comes so late was not the first
