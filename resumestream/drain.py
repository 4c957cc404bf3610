"""A stream's provider calls, one after the other, to its seal. One task a stream, in the Hub's task group."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import anyio

from .endings import SEGMENT_ENDED, Ending
from .errors import LeaseLost, StoreBusy, StoreError, StoreFull, StreamNotFound, StreamSealed
from .lifecycle import Moved, move
from .live import Live
from .model import Attempt, Head, Lease, Seal, Segment, StreamInfo
from .policy import Policy
from .ports import LogStore
from .pour import Pour
from .route import Failed, Route, Step, of_status

logger = logging.getLogger("resumestream")

SEAL_S = 10
"""How long a seal may take before the stream is left to recovery, in seconds."""


class Drain:
    """Calls the provider and pours its answer into the log, whole events at a time, whether or not anybody reads. Which
    call follows one that failed is the route's to say; without retries and fallbacks it is one call.

    `resumed`: its first call goes on with the last one of the record, and is no new one. `sealed` hears of the seal
    before any reader does.

    Always seals, unless its lease is lost (then it writes nothing more: `fenced`) or the store fails (then readers are
    cut, and recovery seals). It never raises into its siblings.
    """

    def __init__(
        self,
        store: LogStore,
        live: Live,
        route: Route,
        policy: Policy,
        *,
        sealed: Callable[[StreamInfo], None],
        resumed: bool = False,
    ) -> None:
        self._store, self._live, self._policy, self._resumed = store, live, policy, resumed
        self._told = sealed
        self._route: Route | None = route
        self._next: Step | None = route.first
        self._pour: Pour | None = None
        self.begun = False
        """Its stream is in the store."""
        self._sealing = False
        self._stopped: Ending | None = None
        self._failed: Ending | None = None
        """Something on our side failed, not the provider's."""
        self._ending: Ending | None = None
        """What it all comes to, as far as is known."""
        self._metered: Callable[[Ending], Seal] = lambda ending: ending.seal
        self._unrecorded: Attempt | None = None
        """The call that ending is of, where it is not in the record yet."""
        self._dead: Segment | None = None
        """The segment that a further call would go on after."""
        self._billed = False
        """A call before the present one may have been: whatever comes, the key is not released."""
        self.fenced = False

    def stop(self, ending: Ending) -> None:
        """Close the provider connection and seal. The first stop wins; one after the end does nothing."""
        if self._stopped is None:
            self._stopped = ending
            if self._pour:
                self._pour.stop(ending)

    def fence(self) -> None:
        """Somebody else has the stream: let go of the provider and write nothing more. Does nothing once it seals: the
        seal tells by itself, and may be what was seen."""
        if not self._sealing and not self._live.abandoned:
            self._let_go()
            if self._pour:
                self._pour.scope.cancel()

    async def run(self, lease: Lease) -> None:
        """Drain to the end and seal. Never raises but on cancellation from outside, and seals before that."""
        self.begun = True
        try:
            while self._next and not self._stopped:
                await self._call(lease)
        except Exception as error:
            self._fail(error)
        finally:
            await self._seal(lease)

    # --- calls ---------------------------------------------------------------------------------------------------

    async def _call(self, lease: Lease) -> None:
        """Make the next call, pour its answer, and find out what follows."""
        step, self._next = self._next, None
        assert step is not None
        pour = self._pour = Pour(self._store, self._live, lease, self._policy, where=step.leg.where)
        with pour.scope:
            try:
                await anyio.sleep(step.wait_s)
                answered = await pour.open(step.leg.source, self._live.info.segment + (self._dead is not None))
                del step  # and with it the request: the answer may take an hour
                if answered:
                    await self._answered(lease, pour)
            except Exception as error:
                self._fail(error)
            finally:
                self._next = await self._after(lease, pour)
                if self._next is None:
                    await self._seal(lease)  # before the close: a generator may take its time to clean up
                await pour.aclose(stop=self._stopped is not None and self._stopped.moved is Moved.STOP_ASKED)

    async def _answered(self, lease: Lease, pour: Pour) -> None:
        assert pour.answer is not None
        head = pour.answer.head
        if self._resumed:
            self._resumed, pour.shown = False, True
            pour.reading = await pour.read_again()
            await pour.body(pour.answer)
        elif head.ok:
            if self._route and not self._route.segments:
                self._route = None
            await self._begin(lease, pour, head)
            await pour.body(pour.answer)
        elif self._following(pour, of_status(head.status)) is None and self._live.info.head is None:
            await self._begin(lease, pour, head)
            await pour.refusal(pour.answer)

    async def _begin(self, lease: Lease, pour: Pour, head: Head) -> None:
        """Readers get it from here on."""
        assert pour.attempt is not None
        await self._store.begin(lease, pour.attempt, head, ended=self._dead)
        self._live.answered(pour.attempt, head, self._dead)
        self._dead, pour.shown = None, True

    def _following(self, pour: Pour, failed: Failed) -> Step | None:
        """What follows that call. Decided once."""
        if not pour.decided:
            pour.decided, route = True, self._route
            if route and not self._stopped:
                answered = self._live.info.head is not None
                pour.following = route.after(failed, answered=answered, retry_after_s=pour.retry_after_s)
        return pour.following

    async def _after(self, lease: Lease, pour: Pour) -> Step | None:
        """Log what is left of a call, and get ready for the one that follows, if one does."""
        with anyio.move_on_after(SEAL_S, shield=True):
            while not (self._failed or self.fenced or self._live.abandoned):
                try:
                    return await self._concluded(lease, pour)
                except StoreBusy as error:
                    logger.warning("stream %s has to wait: %s", lease.stream, error.message)
                except Exception as error:
                    self._fail(error)
        return None

    async def _concluded(self, lease: Lease, pour: Pour) -> Step | None:
        ending = await pour.end()
        failed = pour.failed(ending)
        step, head = self._following(pour, failed), self._live.info.head
        if pour.shown or head is None or failed is Failed.OURS:
            self._ending = replace(ending, released=ending.released and not self._billed)
            if pour.shown or head is None:
                self._metered = pour.metered
            self._unrecorded = None if pour.shown else pour.attempt
        if pour.shown and step and head:
            ended = replace(pour.metered(ending), detail=ending.detail if ending.told else SEGMENT_ENDED)
            info = self._live.info
            self._dead = Segment(info.tail, info.events, head, replace(ended, sealed_at=self._store.now()))
        elif pour.attempt and not pour.shown and (step or head):
            await self._record(lease, replace(pour.attempt, ended_at=self._store.now(), outcome=ending.seal.outcome))
            self._unrecorded = None
        self._billed |= failed in (Failed.UNKNOWN, Failed.CUT)
        return step

    async def _record(self, lease: Lease, attempt: Attempt) -> None:
        """A call that no reader gets to see."""
        await self._store.begin(lease, attempt, None)
        self._live.answered(attempt, None)

    # --- the end -------------------------------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
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
        """Make the ending durable, once. Where the store cannot, the stream is given up, unsealed."""
        live = self._live
        self._sealing = True
        with anyio.move_on_after(SEAL_S, shield=True):
            while not live.info.sealed and not live.abandoned:
                given_up = self._failed
                try:
                    ending = self._failed or await self._final(lease)
                    move(live.info.state, ending.moved)
                    info = await self._store.seal(lease, self._metered(ending))
                    self._told(info)
                    live.sealed(info)
                except StoreBusy as error:
                    logger.warning("stream %s is not sealed yet: %s", lease.stream, error.message)
                except Exception as error:
                    self._fail(error)
                    if given_up:
                        break
        if not live.info.sealed and not live.abandoned:
            logger.error("stream %s is given up without a seal; recovery seals it", lease.stream)
            live.abandon(StoreError("the stream's log could not be written any more", stream=lease.stream))

    async def _final(self, lease: Lease) -> Ending:
        if self._unrecorded:
            await self._record(lease, self._unrecorded)
            self._unrecorded = None
        if self._ending is None:  # nothing had left for a provider, so nothing was billed
            return replace(self._stopped or Ending.of("shutdown"), released=True)
        return self._ending
