"""What a process does about the others that serve its store: shows that it lives, heeds what they did to its streams,
and seals the streams of those that died."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import anyio

from .drain import Drain
from .endings import Ending
from .errors import StoreError
from .model import StreamId
from .policy import Policy
from .ports import LogStore
from .recovery import recover

logger = logging.getLogger("resumestream")

WATCH_S = 0.5
"""How often the store is looked at without being told: for stored intents, and for owners that died."""
BEATS = 3
"""Heartbeats, and looks at those of others, in one lease."""


class Watch:
    """`drains` run here; `running` says whether a stream of this process has somebody here who will end it."""

    def __init__(
        self, store: LogStore, policy: Policy, drains: Mapping[StreamId, Drain], running: Callable[[StreamId], bool]
    ) -> None:
        self._store, self._policy, self._drains, self._running = store, policy, drains, running
        self._given_up = False
        self._asked = anyio.Event()

    def look(self) -> None:
        """Look at the store now."""
        self._asked.set()

    def gave_up(self) -> None:
        """A drain ended without a seal: nobody owns its stream now."""
        self._given_up = True

    async def beat(self) -> None:
        """For ever: on the loop that drains, so that a loop which hangs is seen to."""
        peers = self._store.peers
        while True:
            peers.beat()
            peers.observe()
            await anyio.sleep(self._policy.lease_s / BEATS)

    async def run(self) -> None:
        """For ever; a store that fails is tried again."""
        while True:
            with anyio.move_on_after(WATCH_S):
                await self._asked.wait()
            self._asked = anyio.Event()
            try:
                await self._heed()
                await self._recover()
            except Exception as error:
                logger.warning("the store does not answer; trying again", exc_info=not isinstance(error, StoreError))

    async def _heed(self) -> None:
        """Stop what others asked to stop; let go of what they took."""
        if not self._drains:
            return
        # Before the look: what starts meanwhile is not in its answer; nor is what is not in the store yet
        drains = {stream: drain for stream, drain in self._drains.items() if drain.begun}
        held = await self._store.held(self._store.peers.me)
        for stream, drain in drains.items():
            if held.get(stream):
                drain.stop(Ending.of("requested"))
            elif stream not in held:
                drain.fence()

    async def _recover(self) -> None:
        peers = self._store.peers
        lost = {worker for worker in await self._store.owners() - {peers.me} if peers.lost(worker)}
        given_up, self._given_up = self._given_up, False  # before the work: another may be given up meanwhile
        if not lost and not given_up:
            return
        try:
            await self.recover()
        except BaseException:
            self._given_up |= given_up
            raise

    async def recover(self) -> None:
        """Seal what has no owner, now. Raises StoreError."""
        await recover(self._store, self._policy, running=self._running)
        peers = self._store.peers
        for worker in set(peers.workers()) - await self._store.owners():
            peers.bury(worker)
