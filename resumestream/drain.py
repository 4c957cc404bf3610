"""Provider socket → log. One task a stream, in the Hub's task group; it never raises into its siblings."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import anyio

from .dialects import spoken
from .endings import Ending
from .errors import (
    LeaseLost,
    SourceFailed,
    StoreError,
    StoreFull,
    StreamNotFound,
    StreamSealed,
    UpstreamLost,
    UpstreamUnreachable,
)
from .lifecycle import move
from .live import Live
from .model import Attempt, Lease
from .policy import Policy
from .ports import Answer, LogStore, Source
from .reading import Portion, Reading
from .retry_after import retry_after_s

logger = logging.getLogger("resumestream")

SEAL_S = 10
"""How long a seal may take before the stream is left to start-up recovery."""


class Drain:
    """Calls the provider once and pours the answer into the log, whole events at a time, whether or not anybody reads.

    Always seals, unless its lease is lost (then it writes nothing more) or the store fails (then readers are cut and
    the next start-up seals `interrupted`).
    """

    def __init__(self, store: LogStore, live: Live, source: Source, policy: Policy, *, where: str) -> None:
        self._store, self._live, self._source, self._policy, self._where = store, live, source, policy, where
        self._scope = anyio.CancelScope()
        self._stopped: Ending | None = None
        self._timeout = Ending.of("shutdown")
        self._reading: Reading | None = None

    def stop(self, ending: Ending) -> None:
        """Close the provider connection and seal. The first stop wins; one after the end does nothing."""
        if self._stopped is None:
            self._stopped = ending
            self._scope.cancel()

    async def run(self, lease: Lease) -> None:
        """Drain to the end and seal. Never raises but on cancellation from outside, and seals before that."""
        ending = Ending.of("shutdown")
        try:
            with self._scope:
                ending = await self._pour(lease)
            if self._scope.cancelled_caught:
                ending = await self._finish(lease, self._stopped or self._timeout)
        except (LeaseLost, StreamSealed, StreamNotFound):
            logger.warning("stream %s has another owner now; its drain stops", lease.stream)
            self._live.abandon()
        except StoreError as error:
            logger.exception("stream %s: the store failed", lease.stream)
            ending = Ending.of("store_full" if isinstance(error, StoreFull) else "store_failed")
        except Exception:
            logger.exception("stream %s: the drain failed", lease.stream)
            ending = Ending.of("drain_failed")
        finally:
            if not self._live.abandoned:
                await self._seal(lease, ending)

    async def _seal(self, lease: Lease, ending: Ending) -> None:
        move(self._live.info.state, ending.moved)
        with anyio.move_on_after(SEAL_S, shield=True):
            try:
                self._live.sealed(await self._store.seal(lease, ending.seal))
                return
            except (LeaseLost, StreamNotFound):
                logger.warning("stream %s has another owner now, who seals it", lease.stream)
            except StoreError as error:
                logger.error("stream %s is not sealed: %s", lease.stream, error.message)
        logger.error("stream %s was given up without a seal; the next start seals it", lease.stream)
        self._live.abandon()

    # --- the pour ------------------------------------------------------------------------------------------------

    async def _pour(self, lease: Lease) -> Ending:
        self._started = anyio.current_time()
        attempt = Attempt(upstream=self._source.upstream, started_at=self._store.now())
        first_byte_s = self._policy.first_byte_s
        self._wait(first_byte_s, Ending.of("silent", where=self._where, limit=first_byte_s))
        try:
            answer = await self._source.open()
        except UpstreamUnreachable as error:
            return replace(Ending.of("unreachable", where=self._where), message=error.message, released=True)
        except (UpstreamLost, SourceFailed) as error:
            return self._failed(error)
        try:
            head = answer.head
            request_id = head.get("x-request-id") or head.get("request-id")
            attempt = replace(attempt, status=head.status, request_id=request_id)
            await self._store.begin(lease, attempt, head)
            self._live.answered(attempt, head)
            return await (self._pour_answer(lease, answer) if head.ok else self._pour_refusal(lease, answer))
        finally:
            await answer.aclose()

    async def _pour_refusal(self, lease: Lease, answer: Answer) -> Ending:
        """A definite non-2xx is the answer, verbatim; it was not billed, so it releases the key."""
        wait_s = retry_after_s(answer.head.headers)
        refused = replace(
            Ending.of("status", where=self._where, status=answer.head.status),
            released=True,
            retry_at=None if wait_s is None else self._store.now() + wait_s,
        )
        reading = Reading(spoken("unknown", answer.head).scanner(), sse=False, policy=self._policy, where=self._where)
        while True:
            self._wait(self._policy.settle_s, refused)
            try:
                data = await answer.receive()
            except (anyio.EndOfStream, UpstreamLost):
                return refused
            portion = reading.feed(data)
            await self._log(lease, portion)
            if portion.capped:
                return refused

    async def _pour_answer(self, lease: Lease, answer: Answer) -> Ending:
        scanner = spoken(self._live.info.new.dialect, answer.head).scanner()
        reading = Reading(scanner, sse=answer.head.is_sse, policy=self._policy, where=self._where)
        self._reading = reading
        while True:
            self._wait_for_bytes(reading)
            try:
                data = await answer.receive()
            except anyio.EndOfStream:
                return await self._finish(lease, None, framed=answer.framed)
            except (UpstreamLost, SourceFailed) as error:
                return await self._finish(lease, self._failed(error))
            portion = reading.feed(data)
            await self._log(lease, portion)
            if portion.capped:
                return await self._finish(lease, portion.capped)

    async def _finish(self, lease: Lease, cut: Ending | None, *, framed: bool = False) -> Ending:
        """The ending that what was read makes of it: an end that was seen stays one, however the connection ended."""
        if self._reading is None:
            return cut or Ending.of("shutdown")
        portion, ending = self._reading.finish(cut, framed=framed)
        await self._log(lease, portion)
        return ending

    async def _log(self, lease: Lease, portion: Portion) -> None:
        """Append, then show. Neither a stop nor a deadline may come between, or a seal could follow on lost bytes."""
        if not portion.data:
            return
        self._scope.deadline = math.inf
        with anyio.CancelScope(shield=True):
            await self._store.append(lease, self._live.info.tail, portion.data, portion.events)
        self._live.logged(portion.data, portion.events)

    # --- waiting -------------------------------------------------------------------------------------------------

    def _wait_for_bytes(self, reading: Reading) -> None:
        policy = self._policy
        if reading.ended:
            self._wait(policy.settle_s, reading.ended)
        elif reading.begun:
            self._wait(policy.stall_s, Ending.of("no_bytes", where=self._where, limit=policy.stall_s))
        else:
            left = self._started + policy.first_byte_s - anyio.current_time()
            self._wait(left, Ending.of("silent_body", where=self._where, limit=policy.first_byte_s))

    def _wait(self, seconds: float, timeout: Ending) -> None:
        """One scope for the whole pour, its deadline moved: one scope a read would cross those of a generator."""
        until, limit = anyio.current_time() + seconds, self._policy.max_duration_s
        too_long = self._started + limit < until
        self._scope.deadline = min(until, self._started + limit)
        self._timeout = Ending.of("max_duration_s", limit=limit) if too_long else timeout

    def _failed(self, error: UpstreamLost | SourceFailed) -> Ending:
        if isinstance(error, SourceFailed):
            ending = Ending.of("source_failed", where=self._where, type=error.type_name)
            return replace(ending, detail=f"{ending.detail}:{error.type_name}")
        return Ending.of(error.detail, where=self._where)
