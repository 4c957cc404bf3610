"""What refuses a start before any provider call, and what is evicted to let it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from resumestream.admission import Admission
from resumestream.errors import (
    ConfigError,
    ResumeStreamError,
    StoreBusy,
    StoreError,
    StoreFull,
    TooManyOfPrincipal,
    TooManyOrphans,
    TooManyStreams,
)
from resumestream.eviction import BATCH, Eviction
from resumestream.http.problems import problem
from resumestream.model import Gone, Kept, Lease, NewStream, Outcome, Principal, Seal, State, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.stores import MemoryStore

from .fakes import new_stream

pytestmark = pytest.mark.anyio
SEAL = Seal(Outcome.COMPLETED, "end", "It ended.")


class Gate:
    """A store, its eviction and its admission, and starts as the Hub makes them."""

    def __init__(self, store: MemoryStore | None = None, **policy: int) -> None:
        self.store = store or MemoryStore()
        self.evicted: list[StreamInfo] = []
        self.eviction = Eviction(self.store, self.evicted.append)
        self.admission = Admission(self.store, Policy(**policy), self.eviction)  # type: ignore[arg-type]

    async def start(
        self, *, limits: Mapping[str, int] | None = None, live: int = 0, orphans: int = 0, **changes: object
    ) -> Lease:
        new = new_stream(self.store.now, **changes)
        with anyio.fail_after(10), self.admission.claiming(new):
            await self.admission.admit(new, limits or {}, live=live, orphans=orphans)
            return await self.store.create(new)

    async def ended(self, size: int, **changes: object) -> StreamId:
        lease = await self.start(**changes)  # type: ignore[arg-type]
        await self.store.append(lease, 0, bytes(size))
        await self.store.seal(lease, SEAL)
        return lease.stream

    async def states(self, *streams: StreamId) -> list[State]:
        return [(await self.store.stat(stream)).state for stream in streams]


async def test_the_store_counts_live_streams() -> None:
    """The cap holds over all processes, and ended streams leave room."""
    gate = Gate(max_live_streams=2)
    first = await gate.start()
    await gate.start(principal="else")
    with pytest.raises(TooManyStreams, match="2 streams are live"):
        await gate.start()
    await gate.store.seal(first, SEAL)
    await gate.start()


async def test_drains_that_still_close_count() -> None:
    """A drain whose stream has ended holds memory until its source is closed."""
    with pytest.raises(TooManyStreams):
        await Gate(max_live_streams=2).start(live=2)
    await Gate(max_live_streams=2).start(live=1)


async def test_orphans() -> None:
    """Too many streams that nobody reads."""
    gate = Gate(max_orphan_drains=3)
    await gate.start(orphans=2)
    with pytest.raises(TooManyOrphans, match="3 live streams have no reader"):
        await gate.start(orphans=3)


async def test_a_principal_has_its_own_cap() -> None:
    """It holds for that principal alone."""
    gate, limits = Gate(), {"max_live_streams": 1}
    lease = await gate.start(principal="ann", limits=limits)
    await gate.start(principal="bob", limits=limits)
    with pytest.raises(TooManyOfPrincipal):
        await gate.start(principal="ann", limits=limits)
    await gate.start(principal="ann", limits={"max_live_streams": 2})
    await gate.store.seal(lease, SEAL)
    with pytest.raises(TooManyOfPrincipal):
        await gate.start(principal="ann", limits=limits)


class Slow(MemoryStore):
    """As a store with threads: what it counts was true some time ago, and a create takes its time."""

    async def kept(self, principal: str | None = None) -> Kept:
        await anyio.lowlevel.checkpoint()
        kept = await super().kept(principal)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        return kept

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        for _ in range(2):
            await anyio.lowlevel.checkpoint()
        lease = await super().create(new, replaces=replaces)
        for _ in range(2):
            await anyio.lowlevel.checkpoint()
        return lease


@pytest.mark.parametrize("limits", [{}, {"max_live_streams": 5}])
async def test_racing_claims_fill_the_cap_exactly(limits: dict[str, int]) -> None:
    """None passes it, and none is refused while there is room."""
    gate = Gate(Slow(), max_live_streams=100 if limits else 5)
    refused = list[ResumeStreamError]()

    async def claim() -> None:
        try:
            await gate.start(limits=limits)
        except (TooManyStreams, TooManyOfPrincipal) as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(claim)
    assert (await gate.store.kept()).live == 5
    assert len(refused) == 15


async def test_a_claim_that_came_to_nothing_leaves_its_place() -> None:
    """Who waits for it gets in."""
    gate = Gate(max_live_streams=1)
    entered = list[Lease]()

    async def claim() -> None:
        entered.append(await gate.start())

    async with anyio.create_task_group() as tasks:
        with gate.admission.claiming(first := new_stream(gate.store.now)):
            await gate.admission.admit(first, {}, live=0, orphans=0)
            tasks.start_soon(claim)
            await anyio.wait_all_tasks_blocked()
            assert not entered
    assert len(entered) == 1


async def test_the_oldest_sealed_payloads_make_room() -> None:
    """As many as it takes, never a live one; whoever reads one is told."""
    gate = Gate(max_total_bytes=100)
    live = await gate.start()
    await gate.store.append(live, 0, bytes(30))
    old, middle, young = [await gate.ended(size) for size in (10, 20, 39)]
    await gate.start()
    assert not gate.evicted
    await gate.store.append(live, 30, bytes(15))
    await gate.start()
    assert await gate.states(old, middle, young) == [State.EXPIRED, State.EXPIRED, State.SEALED]
    assert [(info.id, info.gone) for info in gate.evicted] == [(old, Gone.EVICTED), (middle, Gone.EVICTED)]
    assert (await gate.store.kept()).payload_bytes == 84
    assert (await gate.store.stat(live.stream)).tail == 45


async def test_only_live_streams_left() -> None:
    """Then there is no room to make."""
    gate = Gate(max_total_bytes=100)
    live = await gate.start()
    sealed = await gate.ended(10)
    await gate.store.append(live, 0, bytes(100))
    with pytest.raises(StoreFull, match="live streams hold the 100 bytes"):
        await gate.start()
    assert await gate.states(sealed) == [State.EXPIRED]


async def test_a_principals_bytes_are_its_own() -> None:
    """Its own oldest payloads go, and nobody else's."""
    gate, limits = Gate(), {"max_total_bytes": 50}
    foreign = await gate.ended(40, principal="bob")
    old, young = [await gate.ended(size, principal="ann", limits=limits) for size in (30, 20)]
    live = await gate.start(principal="ann", limits=limits)
    assert await gate.states(foreign, old, young) == [State.SEALED, State.EXPIRED, State.SEALED]
    await gate.store.append(live, 0, bytes(50))
    with pytest.raises(StoreFull, match="your live streams"):
        await gate.start(principal="ann", limits=limits)
    assert await gate.states(foreign, young) == [State.SEALED, State.EXPIRED]
    await gate.start(principal="bob", limits=limits)


