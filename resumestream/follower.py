"""Log → the tails of one process, of a stream that another process drains."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from .errors import ResumeStreamError, StoreError
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
                while not live.info.sealed:
                    worker = live.info.new.worker
                    with peers.follow(live.info.id, worker) as following:
                        while not live.info.sealed and live.info.new.worker == worker:
                            changed = following.arm()
                            if await self._look():
                                continue
                            with anyio.move_on_after(POLL_S) as silence:
                                await changed.wait()
                            if silence.cancelled_caught and not self._wanted():
                                return
        except ResumeStreamError as error:
            live.abandon(error)
        except Exception:
            logger.exception("stream %s cannot be followed", live.info.id)
            live.abandon(StoreError("the stream's log cannot be read; the server's log tells why"))
        finally:
            if not live.info.sealed and not live.abandoned:
                live.abandon()

    async def _look(self) -> bool:
        """Bring the Live up to the store. Whether there was something new."""
        live, known = self.live, self.live.info
        info = await self._store.stat(known.id)
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
