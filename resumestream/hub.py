"""Owns the running drains of a process: claims, readers, stops, and an orderly end."""

from __future__ import annotations

import logging
import math
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Self
from weakref import WeakValueDictionary

import anyio
import anyio.abc

from .admission import Admission
from .claiming import Claim, Claiming, Decide, Outgoing
from .claims import Attach, Start
from .counters import Counters
from .drain import Drain
from .endings import DELETED, Ending
from .errors import (
    BindingMoved,
    Draining,
    ResumeStreamError,
    StoreError,
    StreamNotFound,
)
from .eviction import Eviction
from .live import Live, Windows
from .model import Binding, Gone, Lease, NewStream, Outcome, Query, Seal, State, StreamId, StreamInfo
from .policy import Policy, grace_s
from .ports import Answer, LogStore
from .reads import Reads
from .recovery import delete
from .refusals import about
from .route import only
from .sources import Opened
from .sweep import Sweep
from .tallies import Tallies
from .watch import Watch

logger = logging.getLogger("resumestream")

CLOSE_S = 2
"""How long the last seals may take when the Hub ends."""

STOP_S = 1.0
"""How long another process may take to stop what it drains, before the stream is taken from it."""

ENDING_S = 1.0
"""How long who asks for a stream without an owner waits for its end, before being told to ask again."""

ID_BYTES = 18
"""144 random bits a stream id, above the 128 that make it unguessable."""


def mint() -> StreamId:
    """A new stream id, URL-safe, and never like an option on a command line."""
    while (text := secrets.token_urlsafe(ID_BYTES)).startswith("-"):
        pass
    return StreamId(text)


ReadOn = Callable[[LogStore, StreamInfo], Answer | None]
"""The rest of a call that another process made, where its provider goes on with it. Asks nobody yet."""


def _nothing(store: LogStore, info: StreamInfo) -> None:
    return None


