"""Log → the tails of one process, of a stream that another process drains."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from .errors import ResumeStreamError, StoreBusy, StoreError
from .live import NEAR_BYTES, Live, Windows
from .model import StreamInfo
from .ports import LogStore

logger = logging.getLogger("resumestream")

POLL_S = 0.5
"""How often it looks without being told: its owner may have died, and then somebody else ends the stream."""


class Follower:
    """Keeps a Live as its owner's is, so that many tails here cost one look a change. While it runs, its stream has a
    reader for its owner. `wanted` says whether anybody here still reads."""

    def __init__(self, store: LogStore, info: StreamInfo, windows: Windows, wanted: Callable[[], bool]) -> None:
        self._store, self._wanted = store, wanted
        self._scope = anyio.CancelScope()
        self._wanted_at = anyio.current_time()
        self.live = Live(info, windows, found=True)

    def stop(self) -> None:
        """Nobody reads any more."""
        self._scope.cancel()

    async def run(self) -> None:
        """Until the stream has ended, cannot be read, or nobody wants it; tells the Live which. Never raises but on
        cancellation from outside."""
        live, peers = self.live, self._store.peers
        try:
            with self._scope:
                while not live.info.sealed and self._is_wanted():
                    worker = live.info.new.worker
                    with peers.follow(live.info.id, worker) as following:
                        while not live.info.sealed and live.info.new.worker == worker and self._is_wanted():
                            changed = following.arm()
                            if not await self._look():
                                with anyio.move_on_after(POLL_S):
                                    await changed.wait()
        except ResumeStreamError as error:
            live.abandon(error)
        except Exception:
            logger.exception("stream %s cannot be followed", live.info.id)
            live.abandon(StoreError("the stream's log cannot be read; the server's log tells why"))
        finally:
            if not live.info.sealed and not live.abandoned:
                live.abandon()

    def _is_wanted(self) -> bool:
        """Whether somebody reads, or did so within POLL_S: a reader may still be on its way."""
        now = anyio.current_time()
        if self._wanted():
            self._wanted_at = now
        return now <= self._wanted_at + POLL_S

    async def _look(self) -> bool:
        """Bring the Live up to the store. Whether there was something new."""
        live, known = self.live, self.live.info
        try:
            info = await self._store.stat(known.id)
        except StoreBusy:  # a takeover, for one, that has not found the end of the log yet
            return False
        if info == known:
            return False
        if info.sealed:
            live.sealed(info)
        else:
            live.followed(info, await self._news(known.tail, info.tail))
        return True

    async def _news(self, at: int, tail: int) -> bytes:
        """The payload from `at` to `tail`, if the window could hold it: else tails read the store."""
        parts = list[bytes]()
        while at < tail <= at + NEAR_BYTES:
            parts.append(await self._store.read(self.live.info.id, at, tail - at))
            at += len(parts[-1])
        return b"".join(parts)
