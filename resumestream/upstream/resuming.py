"""An answer that outlives its connection, because the provider goes on without us: what was lost is asked for again."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable

import anyio

from .. import remote
from ..errors import ResumeStreamError, UpstreamLost
from ..framing import Splitter, has_data
from ..model import Head, Remote
from ..ports import Answer, Detached, Source
from ..remote import Behind, Place, response_id
from ..retry_after import MAX_S, may_pass, retry_after_s
from .logged import Logged

logger = logging.getLogger("resumestream")

Side = Callable[[str, str], Awaitable[Source]]
"""Method, target: another request to the same upstream, which says who asks and nothing else. Its answer's head has all
headers. May raise anything: an application's function makes its headers."""

TRIES = 5
"""Connections in a row that bring nothing to the log, after which the answer is lost."""
BACKOFF_S, MAX_BACKOFF_S = 0.2, 5.0
READ_ON_S = 15
"""How long it may take to be connected to the answer of a call that another worker made."""
STOP_S = 2.0
"""How long the provider may take to say that it stops."""
FIRST_BYTES = 1024 * 1024
"""Within so many bytes an answer tells its id while it comes; later it is looked for in the log."""


class Resuming:
    """Implements ports.Answer: attaches again where the log ends, as often as that gets on.

    Without `answer` it is one of a call that another worker made, and the first `receive` attaches to it.
    """

    def __init__(self, where: Remote, side: Side, log: Logged, head: Head, answer: Answer | None = None) -> None:
        self.remote: Remote | None = where
        self.head = head
        self.framed = answer.framed if answer else False
        self._where, self._side, self._log, self._answer = where, side, log, answer
        self._patience_s = math.inf if answer else READ_ON_S
        self._lost = UpstreamLost("The worker that read it died.", detail="process_died")
        """Why there is no connection."""
        self._barren, self._tail = 0, -1
        self._told = False
        self._behind: Behind | None = None
        self._response: str | None = None
        self._begin = Splitter() if answer and where.kind == "responses" else None
        """Until the first event came, which has the answer's id."""

    async def receive(self) -> bytes:
        """See ports.Answer. Without a connection it waits as long as it takes to be attached again. Cancelled, it lets
        go of its connection; called again, it attaches again."""
        answer, self._answer = self._answer, None
        try:
            answer = answer or await self._attached()
            data = await self._received(answer)
        except anyio.EndOfStream:
            self._answer, answer = answer, None
            if self.framed:
                raise
            self._lost = UpstreamLost("The answer ended without a frame.", detail="unframed_end")
        except _Gone as gone:
            raise self._lost from gone
        except UpstreamLost as lost:
            self._lost = lost
        else:
            self._answer, answer = answer, None
            return data
        finally:
            await _let_go(answer)
        await self.aclose()
        raise Detached(self._lost.message, detail=self._lost.detail)

    async def cancel(self) -> None:
        """See ports.Answer."""
        if self._told:
            return
        self._told = True
        with anyio.move_on_after(STOP_S, shield=True):
            try:
                await self._stop()
            except ResumeStreamError as error:
                logger.warning("the provider could not be told to stop: %s", error.message)
            except Exception:
                logger.exception("the provider could not be told to stop")

    async def aclose(self) -> None:
        answer, self._answer = self._answer, None
        await _let_go(answer)

    async def _stop(self) -> None:
        response = self._response
        if self._where.kind == "responses":
            response = response or await self._log.response()
        if target := remote.stopping(self._where, response):
            stopped = await (await self._side("POST", target)).open()
            await stopped.aclose()
            if not stopped.head.ok:
                logger.warning("the provider answered %d to a stop", stopped.head.status)

    async def _received(self, answer: Answer) -> bytes:
        while True:
            data: bytes | None = await answer.receive()
            assert data is not None
            if self._begin:
                self._look_at_begin(self._begin, data)
            if self._behind:
                data = self._behind.feed(data)
                if data is None:
                    continue
                self._behind = None
            if data:
                return data

    def _look_at_begin(self, begin: Splitter, data: bytes) -> None:
        events = [block for block in begin.feed(data) if has_data(block)]
        if events:
            self._response = response_id(events[0])
        if events or begin.held > FIRST_BYTES:
            self._begin = None

    # --- attaching -----------------------------------------------------------------------------------------------

    async def _attached(self) -> Answer:
        """Another connection to the same answer, behind what is logged. Raises _Gone."""
        with anyio.move_on_after(self._patience_s):
            place = await self._log.place(self._where.kind, self._response)
            self._response = place.response
            if place.tail > self._tail:
                self._barren, self._tail = 0, place.tail
            target = remote.reading_on(self._where, place)
            asked_s: float | None = 0.0
            while target and asked_s is not None and self._barren < TRIES:
                if self._barren:
                    backoff_s = min(BACKOFF_S * 2 ** (self._barren - 1), MAX_BACKOFF_S)
                    await anyio.sleep(max(backoff_s, asked_s))
                self._barren += 1
                logger.warning("a provider call has no connection (%s); reading on", self._lost.detail)
                answer, asked_s = await self._tried(target, place)
                if answer:
                    self._patience_s, self.framed = math.inf, answer.framed
                    self._behind = Behind(place.number) if place.number is not None else None
                    return answer
        raise _Gone

    async def _tried(self, target: str, place: Place) -> tuple[Answer | None, float | None]:
        """The answer, or else how long to wait for the next try, if another can help."""
        try:
            answer = await (await self._side("GET", target)).open()
        except ResumeStreamError as error:
            logger.warning("the upstream could not be read on from: %s", error.message)
            return None, 0.0
        except Exception:  # what makes an upstream's headers is the application's
            logger.exception("the upstream could not be read on from")
            return None, 0.0
        head = answer.head
        if head.ok and remote.goes_on(self._where, place, self.head, head):
            return answer, 0.0
        await answer.aclose()
        asked_s = retry_after_s(head.headers) or 0.0
        logger.warning("the upstream answered %d, which is not the rest of the answer", head.status)
        return None, asked_s if may_pass(head.status) and asked_s <= MAX_S else None


class _Gone(Exception):
    """There is nothing to attach to any more."""


async def _let_go(answer: Answer | None) -> None:
    if answer:
        with anyio.CancelScope(shield=True):
            await answer.aclose()


class Resumable:
    """Implements ports.Source: a call whose answer may be gone on with."""

    def __init__(self, call: Source, side: Side, log: Logged) -> None:
        self._call: Source | None = call
        self._side, self._log = side, log
        self.upstream = call.upstream

    async def open(self) -> Answer:
        """See ports.Source."""
        call, self._call = self._call, None  # the answer may take an hour; the request is let go
        assert call is not None
        answer = await call.open()
        return Resuming(answer.remote, self._side, self._log, answer.head, answer) if answer.remote else answer
