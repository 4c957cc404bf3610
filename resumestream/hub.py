"""Owns the running drains: claims, leases, start-up recovery, stops, and an orderly end."""

from __future__ import annotations

import logging
import math
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Self
from weakref import WeakValueDictionary

import anyio
import anyio.abc

from .claims import Attach, Start
from .drain import Drain
from .endings import Ending
from .errors import (
    BindingMoved,
    Draining,
    ResumeStreamError,
    StoreError,
    StreamNotFound,
    TooManyOrphans,
    TooManyStreams,
)
from .live import Live
from .model import Binding, Gone, NewStream, Query, StreamId, StreamInfo
from .policy import Policy, grace_s
from .ports import LogStore, Source
from .recovery import recover
from .refusals import about
from .tail import Tail

logger = logging.getLogger("resumestream")

WATCH_S = 0.5
"""How often stored intents to cancel are looked for: another process may have written one."""

CLOSE_S = 2
"""How long the last seals may take when the Hub ends."""

ID_BYTES = 18
"""144 random bits a stream id, above the 128 that make it unguessable."""


def mint() -> StreamId:
    """A new stream id, URL-safe, and never like an option on a command line."""
    while (text := secrets.token_urlsafe(ID_BYTES)).startswith("-"):
        pass
    return StreamId(text)


Decide = Callable[[Binding | None, StreamInfo | None], Start | Attach]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The provider call a new stream would make."""

    source: Source
    where: str
    """How messages name the upstream."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a create came to: `started` for the one caller whose call is being made, False for all who attach."""

    stream: StreamId
    started: bool


