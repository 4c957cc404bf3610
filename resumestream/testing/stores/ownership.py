"""Who may write: leases, epochs, takeovers, and the intent to stop. Two handles stand for two processes."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from ...errors import LeaseLost
from ...model import Attempt, Head, Lease
from ...ports import LogStore
from .checking import SEAL, Check, Make, equal, new_stream, refused, token, whole


async def a_takeover_fences_off(make: Make, store: LogStore) -> None:
    old = await store.create(new_stream(store))
    await store.append(old, 0, b"old")
    async with make() as other:
        new = await other.acquire(old.stream, "taker", after=old.epoch)
        equal((new.epoch, new.worker), (old.epoch + 1, "taker"), "a takeover leases the next epoch to the taker")
        with refused(LeaseLost, "the old owner cannot append after a takeover"):
            await store.append(old, 3, b"late")
        with refused(LeaseLost, "the old owner cannot begin after a takeover"):
            await store.begin(old, Attempt("u", 0.0), Head(200))
        with refused(LeaseLost, "the old owner cannot seal after a takeover"):
            await store.seal(old, SEAL)
        equal(await other.append(new, 3, b"new"), 6, "the taker appends at the old tail")
        equal((await other.seal(new, SEAL)).tail, 6, "the taker seals")
    with refused(LeaseLost, "a fenced owner learns that it is fenced, also when the stream has ended since"):
        await store.append(old, 3, b"late")
    equal(await whole(store, old.stream), b"oldnew", "nothing a fenced owner wrote is in the payload")
    equal((await store.stat(old.stream)).new.worker, "taker", "the record names the worker that took over")


async def a_cancel_is_a_stored_intent(make: Make, store: LogStore) -> None:
    lease, other_lease = await store.create(new_stream(store)), await store.create(new_stream(store))
    async with make() as other:
        for _ in range(2):
            await other.request_cancel(lease.stream)
    asked = await store.held(lease.worker)
    assert asked[lease.stream], "an intent left through another handle is seen"
    assert not asked[other_lease.stream], "only what somebody asked to stop is told as such"
    assert (await store.stat(lease.stream)).cancel_requested, "the record tells that somebody asked to stop"
    await store.append(lease, 0, b"more")
    await store.seal(lease, SEAL)
    assert lease.stream not in await store.held(lease.worker), "a sealed stream is no longer held"
    sealed = await store.seal(other_lease, SEAL)
    await store.request_cancel(other_lease.stream)
    equal(await store.stat(other_lease.stream), sealed, "asking to stop a sealed stream does nothing")


async def a_takeover_compares_the_epoch(make: Make, store: LogStore) -> None:
    first = await store.create(new_stream(store))
    for wrong in (0, 2):
        with refused(LeaseLost, "a takeover that expects another epoch than there is is refused"):
            await store.acquire(first.stream, "taker", after=wrong)
    equal((await store.stat(first.stream)).epoch, 1, "a refused takeover changes nothing")
    await store.append(first, 0, b"still mine")
    leases, lost = list[Lease](), list[str]()

    async def take(through: LogStore, taker: str) -> None:
        try:
            leases.append(await through.acquire(first.stream, taker, after=1))
        except LeaseLost:
            lost.append(taker)

    async with make() as other, anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(take, (store, other)[number % 2], f"taker{number}")
    equal(len(leases), 1, "of racing takeovers, through two handles, exactly one gets the lease")
    info = await store.stat(first.stream)
    equal((info.epoch, info.new.worker), (2, leases[0].worker), "the record names the one that won")


async def a_takeover_amid_appends_loses_none(make: Make, store: LogStore) -> None:
    """Each append has its own byte, so that every one that is in the payload can be told."""
    first = await store.create(new_stream(store))
    acknowledged, enough = bytearray(), anyio.Event()

    async def write() -> None:
        try:
            for number in range(250):
                await store.append(first, number, bytes([number]))
                acknowledged.append(number)
                if number == 20:
                    enough.set()
                await anyio.lowlevel.checkpoint()
        except LeaseLost:
            return

    async with make() as other:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await enough.wait()
            second = await other.acquire(first.stream, "taker", after=1)
            tail = (await other.stat(first.stream)).tail
            equal(await other.append(second, tail, b"taken"), tail + 5, "the taker appends at the tail that it finds")
        payload = await whole(other, first.stream)
        equal(payload[: len(acknowledged)], bytes(acknowledged), "what the old owner was told is stored is in the log")
        in_flight = len(payload) - 5 - len(acknowledged)
        assert in_flight in (0, 1), "at most the one append that the takeover met is there without having been told"
    equal(await whole(store, first.stream), payload, "both handles read the same")


async def held_follows_the_owner(make: Make, store: LogStore) -> None:
    mine, taken, ended = [await store.create(new_stream(store, worker=token())) for _ in range(3)]
    for lease in (mine, taken, ended):
        equal(await store.held(lease.worker), {lease.stream: False}, "a worker holds the streams it created")
    assert {mine.worker, taken.worker, ended.worker} <= await store.owners(), "the owners of live streams are told"
    await store.seal(ended, SEAL)
    equal(await store.held(ended.worker), {}, "a worker no longer holds what was sealed")
    taker = token()
    async with make() as other:
        await other.acquire(taken.stream, taker, after=1)
        await other.request_cancel(taken.stream)
    equal(await store.held(taken.worker), {}, "a worker no longer holds what was taken over")
    equal(await store.held(taker), {taken.stream: True}, "what was taken over is the taker's, with the intent to stop")
    owners = await store.owners()
    assert taker in owners, "a taker is among the owners"
    assert not {taken.worker, ended.worker} & owners, "who owns no live stream is not among the owners"


CHECKS: tuple[Check, ...] = (
    a_takeover_fences_off,
    a_takeover_compares_the_epoch,
    a_takeover_amid_appends_loses_none,
    held_follows_the_owner,
    a_cancel_is_a_stored_intent,
)
