"""A stream's provider calls, one after the other, to its seal. One task a stream, in the Hub's task group."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import anyio

from .conclusion import Conclusion
from .endings import Ending
from .errors import LeaseLost, StoreBusy, StoreError, StoreFull, StreamNotFound, StreamSealed
from .lifecycle import move
from .live import Live
from .model import Attempt, Head, Lease, Seal, Segment, StreamInfo
from .policy import Policy
from .ports import LogStore
from .pour import Pour
from .route import DECISIONS, FIRST, Failure, Route, Step, of_status

logger = logging.getLogger("resumestream")

SEAL_S = 10
"""How long a seal may take before the stream is left to recovery, and the last bytes before it, in seconds."""


class Drain:
    """Calls the provider and pours its answer into the log, whole events at a time, whether or not anybody reads. Which
    call follows one that failed is the route's to say, and what they come to the conclusion's.

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
        """Let go of where no other call can follow: it holds the request, and an answer may take an hour."""
        self._pour: Pour | None = None
        """The latest call."""
        self._concluded = Conclusion(live.info.attempts)
        self.begun = False
        """Its stream is in the store."""
        self._sealing = False
        self._stopped: Ending | None = None
        self._failed: Ending | None = None
        """Something on our side failed, not the provider's."""
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
        step: Step | None = FIRST
        try:
            while step and not (self._stopped or self.fenced):
                step = await self._call(lease, step)
        except Exception as error:
            self._fail(error)
        finally:
            await self._seal(lease)

    # --- calls ---------------------------------------------------------------------------------------------------

    async def _call(self, lease: Lease, step: Step) -> Step | None:
        """Make that call, pour its answer, and find out what follows."""
        assert self._route is not None
        where, following = self._route.legs[step.leg].where, None
        pour = self._pour = Pour(self._store, self._live, lease, self._policy, where=where)
        with pour.scope:
            try:
                await anyio.sleep(step.wait_s)
                await self._made(lease, pour, step)
            except Exception as error:
                self._fail(error)
            finally:
                following = await self._after(pour, step)
                if following is None:
                    await self._seal(lease)  # before the close: a generator may take its time to clean up
                await pour.aclose(tell=self._cut_off(pour, following))
        return following

    async def _made(self, lease: Lease, pour: Pour, step: Step) -> None:
        assert self._route is not None
        if self._resumed:
            self._resumed = False
            await pour.resume(self._route.legs[step.leg])
        elif await pour.open(self._route.legs[step.leg], self._segment, partial(self._dispatch, lease, step)):
            await self._answered(lease, pour, step)

    @property
    def _segment(self) -> int:
        """The number of the one that the next answer is."""
        return self._live.info.segment + (self._concluded.dead is not None)

    async def _dispatch(self, lease: Lease, step: Step, attempt: Attempt) -> None:
        """A further call is durable before it is made, as the first is by its claim. Raises LeaseLost: it is not ours
        to make."""
        if step != FIRST:
            await self._record(lease, (*self._concluded.attempts, attempt))

    async def _answered(self, lease: Lease, pour: Pour, step: Step) -> None:
        assert pour.answer is not None
        assert self._route is not None
        head = pour.answer.head
        if head.ok:
            if not self._route.segments:
                self._route = None
            await self._show(lease, pour, head)
            await pour.body(pour.answer)
        elif self._live.info.head is None and self._following(pour, of_status(head.status), step) is None:
            await self._show(lease, pour, head)
            await pour.refusal(pour.answer)

    async def _show(self, lease: Lease, pour: Pour, head: Head) -> None:
        """Readers get it from here on."""
        assert pour.attempt is not None
        attempts, dead = (*self._concluded.attempts, pour.attempt), self._concluded.dead
        await pour.durably(partial(self._record, lease, attempts, head, dead))
        self._concluded, pour.shown = replace(self._concluded, dead=None), True

    async def _record(
        self, lease: Lease, attempts: Sequence[Attempt], head: Head | None = None, dead: Segment | None = None
    ) -> None:
        *after, attempt = attempts
        ended = (*self._live.info.ended, dead) if dead else self._live.info.ended
        await self._store.begin(lease, attempt, head, after=after, ended=ended)
        self._live.begun(attempt, head, after, ended)

    def _following(self, pour: Pour, failure: Failure, step: Step) -> Step | None:
        """What follows that step's call, if it failed so."""
        if self._route is None or self._stopped:
            return None
        retry = DECISIONS[failure][self._concluded.shown(self._live.info.head, this=pour.shown)]
        return self._route.after(step, retry, retry_after_s=pour.retry_after_s, jitter=random.random())

    async def _after(self, pour: Pour, step: Step) -> Step | None:
        """Log what is left of a call that is over, conclude, and find what follows."""
        await self._log_rest(pour)
        if self.fenced or self._live.abandoned:
            return None
        over = pour.over(self._failed)
        following = self._following(pour, over.failure, step)
        self._concluded = self._concluded.then(
            over, self._live.info, followed=following is not None, now=self._store.now()
        )
        return following

    @property
    def _lost(self) -> bool:
        return self._failed is not None or self.fenced or self._live.abandoned

    async def _log_rest(self, pour: Pour) -> None:
        with anyio.move_on_after(SEAL_S, shield=True):
            while not self._lost:
                try:
                    await pour.log_rest()
                    return
                except StoreBusy as error:
                    logger.warning("stream %s has to wait: %s", self._live.info.id, error.message)
                except Exception as error:
                    self._fail(error)
        if not self._lost:  # whatever it came to, its last bytes are not in the log
            self._fail(StoreError(f"it was busy for {SEAL_S} s"))

    def _cut_off(self, pour: Pour, following: Step | None) -> bool:
        """Whether the provider, which may go on without us, is left before its end was seen, for good."""
        if following is None and not self._live.info.sealed:
            return False  # somebody else may go on with it
        ending = self._failed or pour.ending
        return not (ending.completed or ending.told or ending.detail == "shutdown")

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
            unrecorded = True
            while not live.info.sealed and not live.abandoned:
                given_up = self._failed and not unrecorded
                try:
                    if unrecorded:
                        await self._complete(lease)
                        unrecorded = False
                    ending = self._final()
                    move(live.info.state, ending.moved)
                    info = await self._store.seal(lease, self._seal_of(ending))
                    self._told(info)
                    live.sealed(info)
                except StoreBusy as error:
                    logger.warning("stream %s is not sealed yet: %s", lease.stream, error.message)
                except Exception as error:
                    self._fail(error)
                    unrecorded = False  # a seal may take what is kept in reserve for it
                    if given_up:
                        break
        if not live.info.sealed and not live.abandoned:
            logger.error("stream %s is given up without a seal; recovery seals it", lease.stream)
            live.abandon(StoreError("the stream's log could not be written any more", stream=lease.stream))

    async def _complete(self, lease: Lease) -> None:
        """Record the calls that no reader got to see, as they ended; the latest that one did, the seal ends."""
        attempts, shown = self._concluded.attempts, self._pour is not None and self._pour.shown
        if attempts and not shown and attempts != self._live.info.attempts:
            await self._record(lease, attempts)

    def _final(self) -> Ending:
        """What was seen stays what it was, though writing it down may fail once."""
        return self._concluded.ending or self._failed or self._stopped or Ending.of("shutdown")

    def _seal_of(self, ending: Ending) -> Seal:
        seal = ending.sealing(self._concluded.attempts)
        reading = self._pour.reading if self._pour else None
        return reading.telling(seal) if reading else replace(seal, foreign=self._concluded.foreign)
