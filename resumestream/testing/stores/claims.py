"""Keys and what they mean."""

from __future__ import annotations

import anyio

from ...errors import BindingMoved, StreamNotFound
from ...model import Gone, Lease, StreamId
from ...ports import LogStore
from .checking import SEAL, Check, Make, equal, new_stream, refused, token


async def one_of_eight_racing_creates_wins(make: Make, store: LogStore) -> None:
    key, leases, moved = token(), list[Lease](), list[StreamId]()

    async def claim() -> None:
        new = new_stream(store, key=key)
        try:
            leases.append(await store.create(new))
        except BindingMoved:
            moved.append(new.id)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(claim)
    equal(len(leases), 1, "of eight racing creates with one key exactly one gets the lease")
    binding = await store.binding(key)
    equal(binding and binding.stream, leases[0].stream, "the key means the winner's stream")
    for stream in moved:
        with refused(StreamNotFound, "a create that lost the race writes nothing"):
            await store.stat(stream)


async def a_key_moves_by_compare_and_set(make: Make, store: LogStore) -> None:
    key = token()
    equal(await store.binding(key), None, "a key that was never bound has no binding")
    first = await store.create(new_stream(store, key=key, fingerprint="f1"))
    second = await store.create(new_stream(store, key=key, fingerprint="f2"), replaces=first.stream)
    for stale in (None, first.stream, StreamId(token())):
        with refused(BindingMoved, "a re-bind that expects another stream than the key means now is refused"):
            await store.create(new_stream(store, key=key), replaces=stale)
    binding = await store.binding(key)
    assert binding, "a re-bound key has a binding"
    equal(binding.stream, second.stream, "a re-bound key means the new stream")
    equal(binding.fingerprint, "f2", "a re-bind takes the new request's fingerprint")
    equal(binding.earlier, (first.stream,), "a re-bind keeps the stream the key meant before")


async def a_forgotten_binding_does_not_come_back(make: Make, store: LogStore) -> None:
    key = token()
    first = await store.create(new_stream(store, key=key))
    await store.seal(first, SEAL)
    await store.purge(first.stream, Gone.DELETED)
    await store.forget(first.stream)
    with refused(BindingMoved, "a re-bind of a binding that was forgotten is refused"):
        await store.create(new_stream(store, key=key), replaces=first.stream)
    second = await store.create(new_stream(store, key=key))
    with refused(BindingMoved, "a re-bind that was decided before the key was forgotten and bound anew is refused"):
        await store.create(new_stream(store, key=key), replaces=first.stream)
    binding = await store.binding(key)
    equal(binding and binding.stream, second.stream, "a key that was bound anew means the stream it was bound to")


async def forgetting_an_earlier_stream_keeps_the_key(make: Make, store: LogStore) -> None:
    key = token()
    first = await store.create(new_stream(store, key=key))
    await store.seal(first, SEAL)
    second = await store.create(new_stream(store, key=key), replaces=first.stream)
    await store.purge(first.stream, Gone.EXPIRED)
    await store.forget(first.stream)
    binding = await store.binding(key)
    equal(binding and binding.stream, second.stream, "forgetting a key's earlier stream leaves the key alone")


CHECKS: tuple[Check, ...] = (
    one_of_eight_racing_creates_wins,
    a_key_moves_by_compare_and_set,
    a_forgotten_binding_does_not_come_back,
    forgetting_an_earlier_stream_keeps_the_key,
)
