"""What goes, when, in which order, and what remains of it."""

from __future__ import annotations

from dataclasses import replace

import anyio.lowlevel

from ...errors import StoreError, StreamGone
from ...model import Attempt, Entry, Gone, Head, Kept, Lease, Outcome, Seal, StreamId, StreamInfo, Tally
from ...ports import LogStore
from .checking import SEAL, Check, Make, equal, new_stream, refused, token, whole


async def a_purge_leaves_the_tombstone(make: Make, store: LogStore) -> None:
    key = token()
    lease = await store.create(new_stream(store, key=key))
    await store.append(lease, 0, b"payload")
    with refused(StoreError, "a live stream cannot be purged"):
        await store.purge(lease.stream, Gone.DELETED)
    sealed = await store.seal(lease, SEAL)
    with refused(StoreError, "a stream that was not purged cannot be forgotten"):
        await store.forget(lease.stream)
    before = store.now()
    tombstone = await store.purge(lease.stream, Gone.EVICTED)
    gone_at = tombstone.gone_at
    assert gone_at, "a purged record has its time"
    assert before <= gone_at <= store.now(), "gone_at is set from the store clock"
    assert tombstone.seal, "a purged record has its seal"
    equal(tombstone.seal.message, "", "a purge drops the seal's message, which may quote the payload")
    expected = replace(sealed, seal=tombstone.seal, gone=Gone.EVICTED, gone_at=gone_at)
    equal(tombstone, expected, "a purge keeps the rest of the record")
    equal(replace(tombstone.seal, message=SEAL.message), sealed.seal, "a purge keeps the rest of the seal")
    equal(await store.stat(lease.stream), tombstone, "stat tells the tombstone that purge returned")
    equal(await store.purge(lease.stream, Gone.DELETED), tombstone, "the first reason for a purge stays")
    for at in (0, 7, 8):
        with refused(StreamGone, "a purged payload is unreadable at once"):
            await store.read(lease.stream, at, 10)
    binding = await store.binding(key)
    equal(binding and binding.stream, lease.stream, "a key lives as long as its stream's tombstone")
    await store.forget(lease.stream)
    equal(await store.binding(key), None, "a key is forgotten with the stream it means")
    await store.forget(lease.stream)
    again = await store.create(new_stream(store, key=key))
    equal((await store.stat(again.stream)).tail, 0, "a forgotten key can be bound again")


async def an_expiry_counts_from_when_it_was_due(make: Make, store: LogStore) -> None:
    lease = await store.create(new_stream(store, retain_s=0.0))
    sealed = await store.seal(lease, SEAL)
    while store.now() <= sealed.expires_at:
        await anyio.lowlevel.checkpoint()
    tombstone = await store.purge(lease.stream, Gone.EXPIRED)
    equal(tombstone.gone_at, sealed.expires_at, "a payload that expired before it was dropped is gone since then")


async def due_tells_what_retention_is_to_do(make: Make, store: LogStore) -> None:
    quick = [await store.create(new_stream(store, retain_s=0.0, tombstone_s=0.0)) for _ in range(3)]
    live = await store.create(new_stream(store, retain_s=0.0))
    kept = await store.create(new_stream(store))
    for lease in (quick[1], quick[0], quick[2], kept):
        sealed = await store.seal(lease, SEAL)
        await _later(store, sealed)
    mine = {lease.stream for lease in (*quick, live, kept)}

    async def due() -> list[StreamId]:
        return [info.id for info in await store.due(100_000) if info.id in mine]

    expected = [quick[1].stream, quick[0].stream, quick[2].stream]
    equal(await due(), expected, "what expired is due, the longest due first; what is live or kept is not")
    equal(len(await store.due(2)), 2, "due gives no more than it was asked for")
    await store.purge(quick[1].stream, Gone.EXPIRED)
    equal(sorted(await due()), sorted(expected), "a tombstone that ran out is due")
    await store.forget(quick[1].stream)
    equal(await due(), expected[1:], "what was forgotten is not due")


