"""Several handles on one storage, at once and one after another: what each sees of the others."""

from __future__ import annotations

from dataclasses import replace

from ...errors import StreamGone
from ...model import Attempt, Gone, Head, Query, Tally
from ...ports import LogStore
from .checking import SEAL, Check, Make, equal, new_stream, refused, token, whole


async def secrets_are_shared(make: Make, store: LogStore) -> None:
    async with make() as other:
        equal(list(other.secrets), list(store.secrets), "every handle has the same secrets")
    assert {len(secret) for secret in store.secrets} == {32}, "there are secrets, of 32 bytes each"


async def closing_keeps_everything(make: Make) -> None:
    async with make() as store:
        if store.durability == "none":
            return
        key = token()
        lease = await store.create(new_stream(store, key=key, labels=("kept",)))
        await store.begin(lease, Attempt("u", 1.5, 200), Head(200, (("a", "b"),)))
        await store.append(lease, 0, b"payload")
        await store.request_cancel(lease.stream)
        info, binding, secrets_before = await store.stat(lease.stream), await store.binding(key), list(store.secrets)
    async with make() as store:
        equal(await store.stat(lease.stream), info, "the record is there after the store was closed")
        equal(await store.binding(key), binding, "the binding is there after the store was closed")
        equal(await whole(store, lease.stream), b"payload", "the payload is there after the store was closed")
        found = await store.find(Query(labels=("kept",), keys=(key,)))
        equal(found, [info], "labels and keys find the stream after the store was closed")
        held = await store.held(lease.worker)
        equal(held.get(lease.stream), True, "owner and intent to stop are there after the store was closed")
        lease = await store.acquire(lease.stream, "taker", after=1)
        equal(await store.append(lease, 7, b"!"), 8, "a stream can be taken over after the store was closed")
        await store.seal(lease, SEAL)
        entries = [entry for entry in await store.ledger(limit=1_000_000) if entry.stream == lease.stream]
        equal([entry.attempt.bytes for entry in entries], [8], "a call goes on being counted by who took it over")
        await store.tally({lease.stream: Tally(1, 2)})
        entries = [replace(entry, tally=Tally(1, 2)) for entry in entries]
    async with make() as store:
        kept = [entry for entry in await store.ledger(limit=1_000_000) if entry.stream == lease.stream]
        equal(kept, entries, "the ledger is there after the store was closed")
        equal(await whole(store, lease.stream), b"payload!", "a sealed payload is there after the store was closed")
        equal(list(store.secrets), secrets_before, "the secrets are the same after the store was closed")


async def what_one_handle_writes_another_reads(make: Make, store: LogStore) -> None:
    key, payload = token(), b""
    async with make() as other:
        lease = await store.create(new_stream(store, key=key))
        binding = await other.binding(key)
        equal(binding and binding.stream, lease.stream, "a key bound through one handle means the same to another")
        for size in (1, 5000, 70_000):
            data = bytes([size % 251]) * size
            await store.append(lease, len(payload), data, 1)
            payload += data
            equal((await other.stat(lease.stream)).tail, len(payload), "another handle sees the tail at once")
            equal(await whole(other, lease.stream), payload, "another handle reads what was appended at once")
        await store.begin(lease, Attempt("u", 1.0, 200), Head(200))
        equal(await other.stat(lease.stream), await store.stat(lease.stream), "both handles tell the same record")
        assert lease.stream in {info.id for info in await other.unsealed()}, "another handle sees that it is live"
        sealed = await store.seal(lease, SEAL)
        equal(await other.stat(lease.stream), sealed, "another handle sees the seal at once")
        equal(await whole(other, lease.stream), payload, "another handle reads a sealed payload")
        equal(await whole(store, lease.stream), payload, "a handle that sealed reads on")
        tombstone = await other.purge(lease.stream, Gone.DELETED)
        equal(await store.stat(lease.stream), tombstone, "what another handle purged is gone here at once")
        with refused(StreamGone, "what another handle purged is unreadable here at once"):
            await store.read(lease.stream, 0, 1)
        await other.forget(lease.stream)
        equal(await store.binding(key), None, "what another handle forgot is forgotten here")


CHECKS: tuple[Check, ...] = (
    secrets_are_shared,
    what_one_handle_writes_another_reads,
)
