"""One store, seen by each process through a handle of its own: what the reference does, late, with failures, and not
at all once the process is dead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Self

import trio

from resumestream.errors import StoreBusy, StoreError, StoreFull
from resumestream.model import Durability, Gone, Lease, NewStream, Seal, StreamId, StreamInfo
from resumestream.stores import MemoryStore

from .network import SimulatedPeers
from .ticks import TICK_S

WRITES = frozenset({"create", "acquire", "begin", "append", "seal", "request_cancel", "purge", "forget"})
CALLS = WRITES | {
    *("probe", "binding", "read", "stat", "find", "unsealed", "owners", "held", "due", "oldest", "kept", "ledger"),
    *("tally", "prune", "tidy", "verify"),
}
POLLED = frozenset({"owners", "held", "due", "oldest", "kept", "tally", "prune", "tidy"})
"""What a Hub asks by itself all the time: answered at once, or most of a simulation would be that."""
BUSY_S = 3 * TICK_S
DELAYS = 1, 1, 1, 1, 2, 2, 4, 16
"""Ticks."""

FAILURES: dict[str, tuple[frozenset[str], Callable[[], StoreError]]] = {
    "busy": (WRITES, lambda: StoreBusy("somebody else holds the write lock")),
    "full": (frozenset({"create", "begin", "append"}), lambda: StoreFull("no space is left")),
    "I/O error": (CALLS, lambda: StoreError("the disk does not answer")),
}


class Killed(BaseException):
    """The process that made this call is dead; nothing of it goes on."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A store that fails for a while: a key of FAILURES, and which part of its calls."""

    kind: str
    begins_s: float
    ends_s: float
    share: float


class Log:
    """What the store has, ever had, and said first. `Handle`s act on it."""

    def __init__(self, rng: Random, *, slow: float, trouble: Trouble | None, said: Callable[[str, str], None]) -> None:
        """`slow`: which part of all calls waits."""
        self.rng, self.slow, self.trouble, self.said = rng, slow, trouble, said
        self.core = Remembering(clock=trio.current_time)

    def failure(self, name: str) -> StoreError | None:
        trouble = self.trouble
        if trouble is None or not trouble.begins_s <= trio.current_time() < trouble.ends_s:
            return None
        calls, made = FAILURES[trouble.kind]
        return made() if name in calls and self.rng.random() < trouble.share else None

    async def delay(self) -> None:
        drawn = self.rng.random()
        if drawn < self.slow / 2:
            await trio.sleep(TICK_S * self.rng.choice(DELAYS))
        elif drawn < self.slow:
            await trio.lowlevel.checkpoint()


class Remembering(MemoryStore):
    """Forgets nothing, for who checks afterwards."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.dropped: dict[StreamId, tuple[StreamInfo, bytes]] = {}
        self.first: dict[StreamId, tuple[StreamInfo, bytes]] = {}
        """As they were when they were sealed."""
        self.leased: dict[StreamId, list[str]] = {}
        """Who made it, and who took it over."""

    def now_of(self, stream: StreamId) -> tuple[StreamInfo, bytes]:
        """The record, and all of the payload that ever was."""
        return self.dropped.get(stream) or (self._streams[stream], bytes(self._payloads[stream]))

    def seen(self) -> list[StreamId]:
        return list(self.dropped | dict.fromkeys(self._streams))

    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        info = await super().seal(lease, seal)
        if lease.stream not in self.first:
            self.first[lease.stream] = self.now_of(lease.stream)
        return info

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        before = self.now_of(stream) if stream in self._streams else None
        info = await super().purge(stream, why)
        if before:
            self.dropped[stream] = before
        return info

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        assert new.id not in self._streams, "an id is used twice"
        lease = await super().create(new, replaces=replaces)
        self.leased[new.id] = [new.worker]
        return lease

    async def acquire(self, stream: StreamId, worker: str, *, after: int) -> Lease:
        lease = await super().acquire(stream, worker, after=after)
        self.leased[stream].append(worker)
        return lease


class Handle:
    """Implements ports.LogStore for one process, until that dies."""

    durability: Durability = "disk"
    location = "simulated:"
    secrets = (bytes(32),)

    def __init__(self, log: Log, peers: SimulatedPeers) -> None:
        self._log, self.peers = log, peers
        self.dead = False

    def now(self) -> float:
        return self._log.core.now()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.peers.page.alive = False

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name not in CALLS:
            raise AttributeError(name)
        act, prompt = getattr(self._log.core, name), name in POLLED

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._call(name, act, args, kwargs, prompt)

        setattr(self, name, call)
        return call

    async def _call(
        self, name: str, act: Callable[..., Awaitable[Any]], args: Any, kwargs: dict[str, Any], prompt: bool
    ) -> Any:
        """It may be cancelled, or the process killed or frozen, before the act, and between that and its answer."""
        log = self._log
        await self._ready(prompt)
        failure = log.failure(name)
        if failure:
            log.said(self.peers.me, f"{name} fails: {failure.code}")
            # A failing disk may have done it all the same; a lock that was not had did nothing
            if type(failure) is StoreError and log.rng.random() < 0.3:
                await act(*args, **kwargs)
            await trio.sleep(BUSY_S)
            await self._ready(prompt=True)
            raise failure
        result = await act(*args, **kwargs)
        if name in WRITES:
            log.said(self.peers.me, f"{name} {getattr(args[0], 'stream', None) or getattr(args[0], 'id', args[0])}")
        await self._ready(prompt)
        return result

    async def _ready(self, prompt: bool) -> None:
        if not prompt:
            await self._log.delay()
        if not self.peers.thawed.is_set():
            await self.peers.thawed.wait()
        if self.dead:
            raise Killed