async def the_oldest_seals_are_told_first(make: Make, store: LogStore) -> None:
    mine = token()
    leases = [await store.create(new_stream(store, principal=mine)) for _ in range(6)]
    foreign = await _ended(store, await store.create(new_stream(store, principal=token())), 1)
    for number in (3, 1, 0, 2):
        await _ended(store, leases[number], size=number + 1)
    await store.seal(leases[4], SEAL)
    await store.append(leases[5], 0, b"live")
    await store.purge(leases[0].stream, Gone.EVICTED)
    oldest = [info.id for info in await store.oldest(10, mine)]
    expected = [leases[number].stream for number in (3, 1, 2)]
    equal(oldest, expected, "a principal's sealed payloads, the oldest seal first; none that is live, gone or empty")
    equal([info.id for info in await store.oldest(2, mine)], expected[:2], "oldest gives no more than it was asked for")
    everybody = [info.id for info in await store.oldest(100_000)]
    both = [stream for stream in everybody if stream in (foreign, *expected)]
    equal(both, [foreign, *expected], "without a principal everybody's, the oldest seal first")


async def what_is_kept_is_counted(make: Make, store: LogStore) -> None:
    mine, before = token(), await store.kept()
    equal(await store.kept(mine), Kept(0, 0), "of a stranger nothing is kept")
    live, ended = [await store.create(new_stream(store, principal=mine)) for _ in range(2)]
    await store.append(live, 0, bytes(1000))
    await _ended(store, ended, 70_000)
    for _ in range(2):
        equal(await store.kept(mine), Kept(1, 71_000), "live streams and payload bytes are counted, uncompressed")
        await store.tidy()
    everybody = await store.kept()
    grown = (everybody.live - before.live, everybody.payload_bytes - before.payload_bytes)
    equal(grown, (1, 71_000), "without a principal everybody's are counted")
    await store.purge(ended.stream, Gone.DELETED)
    equal(await store.kept(mine), Kept(1, 1000), "a purged payload does not count")
    await store.seal(live, SEAL)
    equal(await store.kept(mine), Kept(0, 1000), "a sealed stream is not live, and its payload counts")
    await store.forget(ended.stream)
    equal(await store.kept(mine), Kept(0, 1000), "a forgotten stream does not count")


async def the_ledger_outlives_the_stream(make: Make, store: LogStore) -> None:
    mine, began = token(), store.now()
    lease = await store.create(new_stream(store, principal=mine, labels=("a", "b")))
    refused_call = Attempt("u", began, 429, "req_1", began, 0, Outcome.PROVIDER_ERROR)
    call = Attempt("v", began, 200, "req_2")
    await store.begin(lease, refused_call, None)
    await store.begin(lease, call, Head(200), after=(refused_call,))
    await store.append(lease, 0, b"payload")
    equal(await _entries(store, mine), [], "a call enters the ledger when it has ended")
    sealed = await store.seal(lease, Seal(Outcome.TRUNCATED, "fin", "It broke off."))
    assert sealed.seal, "a sealed record has its seal"
    ended = replace(call, ended_at=sealed.seal.sealed_at, bytes=7, outcome=Outcome.TRUNCATED)
    equal(sealed.attempts, (refused_call, ended), "the last call ends with the seal: its bytes, outcome and time")
    entries = [Entry(lease.stream, at, mine, ("a", "b"), it) for at, it in enumerate((refused_call, ended), 1)]
    await store.seal(lease, SEAL)
    equal(await _entries(store, mine), entries, "each call is in the ledger, once, in the order in which they ended")
    equal(await _entries(store, mine, since=ended.ended_at or 0), entries[-1:], "the ledger since a time")
    await store.purge(lease.stream, Gone.DELETED)
    await store.forget(lease.stream)
    equal(await _entries(store, mine), entries, "the ledger outlives payload and record")
    equal(len(await store.ledger(limit=1)), 1, "the ledger gives no more than it was asked for")
    await store.prune(ended.ended_at or 0)
    equal(await _entries(store, mine), entries[-1:], "pruning drops what ended before, and nothing else")


async def the_ledger_is_read_page_by_page(make: Make, store: LogStore) -> None:
    mine, began = token(), store.now()
    lease = await store.create(new_stream(store, principal=mine))
    call = Attempt("u", began, 500, ended_at=began)
    await store.begin(lease, call, None, after=[call] * 4)
    await _later(store, await store.seal(lease, SEAL))
    all_, page, walked = await _entries(store, mine), list[Entry](), list[Entry]()
    while page := await store.ledger(since=began, after=page[-1] if page else None, limit=2):
        assert not set(page) & set(walked), "no page of the ledger gives what one before it gave"
        walked += page
    equal([entry for entry in walked if entry.principal == mine], all_, "pages give each call once, in order")
    for entry in all_[:2]:
        equal(await store.ledger(principal=token(), after=entry), [], "nobody gets another principal's calls")
    await store.prune(store.now())
    equal(await store.ledger(since=began, after=all_[-1]), [], "a page goes on after an entry that was pruned")


