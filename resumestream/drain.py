"""Provider socket → log. One task a stream, in the Hub's task group; it never raises into its siblings."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import anyio

from .dialects import PLAIN, spoken
from .endings import Ending
from .errors import (
    LeaseLost,
    OffsetConflict,
    SourceFailed,
    StoreBusy,
    StoreError,
    StoreFull,
    StreamNotFound,
    StreamSealed,
    UpstreamLost,
    UpstreamUnreachable,
)
from .lifecycle import move
from .live import Live
from .model import Attempt, Head, Lease
from .policy import Policy
from .ports import Answer, LogStore, Source
from .reading import Portion, Reading
from .retry_after import retry_after_s

logger = logging.getLogger("resumestream")

SEAL_S = 10
"""How long a seal may take before the stream is left to recovery, in seconds."""


class Drain:
    """Calls the provider once and pours the answer into the log, whole events at a time, whether or not anybody reads.

    Always seals, unless its lease is lost (then it writes nothing more: `fenced`) or the store fails (then readers are
    cut, and recovery seals).
    """

    def __init__(self, store: LogStore, live: Live, source: Source, policy: Policy, *, where: str) -> None:
        self._store, self._live, self._source, self._policy, self._where = store, live, source, policy, where
        self._scope = anyio.CancelScope()
        self.begun = False
        """Its stream is in the store."""
        self._dispatched = self._sealing = False
        self._unanswered: Attempt | None = None
        """The call that has not been answered yet."""
        self._reading: Reading | None = None
        # Why it ends: the first of these that is set.
        self._failed: Ending | None = None
        self._body_end: tuple[Ending | None, bool] | None = None
        self._stopped: Ending | None = None
        self._timeout: Ending | None = None
        self._last: tuple[Portion, Ending] | None = None
        self.fenced = False

    def stop(self, ending: Ending) -> None:
        """Close the provider connection and seal. The first stop wins; one after the end does nothing."""
        if self._stopped is None:
            self._stopped = ending
            self._scope.cancel()

    def fence(self) -> None:
        """Somebody else has the stream: let go of the provider and write nothing more. Does nothing once it seals: the
        seal tells by itself, and may be what was seen."""
        if not self._sealing and not self._live.abandoned:
            self._let_go()
            self._scope.cancel()

    async def run(self, lease: Lease) -> None:
        """Drain to the end and seal. Never raises but on cancellation from outside, and seals before that."""
        self.begun = True
        try:
            with self._scope:
                if self._stopped is None:
                    await self._pour(lease)
        except Exception as error:
            self._fail(error)
        finally:
            await self._seal(lease)

    # --- the pour ------------------------------------------------------------------------------------------------

    async def _pour(self, lease: Lease) -> None:
        self._dispatched = True
        self._started = anyio.current_time()
        attempt = self._unanswered = Attempt(upstream=self._source.upstream, started_at=self._store.now())
        first_byte_s = self._policy.first_byte_s
        self._deadline(first_byte_s, Ending.of("silent", where=self._where, limit=first_byte_s))
        try:
            answer = await self._source.open()
            del self._source  # and with it the request: the answer may take an hour
        except UpstreamUnreachable as error:
            self._body_end = replace(Ending.of("unreachable"), message=error.message, released=True), False
            return
        except (UpstreamLost, SourceFailed) as error:
            self._body_end = self._cut(error), False
            return
        try:
            head = answer.head
            request_id = head.get("x-request-id") or head.get("request-id")
            attempt = replace(attempt, status=head.status, request_id=request_id)
            await self._begin(lease, attempt, head)
            await (self._pour_answer(lease, answer) if head.ok else self._pour_refusal(lease, answer))
        except Exception as error:
            self._fail(error)
        finally:
            await self._seal(lease)  # before the close: a generator may take its time to clean up
            await answer.aclose()

    async def _begin(self, lease: Lease, attempt: Attempt, head: Head | None) -> None:
        await self._store.begin(lease, attempt, head)
        self._unanswered = None
        self._live.answered(attempt, head)

    async def _pour_refusal(self, lease: Lease, answer: Answer) -> None:
        """A definite non-2xx is the answer, verbatim; it was not billed, so it releases the key."""
        wait_s = retry_after_s(answer.head.headers)
        refused = replace(
            Ending.of("status", where=self._where, status=answer.head.status),
            released=True,
            retry_at=None if wait_s is None else self._store.now() + wait_s,
        )
        self._body_end = refused, False
        reading = Reading(PLAIN, policy=self._policy, where=self._where)
        while True:
            self._deadline(self._policy.settle_s, refused)
            try:
                portion = reading.feed(await answer.receive())
            except (anyio.EndOfStream, UpstreamLost):
                return
            await self._log(lease, portion)
            if portion.capped:
                return

    async def _pour_answer(self, lease: Lease, answer: Answer) -> None:
        dialect = spoken(self._live.info.new.dialect, answer.head)
        reading = Reading(dialect, policy=self._policy, where=self._where)
        self._reading = reading
        while self._body_end is None:
            self._deadline_for_bytes(reading)
            await self._pour_piece(lease, answer, reading)

    async def _pour_piece(self, lease: Lease, answer: Answer, reading: Reading) -> None:
        """A frame of its own: while the drain waits for a piece, nothing holds the one before."""
        try:
            portion = reading.feed(await answer.receive())
        except anyio.EndOfStream:
            self._body_end = None, answer.framed
            return
        except (UpstreamLost, SourceFailed) as error:
            self._body_end = self._cut(error), False
            return
        await self._log(lease, portion)
        if portion.capped:
            self._body_end = portion.capped, False

    async def _log(self, lease: Lease, portion: Portion) -> None:
        """Append, then show. Neither a stop nor a deadline may come between, or a seal could follow on lost bytes.

        While another process holds the store's write lock nothing is lost: the provider waits.
        """
        self._scope.deadline = math.inf
        with anyio.CancelScope(shield=True):
            while portion.data:
                try:
                    await self._append(lease, portion)
                    break
                except StoreBusy:
                    if self._stopped:
                        raise

    async def _append(self, lease: Lease, portion: Portion) -> None:
        at, data = self._live.info.tail, portion.data
        try:
            await self._store.append(lease, at, data, portion.events)
        except OffsetConflict as conflict:
            if conflict.tail != at + len(data):
                raise
            # An earlier try of ours landed, though it was reported as failed.
        self._live.logged(data, portion.events)

    # --- waiting -------------------------------------------------------------------------------------------------

    def _deadline_for_bytes(self, reading: Reading) -> None:
        policy = self._policy
        if reading.ended:
            self._deadline(policy.settle_s, reading.ended)
        elif reading.begun:
            self._deadline(policy.stall_s, Ending.of("no_bytes", where=self._where, limit=policy.stall_s))
        else:
            left = self._started + policy.first_byte_s - anyio.current_time()
            self._deadline(left, Ending.of("silent_body", where=self._where, limit=policy.first_byte_s))

    def _deadline(self, seconds: float, timeout: Ending) -> None:
        """One scope for the whole pour, its deadline moved: cheaper than one a read."""
        until, limit = anyio.current_time() + seconds, self._policy.max_duration_s
        too_long = self._started + limit < until
        self._scope.deadline = min(until, self._started + limit)
        self._timeout = Ending.of("max_duration_s", limit=limit) if too_long else timeout

    # --- the end -------------------------------------------------------------------------------------------------

    def _cut(self, error: UpstreamLost | SourceFailed) -> Ending:
        if isinstance(error, SourceFailed):
            ending = Ending.of("source_failed", where=self._where, type=error.type_name)
            return replace(ending, detail=f"{ending.detail}:{error.type_name}")
        return Ending.of(error.detail, where=self._where)

    def _fail(self, error: Exception) -> None:
        """Something on our side failed, not the provider's."""
        stream = self._live.info.id
        if isinstance(error, LeaseLost | StreamSealed | StreamNotFound):
            self._let_go()
        elif isinstance(error, StoreError):
            logger.error("stream %s: the store failed: %s", stream, error.message)
            self._failed = Ending.of("store_full" if isinstance(error, StoreFull) else "store_failed")
        else:
            logger.error("stream %s: the drain failed", stream, exc_info=error)
            self._failed = Ending.of("drain_failed")

    def _let_go(self) -> None:
        logger.warning("stream %s has another owner now; its drain stops", self._live.info.id)
        self.fenced = True
        self._live.abandon()

    async def _seal(self, lease: Lease) -> None:
        """Decide the ending and make it durable, once. Where the store cannot, the stream is given up, unsealed."""
        live = self._live
        self._sealing = True
        with anyio.move_on_after(SEAL_S, shield=True):
            while not live.info.sealed and not live.abandoned:
                given_up = self._failed
                try:
                    ending = self._failed or await self._finish(lease)
                    move(live.info.state, ending.moved)
                    live.sealed(await self._store.seal(lease, ending.seal))
                except StoreBusy as error:
                    logger.warning("stream %s is not sealed yet: %s", lease.stream, error.message)
                except Exception as error:
                    self._fail(error)
                    if given_up:
                        break
        if not live.info.sealed and not live.abandoned:
            logger.error("stream %s is given up without a seal; recovery seals it", lease.stream)
            live.abandon(StoreError("the stream's log could not be written any more", stream=lease.stream))

    async def _finish(self, lease: Lease) -> Ending:
        """The ending that all of it comes to, its last bytes logged. May be called again after StoreBusy."""
        if self._last is None:
            cut, framed = self._body_end or (self._cut_short(), False)
            if self._reading:
                self._last = self._reading.finish(cut, framed=framed)
            else:
                self._last = Portion(b"", 0), cut or Ending.of("shutdown")
        if self._unanswered:
            await self._begin(lease, self._unanswered, None)
        portion, ending = self._last
        if portion.data:
            await self._append(lease, portion)
            self._last = Portion(b"", 0), ending
        return ending

    def _cut_short(self) -> Ending:
        """Why the pour was left in the middle: a stop, a deadline, or a cancellation from outside."""
        if self._stopped:
            # Where nothing had left for the provider, nothing was billed.
            return self._stopped if self._dispatched else replace(self._stopped, released=True)
        return self._timeout if self._scope.cancel_called and self._timeout else Ending.of("shutdown")
