"""Retention that time drives: what expired is dropped, what was dropped is forgotten, what is too much is evicted."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable

import anyio

from .errors import StoreBusy, StoreError, StoreFull, StreamNotFound
from .eviction import Eviction
from .model import Gone, StreamId, StreamInfo
from .policy import Policy
from .ports import LogStore

logger = logging.getLogger("resumestream")

SWEEP_S = 1
"""How often it looks for what is due: the precision of `retain_s` and `tombstone_s`."""
BATCH = 100
"""How many streams one step drops or forgets, so that a great many that are due at once delay nobody else's writes."""
PRUNE_S = 60
"""How often the ledger is pruned: the precision of `ledger_s`."""
AGAIN_S = 60
"""When a stream that could not be dropped or forgotten is tried again."""


class Sweep:
    """Several may sweep one store, in one process or in many: each act is idempotent.

    An expiry cuts no read that was open before it, for `erase_s`: `reading` says whether this process reads a stream.
    Of other processes nobody knows, so where there are any, every payload stays for `erase_s` after its expiry (new
    readers are refused from the expiry on: see `StreamInfo.as_of`), and a tombstone that runs out in that time may be
    forgotten as much later.
    """

    def __init__(
        self, store: LogStore, policy: Policy, eviction: Eviction, *, reading: Callable[[StreamId], bool]
    ) -> None:
        self._store, self._policy, self._eviction, self._reading = store, policy, eviction, reading
        self._aside: dict[StreamId, float] = {}
        """What failed, and when to try again."""
        self._held = 0
        """How many of those that were due last time are being read."""
        self._prune_at = -math.inf

    async def run(self) -> None:
        """Step for ever. Nothing that the store raises ends it."""
        while True:
            wait_s = await self.step()
            await anyio.sleep(wait_s)

    async def tidy(self) -> None:
        """For ever, beside `run`, since it may take long: twice in the time in which it is promised, so that what was
        dropped right after one is gone with the next."""
        every_s = wait_s = min(self._policy.erase_s, self._policy.relocate_s) / 2
        while True:
            await anyio.sleep(wait_s)
            wait_s = every_s if await self._guarded(self._tidy) else min(every_s, AGAIN_S)

    async def step(self) -> float:
        """Do one batch of what is due; returns after how many seconds the next step is worth it. Raises no StoreError:
        what failed is logged and tried again. Cancelled: some of the batch may be done."""
        more = await self._guarded(self._retire)
        await self._guarded(self._evict)
        now = self._store.now()
        if now >= self._prune_at and await self._guarded(self._prune):
            self._prune_at = now + PRUNE_S
        return 0 if more else SWEEP_S

    async def _guarded(self, part: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await part()
        except StoreError as error:
            logger.warning("the retention sweep goes on later: %s", error)
        except Exception:
            logger.exception("the retention sweep goes on later")
        return False

    async def _retire(self) -> bool:
        """Whether there may be more to do at once."""
        now, alone = self._store.now(), self._store.peers.alone()
        self._aside = {stream: again for stream, again in self._aside.items() if again > now}
        due = await self._store.due(BATCH + len(self._aside) + self._held)
        todo, held = list[StreamInfo](), 0
        for info in due:
            if info.id in self._aside:
                continue
            if info.gone or now >= info.expires_at + self._policy.erase_s or (alone and not self._reading(info.id)):
                todo.append(info)
            else:
                held += alone  # among peers all wait alike, and there may be very many
        self._held = held
        done = [await self._retired(info, now) for info in todo[:BATCH]]
        return len(done) == BATCH and any(done)

    async def _retired(self, info: StreamInfo, now: float) -> bool:
        try:
            if info.gone:
                await self._store.forget(info.id)
            else:
                await self._store.purge(info.id, Gone.EXPIRED)
        except (StoreBusy, StoreFull):
            raise  # no other stream would fare better
        except StreamNotFound:
            pass  # somebody else forgot it
        except Exception as error:
            self._aside[info.id] = now + AGAIN_S
            unknown = not isinstance(error, StoreError)
            logger.warning("stream %s is due and cannot be retired: %s", info.id, error, exc_info=unknown)
            return False
        return True

    async def _evict(self) -> bool:
        return await self._eviction.down_to(self._policy.max_total_bytes)

    async def _prune(self) -> bool:
        await self._store.prune(self._store.now() - self._policy.ledger_s)
        return True

    async def _tidy(self) -> bool:
        await self._store.tidy()
        return True