async def what_is_asked_again_is_tallied(make: Make, store: LogStore) -> None:
    mine = token()
    lease, other = [await store.create(new_stream(store, principal=mine)) for _ in range(2)]
    unknown = StreamId(token())
    await store.tally({lease.stream: Tally(attaches=2), unknown: Tally(1, 1)})
    for owned in (lease, other):
        failed = Attempt("u", store.now(), 500, ended_at=store.now())
        await store.begin(owned, Attempt("u", store.now(), 200), Head(200), after=(failed,))
        await _later(store, await store.seal(owned, SEAL))
    await store.tally({lease.stream: Tally(1, 2), unknown: Tally(1, 1)})
    told = [(entry.stream, entry.tally) for entry in await _entries(store, mine)]
    equal(told.count((lease.stream, Tally(3, 2))), 1, "counts are added up, and the stream's last call tells them")
    equal(told.count((lease.stream, Tally())), 1, "calls of a stream before its last tell no counts")
    equal(told.count((other.stream, Tally())), 2, "counts are one stream's alone")
    await store.purge(lease.stream, Gone.EXPIRED)
    await store.forget(lease.stream)
    await store.tally({lease.stream: Tally(replays=1)})
    entries = [entry for entry in await _entries(store, mine) if entry.stream == lease.stream]
    equal(entries[-1].tally, Tally(3, 3), "tallies outlive payload and record, as the ledger does")
    await store.prune(entries[1].attempt.ended_at or 0)
    entries = await _entries(store, mine)
    equal(entries[0].tally, Tally(3, 3), "tallies stay while the ledger has an entry of the stream")


async def tidying_changes_nothing_that_is_read(make: Make, store: LogStore) -> None:
    live, ended, purged = [await store.create(new_stream(store)) for _ in range(3)]
    payload = bytes(number * number % 251 for number in range(300_000))
    for at in range(0, len(payload), 50_000):
        for lease in (live, ended, purged):
            await store.append(lease, at, payload[at : at + 50_000])
    await store.seal(ended, SEAL)
    await store.seal(purged, SEAL)
    await store.purge(purged.stream, Gone.DELETED)
    records = [await store.stat(lease.stream) for lease in (live, ended, purged)]
    await store.tidy()
    equal([await store.stat(info.id) for info in records], records, "tidying up changes no record")
    for lease in (live, ended):
        for at in (0, 1, 65_535, 65_536, 262_144, 299_999):
            data = await store.read(lease.stream, at, 100)
            assert data, "a read below the tail gives bytes after tidying up as before"
            equal(data, payload[at : at + len(data)], "a read gives the same bytes after tidying up as before")
        equal(await whole(store, lease.stream), payload, "a payload is the same after tidying up")
    with refused(StreamGone, "a purged payload stays unreadable"):
        await store.read(purged.stream, 0, 1)
    for stream in (None, live.stream, ended.stream, purged.stream):
        equal(await store.verify(stream), [], "nothing is found wrong where all is well")


async def _ended(store: LogStore, lease: Lease, size: int) -> StreamId:
    """Sealed later than any other."""
    await store.append(lease, 0, bytes(size))
    await _later(store, await store.seal(lease, SEAL))
    return lease.stream


async def _later(store: LogStore, sealed: StreamInfo) -> None:
    """Return when the store clock has gone on since the seal."""
    while sealed.seal and store.now() <= sealed.seal.sealed_at:
        await anyio.lowlevel.checkpoint()


async def _entries(store: LogStore, principal: str, *, since: float = 0.0) -> list[Entry]:
    return await store.ledger(principal=principal, since=since, limit=1_000_000)


CHECKS: tuple[Check, ...] = (
    a_purge_leaves_the_tombstone,
    an_expiry_counts_from_when_it_was_due,
    due_tells_what_retention_is_to_do,
    the_oldest_seals_are_told_first,
    what_is_kept_is_counted,
    the_ledger_outlives_the_stream,
    the_ledger_is_read_page_by_page,
    what_is_asked_again_is_tallied,
    tidying_changes_nothing_that_is_read,
)
