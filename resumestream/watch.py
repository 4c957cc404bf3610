"""What a process does about the others that serve its store: shows that it lives, heeds what they did to its streams,
and seals the streams of those that died."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

import anyio

from .drain import Drain
from .endings import Ending
from .errors import StoreError
from .model import StreamId
from .policy import Policy
from .ports import LogStore
from .recovery import Adopt, Sealed, recover

logger = logging.getLogger("resumestream")

WATCH_S = 0.5
"""How often the store is looked at without being told: for stored intents, and for owners that died."""
AGAIN_S = 30
"""When streams that could not be ended, damaged ones, are tried again."""
BEATS = 3
"""Heartbeats, and looks at those of others, in one lease."""


class Watch:
    """`drains` run here; `running` says whether a stream of this process has somebody here who will end it; `adopt`
    goes on with one whose owner is lost, where that can be done; `sealed` hears of those that are ended here."""

    def __init__(
        self,
        store: LogStore,
        policy: Policy,
        drains: Mapping[StreamId, Drain],
        running: Callable[[StreamId], bool],
        adopt: Adopt,
        sealed: Sealed,
    ) -> None:
        self._store, self._policy, self._drains, self._running = store, policy, drains, running
        self._adopt, self._sealed = adopt, sealed
        self._given_up = False
        self._stuck: dict[str, float] = {}
        """Lost workers whose streams could not all be ended, and when to try again."""
        self._asked = anyio.Event()
        self._said = ""

    def look(self) -> None:
        """Look at the store now."""
        self._asked.set()

    async def beat(self) -> None:
        """For ever: on the loop that drains, so that a loop which hangs is seen to."""
        peers = self._store.peers
        while True:
            peers.beat()
            peers.observe()
            await anyio.sleep(self._policy.lease_s / BEATS)

    async def heed(self) -> None:
        """For ever: stop what others asked to stop, let go of what they took. A store that fails is asked again."""
        while True:
            with anyio.move_on_after(WATCH_S):
                await self._asked.wait()
            self._asked = anyio.Event()
            await self._guarded(self._heed)

    async def rescue(self) -> None:
        """For ever: end the streams that nobody drains any more. Beside `heed`, since it may take its time."""
        while True:
            await anyio.sleep(WATCH_S)
            await self._guarded(self._rescue)

    async def recover(self) -> None:
        """Seal what has no owner, now. Raises StoreError."""
        await recover(self._store, self._policy, running=self._running, adopt=self._adopt, sealed=self._sealed)
        peers = self._store.peers
        for worker in set(peers.workers()) - await self._store.owners():
            peers.bury(worker)

    async def _guarded(self, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except StoreError as error:
            if error.message != self._said:
                logger.warning("the store does not answer; trying again: %s", error.message)
            self._said = error.message
        except Exception:
            logger.exception("the store could not be looked at; trying again")
        else:
            self._said = ""

    async def _heed(self) -> None:
        # Before the look: what starts meanwhile is not in its answer; nor is what is not in the store yet
        drains = {stream: drain for stream, drain in self._drains.items() if drain.begun}
        held = await self._store.held(self._store.peers.me)
        for stream, drain in drains.items():
            if held.get(stream):
                drain.stop(Ending.of("requested"))
            elif stream not in held:
                drain.fence()
        # Its drain, or its rescue, ended without a seal
        self._given_up |= not all(map(self._running, held))

    async def _rescue(self) -> None:
        peers, now = self._store.peers, anyio.current_time()
        lost = {worker for worker in await self._store.owners() - {peers.me} if peers.lost(worker)}
        due = {worker for worker in lost if self._stuck.get(worker, now) <= now}
        if not due and not self._given_up:
            return
        self._given_up = False
        await self.recover()
        left = await self._store.owners() & lost
        self._stuck = dict.fromkeys(left, now + AGAIN_S)
