"""Bytes: what is appended is what is read, whole, in order, from every offset."""

from __future__ import annotations

import secrets

import anyio
import anyio.lowlevel

from ...errors import OffsetConflict
from ...model import Lease
from ...ports import LogStore
from .checking import SEAL, Check, Make, equal, new_stream, reads_are_right, whole


async def offsets_count_payload_bytes(make: Make, store: LogStore) -> None:
    lease, payload = await store.create(new_stream(store)), b""
    for size in (1, 7, 0, 255, 2, 4097, 3, 70_001):
        data = secrets.token_bytes(size)
        tail = await store.append(lease, len(payload), data, events=1)
        payload += data
        equal(tail, len(payload), "append returns the number of payload bytes so far")
        equal((await store.stat(lease.stream)).tail, tail, "stat tells the tail that append returned")
    equal((await store.stat(lease.stream)).events, 8, "events are added up")
    await reads_are_right(store, lease.stream, payload)
    await store.seal(lease, SEAL)
    await reads_are_right(store, lease.stream, payload)


async def append_compares_the_offset(make: Make, store: LogStore) -> None:
    lease = await store.create(new_stream(store))
    await store.append(lease, 0, b"abcdef")
    for at in (0, 5, 7, 1000):
        try:
            await store.append(lease, at, b"xyz")
        except OffsetConflict as conflict:
            equal((conflict.at, conflict.tail), (at, 6), "an OffsetConflict names the offset asked and the tail")
        else:
            raise AssertionError(f"an append at offset {at} of 6 bytes is refused")
    equal(await whole(store, lease.stream), b"abcdef", "a refused append changes nothing")
    equal(await store.append(lease, 6, b"g"), 7, "an append at the tail goes on after a refused one")


async def a_refusal_hurts_nobody_beside_it(make: Make, store: LogStore) -> None:
    leases = [await store.create(new_stream(store)) for _ in range(12)]
    refused: list[int] = []

    async def write(number: int, lease: Lease) -> None:
        for step in range(5):
            wrong = number % 3 == 0 and step > 0
            try:
                await store.append(lease, step + wrong, b"%x" % number)
            except OffsetConflict:
                refused.append(number)

    async with anyio.create_task_group() as tasks:
        for number, lease in enumerate(leases):
            tasks.start_soon(write, number, lease)
    equal(len(refused), 16, "every append at a wrong offset is refused")
    for number, lease in enumerate(leases):
        expected = b"%x" % number * (1 if number % 3 == 0 else 5)
        equal(await whole(store, lease.stream), expected, "appends beside refused ones land, and the refused do not")


async def a_cancelled_call_leaves_the_store_usable(make: Make, store: LogStore) -> None:
    lease = await store.create(new_stream(store))
    for turns in range(4):
        before = (await store.stat(lease.stream)).tail
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.append, lease, before, b"0123456789")
            tasks.start_soon(store.read, lease.stream, 0, 10)
            tasks.start_soon(store.stat, lease.stream)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        try:  # an append is ordered after the one before it, whether that happened or not
            tail = await store.append(lease, before, b"")
        except OffsetConflict as conflict:
            tail = conflict.tail or 0
        assert tail in (before, before + 10), "a cancelled append happened whole or not at all"
        await store.append(lease, tail, b"9876543210")
    payload = await whole(store, lease.stream)
    torn = payload.replace(b"0123456789", b"").replace(b"9876543210", b"")
    equal(torn, b"", "appends stay whole over cancellations")
    equal((await store.seal(lease, SEAL)).tail, len(payload), "a store seals after cancelled calls")


CHECKS: tuple[Check, ...] = (
    offsets_count_payload_bytes,
    append_compares_the_offset,
    a_refusal_hurts_nobody_beside_it,
    a_cancelled_call_leaves_the_store_usable,
)