class Hub:
    """`async with Hub(store, policy) as hub`: everything that runs, runs inside; at its end everything is sealed."""

    def __init__(self, store: LogStore, policy: Policy, *, read_on: ReadOn = _nothing) -> None:
        self.store, self.policy, self._read_on = store, policy, read_on
        self.draining = False
        self._live: dict[StreamId, Live] = {}
        self._drains: dict[StreamId, Drain] = {}
        self._windows = Windows(policy.window_bytes)
        self.reads = Reads(
            store,
            self._live,
            self._windows,
            spawn=self._spawn,
            left=self._left,
            closing=lambda: self.draining,
        )
        self._turns: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self._deleting: Counter[StreamId] = Counter()
        eviction = Eviction(store, evicted=self.reads.dropped)
        self._admission = Admission(store, policy, eviction)
        self._sweep = Sweep(store, policy, eviction, reading=self.reads.open)
        self.tallies, self.counters = Tallies(store), Counters()
        self._watch = Watch(store, policy, self._drains, self._runs, self)
        self._idle = anyio.Event()

    def _spawn(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.start_soon(task)

    def _runs(self, stream: StreamId) -> bool:
        """Whether a stream of this process has somebody here who will end it."""
        return stream in self._live or stream in self._deleting

    @property
    def worker(self) -> str:
        """This incarnation's random id."""
        return self.store.peers.me

    @property
    def drains(self) -> int:
        """How many run, also those whose stream is sealed already, but not those that are still being claimed."""
        return sum(drain.begun for drain in self._drains.values())

    @property
    def orphans(self) -> int:
        """How many streams drained here lost their last reader."""
        return sum(live.audience.orphaned for live in self._live.values())

    def states(self) -> Counter[State]:
        """Of the streams drained here, also of those that are still being claimed."""
        return Counter(live.info.state for live in self._live.values())

    async def __aenter__(self) -> Self:
        """Open the store, seal what dead processes left, start watching. Raises what the store raises."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.store)
            stack.push_async_callback(self.tallies.close)
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            await self._watch.recover()
            watch, sweep = self._watch, self._sweep
            duties = watch.beat, watch.heed, watch.rescue, sweep.run, sweep.tidy, self.tallies.run
            for duty in (*duties, partial(self.store.peers.run, self)):
                self._tasks.start_soon(duty)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Drain (see `drain`), then close the store. Cancelled, it still seals what runs: each within drain.SEAL_S."""
        try:
            await self.drain()
        finally:
            self._stop_all()
            self._tasks.cancel_scope.cancel()
            await self._stack.__aexit__(None, None, None)

    # --- starting ------------------------------------------------------------------------------------------------

    async def claim(
        self, new: NewStream, outgoing: Outgoing, decide: Decide | None = None, *, found: bool = False
    ) -> Claim:
        """Start `new`, or attach to what its key means, as `decide` says. The claim is durable on return.

        `found`: the caller will learn the id in any case, so `on_disconnect` holds even if it leaves before the head.

        Raises what `decide` raises, and before anything is started Draining, StoreError and what Admission refuses
        with. Cancelled: the stream may have been started; its key finds it.
        """
        if new.key is None:
            return await self._claim(new, outgoing, decide, found)
        # One at a time for a key: who comes while it is claimed waits, and attaches.
        async with self._turns.setdefault(new.key, anyio.Lock()):
            return await self._claim(new, outgoing, decide, found=True)

    async def _claim(self, new: NewStream, outgoing: Outgoing, decide: Decide | None, found: bool) -> Claim:
        while True:
            bound = await self._bound(new.key) if new.key else (None, None)
            with about(bound[1]):
                decision = decide(*bound) if decide else Start()
            if isinstance(decision, Attach):
                spared = partial(self._spared, decision.stream, bound[1].seal if bound[1] else None)
                return Claim(decision.stream, started=False, hold=self.reads.hold(decision.stream), given=spared)
            new, hold = replace(new, previous=decision.replaces), self.reads.hold(new.id)
            try:
                await self._start(new, outgoing, found)
            except BindingMoved:
                continue
            return Claim(new.id, started=True, hold=hold)

    def _spared(self, stream: StreamId, seal: Seal | None) -> None:
        if seal is None or not seal.released:  # else a call of their own would have been refused, unbilled
            self.tallies.asked_again(stream, sealed=seal is not None)

    async def bound(self, key: str) -> StreamInfo | None:
        """The record of the stream that `key` (a keyed hash) means."""
        return (await self._bound(key))[1]

    async def _bound(self, key: str) -> tuple[Binding | None, StreamInfo | None]:
        while (binding := await self.store.binding(key)) is not None:
            try:
                return binding, await self.stat(binding.stream)
            except StreamNotFound:
                continue  # its tombstone ran out, and the binding with it
        return None, None

    async def _start(self, new: NewStream, outgoing: Outgoing, found: bool) -> None:
        with ExitStack() as claiming:
            claiming.enter_context(self._admission.claiming(new))
            self._refuse_while_draining()
            await self._admission.admit(
                new,
                outgoing.limits,
                live=self.drains,
                orphans=self.orphans,
            )
            self._refuse_while_draining()
            await self._created(new, outgoing, found, claiming.pop_all())

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise Draining("the server is shutting down and takes no new streams", retry_after_s=5)

    async def _created(self, new: NewStream, outgoing: Outgoing, found: bool, claiming: ExitStack) -> None:
        live = self._live[new.id] = Live(
            StreamInfo(new),
            self._windows,
            found=found,
            told=self.store.peers.changed,
        )
        drain = Drain(self.store, live, outgoing.route, self.policy, sealed=self.counters.sealed)
        self._drains[new.id] = drain
        claimed = Claiming(claiming)
        self._tasks.start_soon(self._run, live, drain, partial(self._lease, new, claimed))
        try:
            await claimed.wait()
        except BaseException:
            if not live.audience.readers:
                self._left(live)
            raise

    async def _run(self, live: Live, drain: Drain, leased: Callable[[], Awaitable[Lease | None]]) -> None:
        """Claim and drain in one task of ours: a caller that leaves in between cannot strand the stream."""
        stream = live.info.id
        try:
            lease = await leased()
            del leased  # the answer may take an hour
            if lease:
                await drain.run(lease)
        except Exception:
            logger.exception("stream %s: its drain broke; recovery seals it", stream)
        finally:
            if not live.info.sealed:
                live.abandon(None if drain.fenced else _given_up(stream))
                self._watch.look()
            del self._live[stream], self._drains[stream]
            live.ring()
            if not self._live:
                self._idle.set()

    async def _lease(self, new: NewStream, claimed: Claiming) -> Lease | None:
        """What permits the call; None where the store gave none. Decides the claim, whatever happens."""
        try:
            lease = await self.store.create(new, replaces=new.previous)
            claimed.decide(None)
            return lease
        except ResumeStreamError as error:
            claimed.decide(error)
        except Exception:
            logger.exception("stream %s could not be created", new.id)
            claimed.decide(StoreError("the stream could not be created; the server's log tells why"))
        finally:
            claimed.decide(Draining("the server is shutting down and takes no new streams"))
        return None

    def found(self, stream: StreamId) -> None:
        """The stream's id reached somebody who can come back for it."""
        if live := self._live.get(stream):
            live.audience.found = True

    # --- reading -------------------------------------------------------------------------------------------------

    async def stat(self, stream: StreamId) -> StreamInfo:
        """The record as of now: retention is enforced here, on access. Raises StreamNotFound."""
        info, now = await self._record(stream), self.store.now()
        if not info.gone and now >= info.expires_at:
            # An expiry never cuts a read that was open before it, and nobody knows of those in other processes
            if self.reads.open(stream) or not self.store.peers.alone():
                return info.as_of(now)
            info = await self.store.purge(stream, Gone.EXPIRED)
        if now >= info.forgets_at:
            await self.store.forget(stream)
            raise StreamNotFound(f"there is no stream {stream}", stream=stream)
        return info

    async def _record(self, stream: StreamId) -> StreamInfo:
        live = self._live.get(stream)  # before the look: the seal may come between that and its answer
        return _newest(await self.store.stat(stream), live)

    async def answered(self, stream: StreamId) -> StreamInfo:
        """The record once the upstream's head is known or the stream has ended. For an open read, or one that a claim
        holds: nothing expires for those. Raises Draining, StreamNotFound."""
        until = math.inf
        while True:
            info = await self._record(stream)
            live = self._live.get(stream)
            given_up = live.failed is not None if live else info.new.worker == self.worker
            if info.sealed or (info.head and not given_up and not (live and live.abandoned)):
                return info
            if given_up and not self.draining:  # it is being ended, which takes milliseconds, or it cannot be for now
                until = min(until, anyio.current_time() + ENDING_S)
                if anyio.current_time() < until:
                    await anyio.sleep(ENDING_S / 50)
                    continue
            if self.draining or given_up:
                raise Draining("this stream has no owner for the moment; ask again", stream=stream, retry_after_s=1)
            live = live or self.reads.follow(info)
            if live.failed:
                raise live.failed
            if live.abandoned or not (live.info.sealed or live.info.head):
                await live.arm().wait()

    def _left(self, live: Live) -> None:
        """The last reader left. Who cannot find the stream again will not: then nobody pays on for it."""
        grace = grace_s(live.info.new.on_disconnect) if live.audience.found else 0.0
        if live.info.sealed or live.info.id not in self._drains or self.draining:
            return
        if grace == 0:
            self._stop(live.info.id, Ending.of("nobody_listens"))
        elif grace < math.inf:
            self._tasks.start_soon(self._grace, live, grace)

    async def _grace(self, live: Live, seconds: float) -> None:
        if await live.audience.stays_away(seconds):
            self._stop(live.info.id, Ending.of("nobody_listens"))

    async def find(self, query: Query) -> list[StreamInfo]:
        """Records as of now, newest first; expired ones that nobody looked at yet are shown as such."""
        found = await self.store.find(query)
        now = self.store.now()
        return [_newest(info, self._live.get(info.id)).as_of(now) for info in found]

    # --- stopping ------------------------------------------------------------------------------------------------

    def _stop(self, stream: StreamId, ending: Ending) -> None:
        if drain := self._drains.get(stream):
            drain.stop(ending)

    def _stop_all(self) -> None:
        for drain in self._drains.values():
            drain.stop(Ending.of("shutdown"))

    async def cancel(self, stream: StreamId) -> None:
        """Ask to stop: durable on return; the partial is kept. Does nothing to a sealed stream."""
        await self.store.request_cancel(stream)
        if stream in self._drains:
            self._stop(stream, Ending.of("requested"))
        else:
            self.store.peers.tell((await self.store.stat(stream)).new.worker)

    async def delete(self, stream: StreamId, *, forget: bool = False) -> StreamInfo:
        """Stop it if live, drop its payload, cut its readers; with `forget` drop its tombstone and key too. Its record,
        as it is left."""
        live = self._live.get(stream)
        self._stop(stream, Ending.of(DELETED))
        while live and not live.info.sealed and not live.abandoned:
            await live.arm().wait()
        self._deleting[stream] += 1
        try:
            await self._stopped_elsewhere(stream)
            purged = await delete(self.store, stream, stop=self._stop_call, sealed=self.sealed)
        finally:
            self._deleting[stream] -= 1
            if not self._deleting[stream]:
                del self._deleting[stream]
        self.reads.dropped(purged)
        if live:
            live.sealed(purged)
        if forget:
            await self.store.forget(stream)
        return purged

    async def _stopped_elsewhere(self, stream: StreamId) -> None:
        """Where a provider would go on by itself, have who drains the stream stop it: nobody else may know how."""
        info, peers = await self.store.stat(stream), self.store.peers
        owner, goes_on = info.new.worker, any(attempt.remote for attempt in info.attempts)
        if info.sealed or not goes_on or owner == self.worker or peers.lost(owner):
            return
        await self.store.request_cancel(stream)
        peers.tell(owner)
        with anyio.move_on_after(STOP_S), self.reads.holding(stream):
            live = self.reads.follow(info)
            while not live.info.sealed and not live.abandoned:
                await live.arm().wait()

    async def _stop_call(self, info: StreamInfo) -> None:
        if answer := self._read_on(self.store, info):
            await answer.cancel()

    # --- calls whose owner is lost (recovery.Heir) ---------------------------------------------------------------

    def adopt(self, info: StreamInfo, lease: Lease) -> bool:
        """Whether it is drained on here, with no new call. Its readers have `lease_s` to come back."""
        answer = None if self.draining else self._read_on(self.store, info)
        if answer is None:
            return False
        live = self._live[info.id] = Live(info, self._windows, found=True, told=self.store.peers.changed)
        live.audience.scattered()
        route = only(Opened(answer, info.new.upstream), info.new.upstream)
        drain = Drain(self.store, live, route, self.policy, sealed=self.sealed, resumed=True)
        self._drains[info.id] = drain

        async def leased() -> Lease:
            return lease

        async def run() -> None:
            await self._run(live, drain, leased)
            if live.info.seal and live.info.seal.outcome is Outcome.CANCELLED:
                await answer.cancel()  # a stop may have come before the drain had it
            await answer.aclose()

        self._spawn(run)
        grace = grace_s(info.new.on_disconnect)
        if grace < math.inf:
            self._tasks.start_soon(self._grace, live, max(grace, self.policy.lease_s))
        return True

    def stop(self, info: StreamInfo) -> None:
        """Have its provider stop, where it goes on."""
        self._spawn(partial(self._stop_call, info))

    def sealed(self, info: StreamInfo) -> None:
        self.counters.sealed(info)

    # --- what other processes say (ports.Duties) -----------------------------------------------------------------

    def followed(self, stream: StreamId, by: str) -> None:
        if live := self._live.get(stream):
            live.audience.followed(by)

    def left(self, stream: StreamId, by: str) -> None:
        if live := self._live.get(stream):
            live.audience.left(by)
            if not live.audience.readers:
                self._left(live)

    def look(self) -> None:
        self._watch.look()

    # --- the end -------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Stop admitting, cut readers, let drains finish for `drain_s`, seal the rest. Idempotent; waits for the end.

        Cancelled: the rest is sealed when the Hub is left.
        """
        self.draining = True
        for live in self._live.values():
            live.ring()
        with anyio.move_on_after(self.policy.drain_s):
            await self._until_idle()
        self._stop_all()
        with anyio.move_on_after(CLOSE_S):
            await self._until_idle()

    async def _until_idle(self) -> None:
        while self._live:
            if self._idle.is_set():
                self._idle = anyio.Event()
            await self._idle.wait()


def _newest(info: StreamInfo, live: Live | None) -> StreamInfo:
    """What the drain here knows beyond the store's record: not that another process has ended its stream."""
    return live.info if live and not (live.abandoned or info.sealed) else info


def _given_up(stream: StreamId) -> StoreError:
    return StoreError("the stream's log could not be written any more", stream=stream)