class Hub:
    """`async with Hub(store, policy) as hub`: everything that runs, runs inside; at its end everything is sealed."""

    def __init__(self, store: LogStore, policy: Policy) -> None:
        self.store, self.policy = store, policy
        self.worker = secrets.token_urlsafe(9)
        """This incarnation's random id."""
        self.draining = False
        self._live: dict[StreamId, Live] = {}
        self._drains: dict[StreamId, Drain] = {}
        self._reads: Counter[StreamId] = Counter()
        self._turns: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self._given_up = False
        """A drain ended without a seal: nobody owns its stream now."""
        self._idle = anyio.Event()

    async def __aenter__(self) -> Self:
        """Open the store, seal what a dead process left, start watching. Raises what the store raises."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.store)
            await self._recover("process_died")
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            self._tasks.start_soon(self._watch)
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

    async def _recover(self, because: str) -> None:
        await recover(self.store, self.worker, self.policy, running=self._live, because=because)

    async def _watch(self) -> None:
        while True:
            await anyio.sleep(WATCH_S)
            try:
                if self._drains:
                    for stream in await self.store.cancel_requests():
                        self._stop(stream, Ending.of("requested"))
                if self._given_up:
                    self._given_up = False  # before the look: another may be given up meanwhile
                    await self._recover("given_up")
            except Exception as error:
                self._given_up = True
                logger.warning("the store does not answer; trying again", exc_info=not isinstance(error, StoreError))

    # --- starting ------------------------------------------------------------------------------------------------

    async def claim(
        self, new: NewStream, outgoing: Outgoing, decide: Decide | None = None, *, found: bool = False
    ) -> Claim:
        """Start `new`, or attach to what its key means, as `decide` says. The claim is durable on return.

        `found`: the caller will learn the id in any case, so `on_disconnect` holds even if it leaves before the head.

        Raises what `decide` raises, and before anything is started Draining, TooManyStreams, TooManyOrphans,
        StoreError. Cancelled: the stream may have been started; its key finds it.
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
                return Claim(decision.stream, started=False)
            try:
                new = replace(new, previous=decision.replaces)
                await self._start(new, outgoing, found)
            except BindingMoved:
                continue
            return Claim(new.id, started=True)

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
        self._admit()
        live = self._live[new.id] = Live(new, found=found, window_bytes=self.policy.window_bytes)
        drain = Drain(self.store, live, outgoing.source, self.policy, where=outgoing.where)
        self._drains[new.id] = drain
        claimed = _Claimed()
        self._tasks.start_soon(self._run, new, drain, claimed)
        try:
            await claimed.wait()
        except BaseException:
            if not live.audience.readers:
                self._left(live)
            raise

    def _admit(self) -> None:
        if self.draining:
            raise Draining("the server is shutting down and takes no new streams", retry_after_s=5)
        if len(self._live) >= self.policy.max_live_streams:
            raise TooManyStreams(f"{len(self._live)} streams are live, the most this server takes", retry_after_s=5)
        orphans = sum(live.audience.orphaned for live in self._live.values())
        if orphans >= self.policy.max_orphan_drains:
            raise TooManyOrphans(f"{orphans} live streams have no reader, the most this server takes", retry_after_s=5)

    async def _run(self, new: NewStream, drain: Drain, claimed: _Claimed) -> None:
        """Claim and drain in one task of ours: a caller that leaves in between cannot strand the stream."""
        live, dispatched = self._live[new.id], False
        try:
            try:
                lease = await self.store.create(new, replaces=new.previous)
            except ResumeStreamError as error:
                claimed.decide(error)
                return
            except Exception:
                logger.exception("stream %s could not be created", new.id)
                claimed.decide(StoreError("the stream could not be created; the server's log tells why"))
                return
            dispatched = True
            claimed.decide(None)
            await drain.run(lease)
        except Exception:
            logger.exception("stream %s: its drain broke; recovery seals it", new.id)
        finally:
            claimed.decide(Draining("the server is shutting down and takes no new streams"))
            if not live.info.sealed:
                live.abandon()
                self._given_up |= dispatched and not drain.fenced
            del self._live[new.id], self._drains[new.id]
            live.ring()
            if not self._live:
                self._idle.set()

    def found(self, stream: StreamId) -> None:
        """The stream's id reached somebody who can come back for it."""
        if live := self._live.get(stream):
            live.audience.found = True

    # --- reading -------------------------------------------------------------------------------------------------

    async def stat(self, stream: StreamId) -> StreamInfo:
        """The record as of now: retention is enforced here, on access. Raises StreamNotFound."""
        live = self._live.get(stream)
        if live and not live.abandoned and not live.info.sealed:  # a source may still be closing after its seal
            return live.info
        info, now = await self.store.stat(stream), self.store.now()
        if not info.gone and now >= info.expires_at:
            if self._reads[stream]:  # an expiry never cuts a read that was open before it
                return info.as_of(now)
            info = await self.store.purge(stream, Gone.EXPIRED)
        if now >= info.forgets_at:
            await self.store.forget(stream)
            raise StreamNotFound(f"there is no stream {stream}", stream=stream)
        return info

    def tail(self, stream: StreamId, at: int, *, until: int | None = None, known: StreamInfo | None = None) -> Tail:
        """Pages from `at` on, live to the end or to `until`. Check the bounds against `stat` first; `known` is what
        it said, and spares a sealed stream's tail asking again."""
        live = self._live.get(stream)
        return Tail(self.store, stream, at, until=until, known=known, live=live, closing=lambda: self.draining)

    async def answered(self, stream: StreamId) -> StreamInfo:
        """The record once the upstream's head is known or the stream has ended. Raises Draining, StreamNotFound."""
        while True:
            live = self._live.get(stream)
            changed = live.arm() if live else None
            info = await self.stat(stream)
            if info.sealed or (live and not live.abandoned and info.head):
                return info
            if self.draining or changed is None or (live and live.abandoned):
                raise Draining("this stream has no owner for the moment; ask again", stream=stream, retry_after_s=1)
            await changed.wait()

    @contextmanager
    def holding(self, stream: StreamId) -> Iterator[None]:
        """Keep the payload from expiring meanwhile."""
        self._reads[stream] += 1
        try:
            yield
        finally:
            self._reads[stream] -= 1
            if not self._reads[stream]:
                del self._reads[stream]

    @contextmanager
    def reading(self, stream: StreamId) -> Iterator[None]:
        """Count as an open live read meanwhile: what `on_disconnect` goes by. Keeps the payload, too."""
        with self.holding(stream):
            if (live := self._live.get(stream)) is None:
                yield
                return
            try:
                with live.audience.reading():
                    yield
            finally:
                if not live.audience.readers:
                    self._left(live)

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
        fresh = [live.info if (live := self._live.get(info.id)) else info for info in found]
        return [info.as_of(now) for info in fresh]

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
        self._stop(stream, Ending.of("requested"))

    async def delete(self, stream: StreamId, *, forget: bool = False) -> None:
        """Stop it if live, drop its payload, cut its readers; with `forget` drop its tombstone and key too."""
        live = self._live.get(stream)
        self._stop(stream, Ending.of("deleted"))
        while live and not live.info.sealed and not live.abandoned:
            await live.arm().wait()
        if (live is None or live.abandoned) and not (await self.store.stat(stream)).sealed:
            await self._recover("given_up")
        purged = await self.store.purge(stream, Gone.DELETED)
        if live:
            live.sealed(purged)
        if forget:
            await self.store.forget(stream)

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


class _Claimed:
    """The verdict on one claim, for the request that waits for it. The first one counts."""

    def __init__(self) -> None:
        self._decided = anyio.Event()
        self._error: ResumeStreamError | None = None

    def decide(self, error: ResumeStreamError | None) -> None:
        if not self._decided.is_set():
            self._error = error
            self._decided.set()

    async def wait(self) -> None:
        await self._decided.wait()
        if self._error:
            raise self._error