async def test_every_refusal_says_when_to_come_back() -> None:
    """429, 503 and 507 with Retry-After."""
    gate = Gate(max_live_streams=1, max_total_bytes=1, max_orphan_drains=1)
    await gate.start(orphans=0)
    refused: dict[int, str] = {}
    for options in ({"live": 1}, {"orphans": 1}, {}):
        with pytest.raises(ResumeStreamError) as error:
            await gate.start(**options)  # type: ignore[arg-type]
        answer = problem(error.value, gateway=True)
        refused[answer.status_code] = answer.headers["retry-after"]
    assert refused == {503: "5", 429: "5"}
    assert problem(StoreFull("No space is left."), gateway=True).headers["retry-after"] == "5"
    assert problem(TooManyOfPrincipal("Enough.", retry_after_s=5), gateway=True).status_code == 429


class Damaged(MemoryStore):
    """Cannot drop some payloads."""

    damaged: set[StreamId]
    error: type[StoreError] = StoreError

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        if stream in self.damaged:
            raise self.error("its pages are damaged", stream=stream)
        return await super().purge(stream, why)


async def test_a_damaged_payload_is_passed_over() -> None:
    """The next oldest goes instead, also where a whole batch is damaged."""
    gate = Gate(store := Damaged(), max_total_bytes=1000)
    streams = [await gate.ended(1) for _ in range(BATCH // 2)]
    store.damaged = set(streams[:-1])
    assert await gate.eviction.down_to(len(streams) - 1)
    assert await gate.states(*streams[-2:]) == [State.SEALED, State.EXPIRED]
    assert not await gate.eviction.down_to(0)


async def test_a_busy_store_is_not_asked_a_hundred_times() -> None:
    """The failure is nobody's in particular."""
    gate = Gate(store := Damaged())
    store.damaged, store.error = {await gate.ended(1), await gate.ended(1)}, StoreBusy
    with pytest.raises(StoreBusy):
        await gate.eviction.down_to(0)


async def test_evictions_at_once_do_not_make_the_room_twice() -> None:
    """Who comes second finds it made."""
    gate = Gate(Slow())
    streams = [await gate.ended(10) for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(gate.eviction.down_to, 30)
    assert await gate.states(*streams) == [State.EXPIRED, *[State.SEALED] * 3]


@pytest.mark.parametrize("limits", [{"max_stream_bytes": 1}, {"max_live_streams": 0}, {"max_total_bytes": True}])
def test_limits_that_mean_nothing_are_refused(limits: dict[str, int]) -> None:
    """By name, when the Principal is made."""
    with pytest.raises(ConfigError, match=r"Principal\.limits.*(max_live_streams|max_total_bytes)"):
        Principal("p", limits=limits)
    assert replace(Principal("p"), limits={"max_live_streams": 1, "max_total_bytes": 1}).limits
