"""An answer that outlives its connection, because the provider goes on without us: what was lost is asked for again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio

from .. import remote
from ..errors import ResumeStreamError, UpstreamLost
from ..framing import Splitter, has_data
from ..model import Head, Remote
from ..ports import Answer, Source

logger = logging.getLogger("resumestream")

Beside = Callable[[str, str], Awaitable[Source]]
"""Method, target: another request to the same upstream."""

TRIES = 5
"""Connections in a row that bring nothing, after which the answer is lost."""
BACKOFF_S, MAX_BACKOFF_S = 0.2, 5.0
STOP_S = 2.0
"""How long the provider may take to say that it stops."""


class Resuming:
    """Implements ports.Answer. `given` bytes of it, which begin with `first` and end with `last`, are known already."""

    def __init__(
        self, answer: Answer, where: Remote, beside: Beside, *, given: int = 0, first: bytes = b"", last: bytes = b""
    ) -> None:
        self._answer, self._beside = answer, beside
        self.remote: Remote | None = where
        self._where, self._given, self._first, self._last = where, given, first, last
        self._splitter = Splitter() if where.kind == "responses" else None
        """It is gone on with behind a whole event."""
        self._barren = 0
        self._over: Exception | None = None
        self.head: Head = answer.head
        self.framed = answer.framed

    async def receive(self) -> bytes:
        """See ports.Answer. Waits as long as it takes to be connected again; cancelled, nothing is lost."""
        while not self._over:
            try:
                data = await self._answer.receive()
            except UpstreamLost as lost:
                if not await self._connected(lost):
                    self._over = lost
            except anyio.EndOfStream as end:
                self._over = end
            else:
                if whole := self._whole(data):
                    return self._taken(whole)
        if self._splitter and (rest := self._splitter.rest()):
            self._splitter = None
            return self._taken(rest)
        raise self._over

    async def cancel(self) -> None:
        """See ports.Answer."""
        with anyio.move_on_after(STOP_S, shield=True):
            try:
                if target := remote.stopping(self._where, self._first):
                    stopped = await (await self._beside("POST", target)).open()
                    await stopped.aclose()
                    if not stopped.head.ok:
                        logger.warning("the provider answered %d to a stop", stopped.head.status)
            except ResumeStreamError as error:
                logger.warning("the provider could not be told to stop: %s", error.message)

    async def aclose(self) -> None:
        await self._answer.aclose()

    def _whole(self, data: bytes) -> bytes:
        if self._splitter is None:
            return data
        blocks = self._splitter.feed(data)
        events = [block for block in blocks if has_data(block)]
        if events:
            self._first = self._first or events[0]
            self._last = events[-1]
        return b"".join(blocks)

    def _taken(self, data: bytes) -> bytes:
        self._given += len(data)
        self._barren = 0
        return data

    async def _connected(self, lost: UpstreamLost) -> bool:
        """Whether there is another connection, to go on with."""
        while self._barren < TRIES:
            target = remote.reading_on(self._where, self._first, self._last, self._given)
            if target is None:
                return False
            logger.warning("a provider call lost its connection (%s); reading on", lost.detail)
            if self._barren:
                await anyio.sleep(min(BACKOFF_S * 2 ** (self._barren - 1), MAX_BACKOFF_S))
            self._barren += 1
            await self._answer.aclose()
            try:
                self._answer = await (await self._beside("GET", target)).open()
            except ResumeStreamError as error:
                logger.warning("the upstream could not be read on from: %s", error.message)
                continue
            if self._answer.head.ok:
                self.framed = self._answer.framed
                if self._splitter:
                    self._splitter = Splitter()  # what was in no whole event comes again
                return True
            if self._answer.head.status < 500:
                return False
        return False


class Resumable:
    """Implements ports.Source: a call whose answer may be gone on with."""

    def __init__(self, call: Source, beside: Beside) -> None:
        self._call: Source | None = call
        self._beside = beside
        self.upstream = call.upstream

    async def open(self) -> Answer:
        """See ports.Source."""
        call, self._call = self._call, None  # the answer may take an hour; the request is let go
        assert call is not None
        answer = await call.open()
        return Resuming(answer, answer.remote, self._beside) if answer.remote and answer.head.ok else answer


async def read_on(where: Remote, beside: Beside, *, given: int, first: bytes, last: bytes) -> Answer | None:
    """The answer of a call that another process made, from behind its `given` bytes on. None where it cannot be had.
    Raises UpstreamUnreachable, UpstreamLost."""
    target = remote.reading_on(where, first, last, given)
    if target is None:
        return None
    answer = await (await beside("GET", target)).open()
    if not answer.head.ok:
        await answer.aclose()
        return None
    return Resuming(answer, where, beside, given=given, first=first, last=last)
