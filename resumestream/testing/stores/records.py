"""What is known of a stream: its record, its seal, its calls, and the lists it stands in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ...errors import StreamNotFound, StreamSealed
from ...model import Attempt, Gone, Head, Lease, Outcome, Query, Seal, Segment, State, StreamId, StreamInfo
from ...ports import LogStore
from .checking import SEAL, Check, Make, equal, new_stream, owners_calls, refused, token, whole


async def the_first_seal_wins(make: Make, store: LogStore) -> None:
    lease = await store.create(new_stream(store))
    await store.append(lease, 0, b"payload")
    before = store.now()
    asked = Seal(Outcome.TRUNCATED, "reset", "It was reset.", released=True, retry_at=before + 5, foreign=True)
    first = await store.seal(lease, asked)
    seal = first.seal
    assert seal, "a sealed record has its seal"
    assert before <= seal.sealed_at <= store.now(), "sealed_at is set from the store clock"
    equal(replace(seal, sealed_at=0.0), asked, "a seal is kept as it was asked for")
    equal((first.tail, first.state), (7, State.SEALED), "a seal makes the tail final")
    equal(await store.seal(lease, SEAL), first, "a second seal changes nothing and returns the first")
    for call in owners_calls(store, lease, 7):
        with refused(StreamSealed, "nothing is written to a sealed stream, and nobody takes it over"):
            await call()
    equal(await store.stat(lease.stream), first, "a sealed record does not change")
    equal(await whole(store, lease.stream), b"payload", "a sealed payload does not change")


async def the_record_is_kept_whole(make: Make, store: LogStore) -> None:
    more = {"labels": ("a", "b"), "previous": StreamId("earlier"), "dialect": "anthropic", "dialect_guessed": True}
    new = new_stream(store, key=token(), fingerprint="f", scope="s", **more)
    lease = await store.create(new)
    equal(await store.stat(new.id), StreamInfo(new), "a new stream's record is what was given, pending, at epoch 1")
    unreachable = Attempt("u", store.now(), ended_at=store.now(), outcome=Outcome.PROVIDER_ERROR)
    attempts = (unreachable, Attempt("u", store.now(), 429, "req_1"), Attempt("v", store.now(), 200))
    heads = (Head(429), Head(200, (("content-type", "text/event-stream"), ("x", "\xe9"), ("x", "second"))))
    await store.begin(lease, attempts[0], None)
    equal((await store.stat(new.id)).head, None, "a call that came to no answer leaves no head")
    for number, head in enumerate(heads, 1):
        await store.begin(lease, attempts[number], head, after=attempts[:number])
    equal(
        await store.stat(new.id),
        StreamInfo(new, head=heads[1], attempts=attempts),
        "the record has every attempt in order and the last head, headers in order",
    )


async def a_call_is_recorded_in_place_of_itself(make: Make, store: LogStore) -> None:
    lease = await store.create(new_stream(store))
    busy = Attempt("u", 1.0, 503, ended_at=2.0, outcome=Outcome.PROVIDER_ERROR, released=True)
    made = Attempt("u", 3.0, usage_is_ours=True)
    for _ in range(2):
        await store.begin(lease, made, None, after=(busy,))
    equal((await store.stat(lease.stream)).attempts, (busy, made), "a call that is recorded again is one call")
    answered = replace(made, status=200)
    await store.begin(lease, answered, Head(200), after=(busy,))
    equal((await store.stat(lease.stream)).attempts, (busy, answered), "what it answers goes to the same call")
    info = await store.seal(lease, SEAL)
    equal(
        [a.ended_at for a in info.attempts], [2.0, info.seal and info.seal.sealed_at], "an open call ends by the seal"
    )
    other = await store.create(new_stream(store))
    await store.begin(other, busy, None)
    equal((await store.seal(other, SEAL)).attempts, (busy,), "a call that has ended stays as it ended")


async def segments_lie_in_one_log(make: Make, store: LogStore) -> None:
    lease = await store.create(new_stream(store))
    call = Attempt("first", 1.0, 200)
    await store.begin(lease, call, Head(200, (("x", "1"),)))
    await store.append(lease, 0, b"the first", 1)
    first_call = replace(call, ended_at=2.0, bytes=9, outcome=Outcome.TRUNCATED)
    failed = Attempt("between", 2.0, 500, ended_at=3.0, outcome=Outcome.PROVIDER_ERROR)
    await store.begin(lease, failed, None, after=(first_call,))
    equal(
        (await store.stat(lease.stream)).head,
        Head(200, (("x", "1"),)),
        "a call that readers get nothing of keeps the head",
    )
    cut = Seal(Outcome.TRUNCATED, "segment_ended", "It was cut.", sealed_at=4.0)
    ended = Segment(9, 1, Head(200, (("x", "1"),)), cut)
    second_call = Attempt("second", 5.0, 200)
    await store.begin(lease, second_call, Head(200, (("x", "2"),)), after=(first_call, failed), ended=(ended,))
    await store.append(lease, 9, b"the second one", 2)
    async with make() if store.durability != "none" else nullcontext(store) as other:
        info = await other.stat(lease.stream)
        equal((info.ended, info.segment, info.base), ((ended,), 2, 9), "what ended before a segment is in the record")
        equal(info.attempts, (first_call, failed, second_call), "the calls before are as they ended")
        first, second = info.seen(1), info.latest
        equal((first.tail, first.events, first.seal), (9, 1, cut), "a segment that ended looks sealed to its readers")
        equal((second.tail, second.events, second.sealed), (14, 2, False), "the latest counts its own bytes")
        equal(await whole(other, lease.stream), b"the firstthe second one", "the log has one behind the other")
    info = await store.seal(lease, SEAL)
    equal([a.bytes for a in info.attempts], [9, 0, 14], "a seal ends the call of the latest segment")
    equal(info.seen(1).seal, cut, "how a segment ended stays")


async def find_filters_and_pages(make: Make, store: LogStore) -> None:
    mine, foreign = token(), token()
    key, scope, label = token(), token(), token()
    fields: list[dict[str, Any]] = [{}, {"key": key}, {"scope": scope}, {"labels": (label, "x")}, {"upstream": "other"}]
    leases = [await store.create(new_stream(store, principal=mine, **field)) for field in fields]
    ids = [lease.stream for lease in leases]
    stranger = await store.create(new_stream(store, principal=foreign, key=token(), labels=(label,)))
    await store.append(leases[1], 0, b"streaming")
    for lease in leases[2:4]:
        await store.seal(lease, SEAL)
    await store.purge(ids[3], Gone.DELETED)

    async def found(**conditions: Any) -> list[StreamId]:
        return [info.id for info in await store.find(Query(**conditions))]

    equal(await found(principal=mine), ids[::-1], "find lists one principal's streams, newest first")
    equal(await found(principal=mine, keys=(key, "none")), [ids[1]], "find by key")
    equal(await found(principal=mine, scope=scope), [ids[2]], "find by scope")
    equal(await found(principal=mine, upstream="other"), [ids[4]], "find by upstream")
    equal(await found(principal=mine, labels=(label,)), [ids[3]], "find by label leaves out other principals'")
    equal(await found(principal=mine, labels=("x", label)), [ids[3]], "find by labels takes what has each")
    equal(await found(principal=mine, labels=(label, "y")), [], "find by labels leaves out what lacks one")
    equal(await found(labels=(label,)), [stranger.stream, ids[3]], "find without a principal lists everybody's")
    for state, numbers in ((State.PENDING, [4, 0]), (State.STREAMING, [1]), (State.SEALED, [2]), (State.EXPIRED, [3])):
        equal(await found(principal=mine, state=state), [ids[number] for number in numbers], f"find by state {state}")
    pages = [await found(principal=mine, limit=2)]
    newer = await store.create(new_stream(store, principal=mine))
    while pages[-1]:
        pages.append(await found(principal=mine, limit=2, after=pages[-1][-1]))
    equal(pages, [ids[4:2:-1], ids[2:0:-1], ids[:1], []], "pages go on where the last ended, whatever came since")
    await store.forget(ids[3])
    left = [newer.stream, ids[4], ids[2], ids[1], ids[0]]
    equal(await found(principal=mine), left, "a forgotten stream is not found")
    for after in (stranger.stream, StreamId(token())):
        with refused(StreamNotFound, "a page after a foreign stream looks like one after an unknown stream"):
            await found(principal=mine, after=after)


async def unsealed_lists_what_has_no_seal(make: Make, store: LogStore) -> None:
    live, ended = await store.create(new_stream(store)), await store.create(new_stream(store))
    await store.append(live, 0, b"x")
    await store.seal(ended, SEAL)
    unsealed = {info.id: info for info in await store.unsealed()}
    equal(unsealed.get(live.stream), await store.stat(live.stream), "an unsealed stream is listed, as stat tells it")
    assert ended.stream not in unsealed, "a sealed stream is not listed as unsealed"


async def unknown_streams_are_not_found(make: Make, store: LogStore) -> None:
    stream = StreamId(token())
    calls: list[Callable[[], Awaitable[object]]] = [
        *owners_calls(store, Lease(stream, "w", 1), 0),
        lambda: store.seal(Lease(stream, "w", 1), SEAL),
        lambda: store.read(stream, 0, 1),
        lambda: store.stat(stream),
        lambda: store.request_cancel(stream),
        lambda: store.purge(stream, Gone.DELETED),
    ]
    for call in calls:
        with refused(StreamNotFound, "a stream that was never minted is not found, by any call"):
            await call()


CHECKS: tuple[Check, ...] = (
    the_first_seal_wins,
    the_record_is_kept_whole,
    a_call_is_recorded_in_place_of_itself,
    segments_lie_in_one_log,
    find_filters_and_pages,
    unsealed_lists_what_has_no_seal,
    unknown_streams_are_not_found,
)
