"""What makes a LogStore a LogStore. Imports no test framework: a stranger's store is checked with it as ours are."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel

from ..errors import (
    BindingMoved,
    LeaseLost,
    OffsetBeyondTail,
    OffsetConflict,
    ResumeStreamError,
    StoreError,
    StreamGone,
    StreamNotFound,
    StreamSealed,
)
from ..model import Attempt, Gone, Head, Lease, NewStream, Outcome, Query, Seal, State, StreamId, StreamInfo
from ..ports import LogStore

Make = Callable[[], LogStore]
CHECK_S = 30
"""How long one check may take before it counts as hanging."""

_SEAL = Seal(Outcome.COMPLETED, "end", "The provider finished.")


async def check_log_store(make: Make) -> None:
    """Hold a store to the contract of `ports.LogStore`. Run it on asyncio and on trio.

    `make` gives a fresh handle, not yet entered, to the same storage each time: what a second process would open. The
    storage may hold other streams. Raises AssertionError with a sentence that says what is wrong.
    """
    for check in _CHECKS:
        with anyio.fail_after(CHECK_S):
            async with make() as store:
                await store.probe()
                await check(make, store)
    with anyio.fail_after(CHECK_S):
        await _closing_keeps_everything(make)


async def _one_of_eight_racing_creates_wins(make: Make, store: LogStore) -> None:
    key, leases, moved = _token(), list[Lease](), list[StreamId]()

    async def claim() -> None:
        new = _new(store, key=key)
        try:
            leases.append(await store.create(new))
        except BindingMoved:
            moved.append(new.id)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(claim)
    _equal(len(leases), 1, "of eight racing creates with one key exactly one gets the lease")
    binding = await store.binding(key)
    _equal(binding and binding.stream, leases[0].stream, "the key means the winner's stream")
    for stream in moved:
        with _refused(StreamNotFound, "a create that lost the race writes nothing"):
            await store.stat(stream)


async def _a_key_moves_by_compare_and_set(make: Make, store: LogStore) -> None:
    key = _token()
    _equal(await store.binding(key), None, "a key that was never bound has no binding")
    first = await store.create(_new(store, key=key, fingerprint="f1"))
    second = await store.create(_new(store, key=key, fingerprint="f2"), replaces=first.stream)
    for stale in (None, first.stream, StreamId(_token())):
        with _refused(BindingMoved, "a re-bind that expects another stream than the key means now is refused"):
            await store.create(_new(store, key=key), replaces=stale)
    binding = await store.binding(key)
    assert binding, "a re-bound key has a binding"
    _equal(binding.stream, second.stream, "a re-bound key means the new stream")
    _equal(binding.fingerprint, "f2", "a re-bind takes the new request's fingerprint")
    _equal(binding.earlier, (first.stream,), "a re-bind keeps the stream the key meant before")


async def _offsets_count_payload_bytes(make: Make, store: LogStore) -> None:
    lease, payload = await store.create(_new(store)), b""
    for size in (1, 7, 0, 255, 2, 4097, 3, 70_001):
        data = secrets.token_bytes(size)
        tail = await store.append(lease, len(payload), data, events=1)
        payload += data
        _equal(tail, len(payload), "append returns the number of payload bytes so far")
        _equal((await store.stat(lease.stream)).tail, tail, "stat tells the tail that append returned")
    _equal((await store.stat(lease.stream)).events, 8, "events are added up")
    await _reads_are_right(store, lease.stream, payload)
    await store.seal(lease, _SEAL)
    await _reads_are_right(store, lease.stream, payload)


async def _reads_are_right(store: LogStore, stream: StreamId, payload: bytes) -> None:
    offsets = [*range(600), *range(4000, len(payload), 997), len(payload) - 1]
    for at in offsets:
        for most in (1, 300, 65_536):
            data = await store.read(stream, at, most)
            assert 1 <= len(data) <= most, f"a read of up to {most} bytes below the tail gave {len(data)}"
            _equal(data, payload[at : at + len(data)], f"a read at offset {at} gives the bytes from there")
    _equal(await _whole(store, stream), payload, "reading on and on gives the whole payload")
    _equal(await store.read(stream, len(payload), 10), b"", "a read at the tail gives nothing")
    with _refused(OffsetBeyondTail, "a read beyond the tail is refused"):
        await store.read(stream, len(payload) + 1, 10)


async def _append_compares_the_offset(make: Make, store: LogStore) -> None:
    lease = await store.create(_new(store))
    await store.append(lease, 0, b"abcdef")
    for at in (0, 5, 7, 1000):
        try:
            await store.append(lease, at, b"xyz")
        except OffsetConflict as conflict:
            _equal((conflict.at, conflict.tail), (at, 6), "an OffsetConflict names the offset asked and the tail")
        else:
            raise AssertionError(f"an append at offset {at} of 6 bytes is refused")
    _equal(await _whole(store, lease.stream), b"abcdef", "a refused append changes nothing")
    _equal(await store.append(lease, 6, b"g"), 7, "an append at the tail goes on after a refused one")


async def _a_refusal_hurts_nobody_beside_it(make: Make, store: LogStore) -> None:
    leases = [await store.create(_new(store)) for _ in range(12)]
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
    _equal(len(refused), 16, "every append at a wrong offset is refused")
    for number, lease in enumerate(leases):
        expected = b"%x" % number * (1 if number % 3 == 0 else 5)
        _equal(await _whole(store, lease.stream), expected, "appends beside refused ones land, and the refused do not")


async def _a_takeover_fences_off(make: Make, store: LogStore) -> None:
    old = await store.create(_new(store))
    await store.append(old, 0, b"old")
    async with make() as other:
        new = await other.acquire(old.stream, "taker")
        _equal((new.epoch, new.worker), (old.epoch + 1, "taker"), "a takeover leases the next epoch to the taker")
        with _refused(LeaseLost, "the old owner cannot append after a takeover"):
            await store.append(old, 3, b"late")
        with _refused(LeaseLost, "the old owner cannot begin after a takeover"):
            await store.begin(old, Attempt("u", 0.0), Head(200))
        with _refused(LeaseLost, "the old owner cannot seal after a takeover"):
            await store.seal(old, _SEAL)
        _equal(await other.append(new, 3, b"new"), 6, "the taker appends at the old tail")
        _equal((await other.seal(new, _SEAL)).tail, 6, "the taker seals")
    with _refused(LeaseLost, "a fenced owner learns that it is fenced, also when the stream has ended since"):
        await store.append(old, 3, b"late")
    _equal(await _whole(store, old.stream), b"oldnew", "nothing a fenced owner wrote is in the payload")
    _equal((await store.stat(old.stream)).new.worker, "taker", "the record names the worker that took over")


async def _the_first_seal_wins(make: Make, store: LogStore) -> None:
    lease = await store.create(_new(store))
    await store.append(lease, 0, b"payload")
    before = store.now()
    asked = Seal(Outcome.TRUNCATED, "reset", "The connection was reset.", released=True, retry_at=before + 5)
    first = await store.seal(lease, asked)
    seal = first.seal
    assert seal, "a sealed record has its seal"
    assert before <= seal.sealed_at <= store.now(), "sealed_at is set from the store clock"
    _equal(replace(seal, sealed_at=0.0), asked, "a seal is kept as it was asked for")
    _equal((first.tail, first.state), (7, State.SEALED), "a seal makes the tail final")
    _equal(await store.seal(lease, _SEAL), first, "a second seal changes nothing and returns the first")
    for call in _writes(store, lease, 7):
        with _refused(StreamSealed, "nothing is written to a sealed stream, and nobody takes it over"):
            await call()
    _equal(await store.stat(lease.stream), first, "a sealed record does not change")
    _equal(await _whole(store, lease.stream), b"payload", "a sealed payload does not change")


async def _the_record_is_kept_whole(make: Make, store: LogStore) -> None:
    new = _new(store, key=_token(), fingerprint="f", scope="s", labels=("a", "b"), previous=StreamId("earlier"))
    lease = await store.create(new)
    _equal(await store.stat(new.id), StreamInfo(new), "a new stream's record is what was given, pending, at epoch 1")
    attempts = (Attempt("u", store.now(), 429, "req_1"), Attempt("v", store.now(), 200))
    heads = (Head(429), Head(200, (("content-type", "text/event-stream"), ("x", "\xe9"), ("x", "second"))))
    for attempt, head in zip(attempts, heads, strict=True):
        await store.begin(lease, attempt, head)
    _equal(
        await store.stat(new.id),
        StreamInfo(new, head=heads[1], attempts=attempts),
        "the record has every attempt in order and the last head, headers in order",
    )


async def _a_purge_leaves_the_tombstone(make: Make, store: LogStore) -> None:
    key = _token()
    lease = await store.create(_new(store, key=key))
    await store.append(lease, 0, b"payload")
    with _refused(StoreError, "a live stream cannot be purged"):
        await store.purge(lease.stream, Gone.DELETED)
    sealed = await store.seal(lease, _SEAL)
    with _refused(StoreError, "a stream that was not purged cannot be forgotten"):
        await store.forget(lease.stream)
    before = store.now()
    tombstone = await store.purge(lease.stream, Gone.EVICTED)
    gone_at = tombstone.gone_at
    assert gone_at, "a purged record has its time"
    assert before <= gone_at <= store.now(), "gone_at is set from the store clock"
    assert tombstone.seal, "a purged record has its seal"
    _equal(tombstone.seal.message, "", "a purge drops the seal's message, which may quote the payload")
    expected = replace(sealed, seal=tombstone.seal, gone=Gone.EVICTED, gone_at=gone_at)
    _equal(tombstone, expected, "a purge keeps the rest of the record")
    _equal(replace(tombstone.seal, message=_SEAL.message), sealed.seal, "a purge keeps the rest of the seal")
    _equal(await store.stat(lease.stream), tombstone, "stat tells the tombstone that purge returned")
    _equal(await store.purge(lease.stream, Gone.DELETED), tombstone, "the first reason for a purge stays")
    for at in (0, 7, 8):
        with _refused(StreamGone, "a purged payload is unreadable at once"):
            await store.read(lease.stream, at, 10)
    binding = await store.binding(key)
    _equal(binding and binding.stream, lease.stream, "a key lives as long as its stream's tombstone")
    await store.forget(lease.stream)
    _equal(await store.binding(key), None, "a key is forgotten with the stream it means")
    await store.forget(lease.stream)
    again = await store.create(_new(store, key=key))
    _equal((await store.stat(again.stream)).tail, 0, "a forgotten key can be bound again")


async def _an_expiry_counts_from_when_it_was_due(make: Make, store: LogStore) -> None:
    lease = await store.create(_new(store, retain_s=0.0))
    sealed = await store.seal(lease, _SEAL)
    while store.now() <= sealed.expires_at:
        await anyio.lowlevel.checkpoint()
    tombstone = await store.purge(lease.stream, Gone.EXPIRED)
    _equal(tombstone.gone_at, sealed.expires_at, "a payload that expired before it was dropped is gone since then")


async def _a_forgotten_binding_does_not_come_back(make: Make, store: LogStore) -> None:
    key = _token()
    first = await store.create(_new(store, key=key))
    await store.seal(first, _SEAL)
    await store.purge(first.stream, Gone.DELETED)
    await store.forget(first.stream)
    with _refused(BindingMoved, "a re-bind of a binding that was forgotten is refused"):
        await store.create(_new(store, key=key), replaces=first.stream)
    second = await store.create(_new(store, key=key))
    with _refused(BindingMoved, "a re-bind that was decided before the key was forgotten and bound anew is refused"):
        await store.create(_new(store, key=key), replaces=first.stream)
    binding = await store.binding(key)
    _equal(binding and binding.stream, second.stream, "a key that was bound anew means the stream it was bound to")


async def _forgetting_an_earlier_stream_keeps_the_key(make: Make, store: LogStore) -> None:
    key = _token()
    first = await store.create(_new(store, key=key))
    await store.seal(first, _SEAL)
    second = await store.create(_new(store, key=key), replaces=first.stream)
    await store.purge(first.stream, Gone.EXPIRED)
    await store.forget(first.stream)
    binding = await store.binding(key)
    _equal(binding and binding.stream, second.stream, "forgetting a key's earlier stream leaves the key alone")


async def _a_cancel_is_a_stored_intent(make: Make, store: LogStore) -> None:
    lease, other_lease = await store.create(_new(store)), await store.create(_new(store))
    async with make() as other:
        for _ in range(2):
            await other.request_cancel(lease.stream)
    asked = await store.cancel_requests()
    _equal(asked.count(lease.stream), 1, "an intent left through another handle is seen, once")
    assert other_lease.stream not in asked, "only what somebody asked to stop is among the cancel requests"
    assert (await store.stat(lease.stream)).cancel_requested, "the record tells that somebody asked to stop"
    await store.append(lease, 0, b"more")
    await store.seal(lease, _SEAL)
    assert lease.stream not in await store.cancel_requests(), "a sealed stream is no longer among the cancel requests"
    sealed = await store.seal(other_lease, _SEAL)
    await store.request_cancel(other_lease.stream)
    _equal(await store.stat(other_lease.stream), sealed, "asking to stop a sealed stream does nothing")


async def _find_filters_and_pages(make: Make, store: LogStore) -> None:
    mine, foreign = _token(), _token()
    key, scope, label = _token(), _token(), _token()
    fields: list[dict[str, Any]] = [{}, {"key": key}, {"scope": scope}, {"labels": (label, "x")}, {"upstream": "other"}]
    leases = [await store.create(_new(store, principal=mine, **field)) for field in fields]
    ids = [lease.stream for lease in leases]
    stranger = await store.create(_new(store, principal=foreign, key=_token(), labels=(label,)))
    await store.append(leases[1], 0, b"streaming")
    for lease in leases[2:4]:
        await store.seal(lease, _SEAL)
    await store.purge(ids[3], Gone.DELETED)

    async def found(**conditions: Any) -> list[StreamId]:
        return [info.id for info in await store.find(Query(**conditions))]

    _equal(await found(principal=mine), ids[::-1], "find lists one principal's streams, newest first")
    _equal(await found(principal=mine, keys=(key, "none")), [ids[1]], "find by key")
    _equal(await found(principal=mine, scope=scope), [ids[2]], "find by scope")
    _equal(await found(principal=mine, upstream="other"), [ids[4]], "find by upstream")
    _equal(await found(principal=mine, labels=(label,)), [ids[3]], "find by label leaves out other principals'")
    _equal(await found(principal=mine, labels=("x", label)), [ids[3]], "find by labels takes what has each")
    _equal(await found(principal=mine, labels=(label, "y")), [], "find by labels leaves out what lacks one")
    _equal(await found(labels=(label,)), [stranger.stream, ids[3]], "find without a principal lists everybody's")
    for state, numbers in ((State.PENDING, [4, 0]), (State.STREAMING, [1]), (State.SEALED, [2]), (State.EXPIRED, [3])):
        _equal(await found(principal=mine, state=state), [ids[number] for number in numbers], f"find by state {state}")
    pages = [await found(principal=mine, limit=2)]
    newer = await store.create(_new(store, principal=mine))
    while pages[-1]:
        pages.append(await found(principal=mine, limit=2, after=pages[-1][-1]))
    _equal(pages, [ids[4:2:-1], ids[2:0:-1], ids[:1], []], "pages go on where the last ended, whatever came since")
    await store.forget(ids[3])
    left = [newer.stream, ids[4], ids[2], ids[1], ids[0]]
    _equal(await found(principal=mine), left, "a forgotten stream is not found")
    for after in (stranger.stream, StreamId(_token())):
        with _refused(StreamNotFound, "a page after a foreign stream looks like one after an unknown stream"):
            await found(principal=mine, after=after)


async def _unsealed_lists_what_has_no_seal(make: Make, store: LogStore) -> None:
    live, ended = await store.create(_new(store)), await store.create(_new(store))
    await store.append(live, 0, b"x")
    await store.seal(ended, _SEAL)
    unsealed = {info.id: info for info in await store.unsealed()}
    _equal(unsealed.get(live.stream), await store.stat(live.stream), "an unsealed stream is listed, as stat tells it")
    assert ended.stream not in unsealed, "a sealed stream is not listed as unsealed"


async def _unknown_streams_are_not_found(make: Make, store: LogStore) -> None:
    stream = StreamId(_token())
    calls: list[Callable[[], Awaitable[object]]] = [
        *_writes(store, Lease(stream, "w", 1), 0),
        lambda: store.seal(Lease(stream, "w", 1), _SEAL),
        lambda: store.read(stream, 0, 1),
        lambda: store.stat(stream),
        lambda: store.request_cancel(stream),
        lambda: store.purge(stream, Gone.DELETED),
    ]
    for call in calls:
        with _refused(StreamNotFound, "a stream that was never minted is not found, by any call"):
            await call()


async def _a_cancelled_call_leaves_the_store_usable(make: Make, store: LogStore) -> None:
    lease = await store.create(_new(store))
    for turns in range(4):
        before = (await store.stat(lease.stream)).tail
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.append, lease, before, b"0123456789")
            tasks.start_soon(store.read, lease.stream, 0, 10)
            tasks.start_soon(store.stat, lease.stream)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        # A later write is ordered after the cancelled one, whether that happened or not
        await store.request_cancel(lease.stream)
        tail = (await store.stat(lease.stream)).tail
        assert tail in (before, before + 10), "a cancelled append happened whole or not at all"
        await store.append(lease, tail, b"9876543210")
    payload = await _whole(store, lease.stream)
    torn = payload.replace(b"0123456789", b"").replace(b"9876543210", b"")
    _equal(torn, b"", "appends stay whole over cancellations")
    _equal((await store.seal(lease, _SEAL)).tail, len(payload), "a store seals after cancelled calls")


async def _closing_keeps_everything(make: Make) -> None:
    async with make() as store:
        if store.durability == "none":
            return
        key = _token()
        lease = await store.create(_new(store, key=key, labels=("kept",)))
        await store.begin(lease, Attempt("u", 1.5, 200), Head(200, (("a", "b"),)))
        await store.append(lease, 0, b"payload")
        await store.request_cancel(lease.stream)
        info, binding, secrets_before = await store.stat(lease.stream), await store.binding(key), list(store.secrets)
    async with make() as store:
        _equal(await store.stat(lease.stream), info, "the record is there after the store was closed")
        _equal(await store.binding(key), binding, "the binding is there after the store was closed")
        _equal(await _whole(store, lease.stream), b"payload", "the payload is there after the store was closed")
        found = await store.find(Query(labels=("kept",), keys=(key,)))
        _equal(found, [info], "labels and keys find the stream after the store was closed")
        _equal(await store.append(lease, 7, b"!"), 8, "a lease is good after the store was closed")
        _equal(list(store.secrets), secrets_before, "the secrets are the same after the store was closed")


async def _secrets_are_shared(make: Make, store: LogStore) -> None:
    async with make() as other:
        _equal(list(other.secrets), list(store.secrets), "every handle has the same secrets")
    assert {len(secret) for secret in store.secrets} == {32}, "there are secrets, of 32 bytes each"


_CHECKS: tuple[Callable[[Make, LogStore], Awaitable[None]], ...] = (
    _one_of_eight_racing_creates_wins,
    _a_key_moves_by_compare_and_set,
    _offsets_count_payload_bytes,
    _append_compares_the_offset,
    _a_refusal_hurts_nobody_beside_it,
    _a_takeover_fences_off,
    _the_first_seal_wins,
    _the_record_is_kept_whole,
    _a_purge_leaves_the_tombstone,
    _an_expiry_counts_from_when_it_was_due,
    _a_forgotten_binding_does_not_come_back,
    _forgetting_an_earlier_stream_keeps_the_key,
    _a_cancel_is_a_stored_intent,
    _find_filters_and_pages,
    _unsealed_lists_what_has_no_seal,
    _unknown_streams_are_not_found,
    _a_cancelled_call_leaves_the_store_usable,
    _secrets_are_shared,
)


def _new(store: LogStore, **fields: Any) -> NewStream:
    defaults: dict[str, Any] = {"principal": "p", "upstream": "u", "worker": "w", "retain_s": 60.0, "tombstone_s": 60.0}
    return NewStream(id=StreamId(_token()), created_at=store.now(), **{**defaults, **fields})


def _token() -> str:
    return secrets.token_urlsafe(16)


def _writes(store: LogStore, lease: Lease, at: int) -> list[Callable[[], Awaitable[object]]]:
    """The calls that only the owner of a live stream may make, and `acquire`."""
    return [
        lambda: store.append(lease, at, b"more"),
        lambda: store.begin(lease, Attempt("u", 0.0), Head(200)),
        lambda: store.acquire(lease.stream, "taker"),
    ]


async def _whole(store: LogStore, stream: StreamId) -> bytes:
    payload = b""
    while data := await store.read(stream, len(payload), 1 << 20):
        payload += data
    return payload


def _equal(actual: object, expected: object, sentence: str) -> None:
    if actual != expected:
        raise AssertionError(f"{sentence}: expected {_short(expected)}, got {_short(actual)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 400 else f"{text[:400]}... ({len(text)} characters)"


@contextmanager
def _refused(error: type[ResumeStreamError], sentence: str) -> Iterator[None]:
    try:
        yield
    except error:
        return
    except ResumeStreamError as other:
        raise AssertionError(f"{sentence}: expected {error.__name__}, got {other!r}") from other
    raise AssertionError(f"{sentence}: expected {error.__name__}, got no error")
