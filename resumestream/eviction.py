"""Room for new payload: what is sealed goes, the oldest seal first; what is live never does."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from .errors import StoreBusy, StoreError, StoreFull, StreamNotFound
from .model import Gone, StreamId, StreamInfo
from .ports import LogStore

logger = logging.getLogger("resumestream")

BATCH = 100
"""How many candidates are looked up at once, and how many that cannot be dropped are passed over."""


class Eviction:
    """Drops payloads until few enough bytes are kept. One at a time in a process, so that two who need the same room
    do not make it twice; two processes that do may evict a little more than they had to.

    `evicted` is told each tombstone: who reads that stream is cut.
    """

    def __init__(self, store: LogStore, evicted: Callable[[StreamInfo], None]) -> None:
        self._store, self._evicted = store, evicted
        self._turn = anyio.Lock()

    async def down_to(self, most: int, principal: str | None = None) -> bool:
        """Evict until at most `most` bytes are kept, of `principal` or of all. False: there is nothing left to evict.

        Cancelled: what was evicted so far is. Raises StoreError.
        """
        if await self._excess(most, principal) <= 0:
            return True
        passed_over = set[StreamId]()
        async with self._turn:
            while (excess := await self._excess(most, principal)) > 0:
                oldest = await self._store.oldest(BATCH + len(passed_over), principal)
                candidates = [info for info in oldest if info.id not in passed_over]
                if not candidates or len(passed_over) >= BATCH:
                    return False
                for info in candidates:
                    if await self._dropped(info.id):
                        excess -= info.tail
                    else:
                        passed_over.add(info.id)
                    if excess <= 0:
                        break
        return True

    async def _excess(self, most: int, principal: str | None) -> int:
        return (await self._store.kept(principal)).payload_bytes - most

    async def _dropped(self, stream: StreamId) -> bool:
        try:
            self._evicted(await self._store.purge(stream, Gone.EVICTED))
        except (StoreBusy, StoreFull):
            raise  # no other stream would fare better
        except StreamNotFound:
            return False  # somebody else dropped it, and forgot it
        except StoreError as error:
            logger.warning("stream %s cannot be evicted and is passed over: %s", stream, error)
            return False
        return True
