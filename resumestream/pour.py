"""One provider call, from its request to its last byte in the log."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import anyio
import anyio.lowlevel

from .conclusion import Over
from .dialects import PLAIN, spoken_in
from .endings import Ending
from .errors import OffsetConflict, SourceFailed, StoreBusy, UpstreamLost, UpstreamUnreachable
from .lifecycle import Moved
from .live import NEAR_BYTES, Live
from .model import Attempt, Head, Lease
from .policy import Policy
from .ports import Answer, Detached, LogStore
from .reading import Portion, Reading
from .retry_after import retry_after_s
from .route import Failure, Leg, of_status

logger = logging.getLogger("resumestream")


class Pour:
    """Everything below `scope` may be left at any await: by a stop, a deadline, or from outside. What it came to is
    `ending`'s to tell, whatever happened."""

    def __init__(self, store: LogStore, live: Live, lease: Lease, policy: Policy, *, where: str) -> None:
        self._store, self._live, self._lease, self._policy, self._where = store, live, lease, policy, where
        self.scope = anyio.CancelScope()
        self.attempt: Attempt | None = None
        """None until the call is made: before that nothing can have been billed."""
        self.answer: Answer | None = None
        self.shown = False
        """Readers get this call's answer."""
        self.reading: Reading | None = None
        self._started = anyio.current_time()
        self._settled: float | None = None
        """When the reading on ends: fixed at the end of the answer, or the provider could go on for ever."""
        # Why it ends: what the body came to, else a stop, else the deadline that passed
        self._body_end: tuple[Ending | None, bool] | None = None
        self._stop: Ending | None = None
        self._timeout: Ending | None = None
        self._last: tuple[Portion, Ending] | None = None

    def stop(self, ending: Ending) -> None:
        """Close the provider connection. The first stop wins."""
        self._stop = self._stop or ending
        self.scope.cancel()

    @property
    def stopped(self) -> bool:
        return self._stop is not None

    async def open(self, leg: Leg, segment: int, record: Callable[[Attempt], Awaitable[None]]) -> bool:
        """Make the call, for a segment of that number, once `record` has said that it is ours to make. Whether it was
        answered. Raises what `record` raises, and makes no call then."""
        unmade, first_byte_s = replace(Ending.of("unreachable"), released=True), self._policy.first_byte_s
        self._started = anyio.current_time()
        self._deadline(first_byte_s, unmade)
        try:
            source = await leg.source(segment)
        except Exception:  # what makes an upstream's headers is the application's
            logger.exception("a call to %s could not be made ready", self._where)
            self._body_end = unmade, False
            return False
        attempt = Attempt(source.upstream, self._store.now(), usage_is_ours=leg.usage_is_ours)
        await self.durably(partial(record, attempt))
        await anyio.lowlevel.checkpoint()  # it may have been stopped meanwhile
        self.attempt, self._started = attempt, anyio.current_time()
        self._deadline(first_byte_s, Ending.of("silent", where=self._where, limit=first_byte_s))
        try:
            answer = self.answer = await source.open()
        except UpstreamUnreachable as error:
            self._body_end = replace(unmade, message=error.message), False
            return False
        except (UpstreamLost, SourceFailed) as error:
            self._body_end = self._cut(error), False
            return False
        head = answer.head
        request_id = head.get("x-request-id") or head.get("request-id")
        self.attempt = replace(attempt, status=head.status, request_id=request_id, remote=answer.remote)
        if not head.ok:
            self._body_end = self._refused(answer), False
        return True

    async def resume(self, leg: Leg) -> None:
        """Go on with the latest call of the record, behind what the log has of it."""
        info = self._live.info
        self.attempt, self.shown = info.attempts[-1], True
        self.answer = await (await leg.source(info.segment)).open()
        self.reading = await self.read_again()
        await self.body(self.answer)

    async def aclose(self, *, tell: bool) -> None:
        """Let go of the provider; `tell` it that it shall not go on without us either."""
        answer, self.answer = self.answer, None
        if answer:
            try:
                await answer.aclose()
            finally:
                if tell:
                    await answer.cancel()

    async def refusal(self, answer: Answer) -> None:
        """A definite non-2xx is the answer, verbatim."""
        reading = Reading(PLAIN, policy=self._policy, where=self._where)
        while True:
            self._settle(self._refused(answer))
            try:
                portion = reading.feed(await answer.receive())
            except (anyio.EndOfStream, UpstreamLost):
                return
            await self._log(portion)
            if portion.capped:
                return

    async def body(self, answer: Answer) -> None:
        """Pour an answer, to its end."""
        self.reading = reading = self.reading or self._new_reading(answer.head)
        while self._body_end is None:
            self._deadline_for_bytes(reading)
            await self._piece(answer, reading)

    async def read_again(self) -> Reading:
        """What the log already has of the segment, as its reading. Raises StoreError."""
        info = self._live.info
        assert info.head is not None
        reading, at = self._new_reading(info.head), info.base
        while at < info.tail:
            data = await self._store.read(info.id, at, min(NEAR_BYTES, info.tail - at))
            reading.feed(data)
            at += len(data)
            await anyio.lowlevel.checkpoint()
        return reading

    def _new_reading(self, head: Head) -> Reading:
        info = self._live.info
        return Reading(
            spoken_in(info.new, head),
            policy=self._policy,
            where=self._where,
            base=info.base,
            usage_is_ours=self.attempt is not None and self.attempt.usage_is_ours,
        )

    @property
    def ending(self) -> Ending:
        """What the call came to. The first look decides."""
        return self._finished[1]

    @property
    def _finished(self) -> tuple[Portion, Ending]:
        if self._last is None:
            cut, framed = self._body_end or (self._cut_short(), False)
            if self.reading:
                self._last = self.reading.finish(cut, framed=framed)
            else:
                self._last = Portion(b"", 0), cut or Ending.of("shutdown")
        return self._last

    async def log_rest(self) -> None:
        """Log what only the end of the answer makes payload. May be called again where that raised. Raises
        StoreError."""
        portion, ending = self._finished
        if portion.data:
            await self._append(portion)
            self._last = Portion(b"", 0), ending

    def over(self, failed: Ending | None) -> Over:
        """The call as it ended; `failed`: on our side."""
        ending = failed or self.ending
        seal = self.reading.telling(ending.seal) if self.reading else ending.seal
        return Over(self._failure(ending), ending, seal, self.attempt, self.shown)

    def _failure(self, ending: Ending) -> Failure:
        if ending.completed or self.stopped or ending.moved in (Moved.CAP_REACHED, Moved.DRAIN_LOST):
            return Failure.NONE
        if self.attempt is None:
            return Failure.UNREACHABLE
        if self.answer is None:
            return Failure.UNREACHABLE if ending.detail == "unreachable" else Failure.UNKNOWN
        if not self.answer.head.ok:
            return of_status(self.answer.head.status)
        return Failure.CUT if self.reading and self.reading.tail else Failure.UNKNOWN

    @property
    def retry_after_s(self) -> float | None:
        return retry_after_s(self.answer.head.headers) if self.answer else None

    # --- pieces --------------------------------------------------------------------------------------------------

    async def _piece(self, answer: Answer, reading: Reading) -> None:
        """A frame of its own: while the drain waits for a piece, nothing holds the one before."""
        try:
            portion = reading.feed(await answer.receive())
        except anyio.EndOfStream:
            self._body_end = None, answer.framed
            return
        except Detached as lost:
            reading.again()
            if reading.ended:
                self._body_end = self._cut(lost), False
            return
        except (UpstreamLost, SourceFailed) as error:
            self._body_end = self._cut(error), False
            return
        await self._log(portion)
        if portion.capped:
            self._body_end = portion.capped, False

    async def _log(self, portion: Portion) -> None:
        """Append, then show."""
        if portion.data:
            await self.durably(partial(self._append, portion))

    async def durably(self, write: Callable[[], Awaitable[None]]) -> None:
        """Neither a stop nor a deadline may come between what is in the store and what is known of it here, or a seal
        could follow on lost bytes, or a call be recorded twice. Raises what `write` raises.

        While another process holds the store's write lock nothing is lost: the provider waits.
        """
        self.scope.deadline, begun = math.inf, anyio.current_time()
        try:
            with anyio.CancelScope(shield=True):
                while True:
                    try:
                        return await write()
                    except StoreBusy:
                        if self.stopped:
                            raise
        finally:
            if self._settled:  # writing is not the provider's time
                self._settled += anyio.current_time() - begun

    async def _append(self, portion: Portion) -> None:
        at, data = self._live.info.tail, portion.data
        try:
            await self._store.append(self._lease, at, data, portion.events)
        except OffsetConflict as conflict:
            if conflict.tail != at + len(data):
                raise
            # An earlier try of ours landed, though it was reported as failed.
        self._live.logged(data, portion.events)

    # --- waiting -------------------------------------------------------------------------------------------------

    def _deadline_for_bytes(self, reading: Reading) -> None:
        policy = self._policy
        if reading.ended:
            self._settle(reading.ended)
        elif reading.begun:
            self._deadline(policy.stall_s, Ending.of("no_bytes", where=self._where, limit=policy.stall_s))
        else:
            left = self._started + policy.first_byte_s - anyio.current_time()
            self._deadline(left, Ending.of("silent_body", where=self._where, limit=policy.first_byte_s))

    def _settle(self, ending: Ending) -> None:
        """The answer is known; whatever still comes has a fixed time, in all."""
        now = anyio.current_time()
        self._settled = self._settled or now + self._policy.settle_s
        self._deadline(self._settled - now, ending)

    def _deadline(self, seconds: float, timeout: Ending) -> None:
        """One scope for the whole call, its deadline moved: cheaper than one a read."""
        until, limit = anyio.current_time() + seconds, self._policy.max_duration_s
        too_long = self._started + limit < until
        self.scope.deadline = min(until, self._started + limit)
        self._timeout = Ending.of("max_duration_s", limit=limit) if too_long else timeout

    # --- endings -------------------------------------------------------------------------------------------------

    def _cut(self, error: UpstreamLost | SourceFailed) -> Ending:
        if isinstance(error, SourceFailed):
            ending = Ending.of("source_failed", where=self._where, type=error.type_name)
            return replace(ending, detail=f"{ending.detail}:{error.type_name}")
        return Ending.of(error.detail, where=self._where)

    def _refused(self, answer: Answer) -> Ending:
        """It was not billed, so it releases the key."""
        wait_s = retry_after_s(answer.head.headers)
        return replace(
            Ending.of("status", where=self._where, status=answer.head.status),
            released=True,
            retry_at=None if wait_s is None else self._store.now() + wait_s,
        )

    def _cut_short(self) -> Ending:
        """Why it was left in the middle: a stop, a deadline, or a cancellation from outside."""
        if self._stop:
            return self._stop
        return self._timeout if self.scope.cancel_called and self._timeout else Ending.of("shutdown")
