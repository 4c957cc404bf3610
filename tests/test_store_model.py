"""Random histories of a store against an oracle: a bytearray a stream, and the lifecycle table."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.from_thread
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from resumestream.errors import (
    BindingMoved,
    LeaseLost,
    OffsetBeyondTail,
    OffsetConflict,
    StoreError,
    StreamGone,
    StreamNotFound,
    StreamSealed,
)
from resumestream.lifecycle import ENDINGS, IllegalMove, Moved, move
from resumestream.model import Attempt, Gone, Head, Lease, NewStream, Query, Seal, State, StreamId
from resumestream.policy import Policy
from resumestream.ports import LogStore
from resumestream.stores import MemoryStore, SQLiteStore

DATA = st.binary(max_size=40) | st.integers(1000, 300_000).map(lambda size: bytes(i % 251 for i in range(size)))
CALL_S = 20


@dataclass
class Oracle:
    """What one stream must look like."""

    id: StreamId
    principal: str
    key: str | None
    state: State = State.PENDING
    payload: bytearray = field(default_factory=bytearray)
    epoch: int = 1
    calls: int = 0
    cancel_requested: bool = False
    ending: Moved | None = None
    forgotten: bool = False


class StoreModel(RuleBasedStateMachine):
    """Every call's answer, also every refusal, is foretold. `store` may be closed and opened at any point."""

    backend: ClassVar[str]
    make: ClassVar[Callable[[Path], Callable[[], LogStore]]]
    streams = Bundle("streams")
    keys = st.none() | st.sampled_from(["k1", "k2"])
    principals = st.sampled_from(["ann", "bob"])

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.oracles: list[Oracle] = []
        self.minted: list[Oracle] = []
        self.bound: dict[str, list[Oracle]] = {}
        self.folder = tempfile.TemporaryDirectory()
        self.portal_scope = anyio.from_thread.start_blocking_portal(self.backend)
        self.portal = self.portal_scope.__enter__()
        self.new_handle = type(self).make(Path(self.folder.name))
        self.open()

    def open(self) -> None:
        self.store_scope: AbstractContextManager[LogStore] = self.portal.wrap_async_context_manager(self.new_handle())
        self.store = self.store_scope.__enter__()

    def teardown(self) -> None:
        self.store_scope.__exit__(None, None, None)
        self.portal_scope.__exit__(None, None, None)
        self.folder.cleanup()

    def call(self, method: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        async def run() -> Any:
            with anyio.fail_after(CALL_S):
                return await method(*args, **kwargs)

        return self.portal.call(run)

    def refused(self, error: type[Exception], method: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> None:
        with pytest.raises(error):
            self.call(method, *args, **kwargs)

    def lease(self, stream: Oracle, age: int = 0) -> Lease:
        return Lease(stream.id, "w", stream.epoch - age)

    @rule(target=streams, key=keys, principal=principals, stale=st.sampled_from([False] * 5 + [True]))
    def create(self, key: str | None, principal: str, stale: bool) -> Oracle:
        """A key moves only from the stream that it means."""
        stream = Oracle(StreamId(f"s{next(self.numbers)}"), principal, key)
        new = NewStream(stream.id, principal, "u", "w", self.store.now(), 60, 60, key=key, labels=("label",))
        bound = self.bound.setdefault(key, []) if key else []
        if stale and key:
            for past in [None] * bool(bound) + [other.id for other in self.minted if other not in bound[-1:]]:
                self.refused(BindingMoved, self.store.create, new, replaces=past)
            self.refused(StreamNotFound, self.store.stat, stream.id)
            stream.forgotten = True
            return stream
        replaces = bound[-1].id if bound else None
        assert self.call(self.store.create, new, replaces=replaces) == Lease(stream.id, "w", 1)
        bound.append(stream)
        self.minted.append(stream)
        self.oracles.append(stream)
        return stream

    @rule(stream=streams, parts=st.lists(DATA, min_size=2, max_size=4))
    def grow(self, stream: Oracle, parts: list[bytes]) -> None:
        """What an owner does most of the time."""
        for data in parts:
            self.append_one(stream, data, 0, 0)

    @rule(stream=streams, data=DATA, slip=st.sampled_from([0, 0, 0, -1, 1]), age=st.sampled_from([0, 0, 0, 1]))
    def append(self, stream: Oracle, data: bytes, slip: int, age: int) -> None:
        """Only under the present lease, to a live stream, at the tail; fencing is told first."""
        self.append_one(stream, data, slip, age)

    def append_one(self, stream: Oracle, data: bytes, slip: int, age: int) -> None:
        at, lease = len(stream.payload) + slip, self.lease(stream, age)
        if stream.forgotten:
            self.refused(StreamNotFound, self.store.append, lease, at, data)
        elif age:
            self.refused(LeaseLost, self.store.append, lease, at, data)
        elif stream.ending:
            self.refused(StreamSealed, self.store.append, lease, at, data)
        elif slip:
            self.refused(OffsetConflict, self.store.append, lease, at, data)
        else:
            stream.payload += data
            assert self.call(self.store.append, lease, at, data) == len(stream.payload)
            if data:
                stream.state = move(stream.state, Moved.BYTES_LOGGED)

    @rule(stream=streams, age=st.sampled_from([0, 0, 1]))
    def begin(self, stream: Oracle, age: int) -> None:
        """An attempt is recorded for the owner of a live stream."""
        error = self.expected_refusal(stream, age)
        call = (self.store.begin, self.lease(stream, age), Attempt("u", 1.0, 200), Head(200, (("a", "b"),)))
        if error:
            self.refused(error, *call)
        else:
            self.call(*call)
            stream.calls += 1

    @rule(stream=streams)
    def take_over(self, stream: Oracle) -> None:
        """A takeover fences whoever held the stream."""
        if error := self.expected_refusal(stream):
            self.refused(error, self.store.acquire, stream.id, "w")
        else:
            stream.epoch += 1
            assert self.call(self.store.acquire, stream.id, "w") == self.lease(stream)

    def expected_refusal(self, stream: Oracle, age: int = 0) -> type[Exception] | None:
        if stream.forgotten:
            return StreamNotFound
        if age:
            return LeaseLost
        return StreamSealed if stream.ending else None

    @rule(stream=streams, moved=st.sampled_from(sorted(ENDINGS)), age=st.sampled_from([0, 0, 0, 1]))
    def seal(self, stream: Oracle, moved: Moved, age: int) -> None:
        """The first seal wins; the table allows no second."""
        call = (self.store.seal, self.lease(stream, age), Seal(ENDINGS[moved], "detail", "Message."))
        if stream.forgotten or age:
            self.refused(StreamNotFound if stream.forgotten else LeaseLost, *call)
            return
        if stream.ending is None:
            stream.state, stream.ending = move(stream.state, moved), moved
        else:
            with pytest.raises(IllegalMove):
                move(stream.state, moved)
        assert self.call(*call).seal.outcome == ENDINGS[stream.ending]

    @rule(stream=streams, part=st.floats(0, 1), most=st.sampled_from([1, 17, 4096, 262_144]), beyond=st.booleans())
    def read(self, stream: Oracle, part: float, most: int, beyond: bool) -> None:
        """A read gives the bytes at its offset, or says why not."""
        at = len(stream.payload) + 1 if beyond else int(part * len(stream.payload))
        if stream.forgotten:
            self.refused(StreamNotFound, self.store.read, stream.id, at, most)
        elif stream.state is State.EXPIRED:
            self.refused(StreamGone, self.store.read, stream.id, at, most)
        elif beyond:
            self.refused(OffsetBeyondTail, self.store.read, stream.id, at, most)
        else:
            data = self.call(self.store.read, stream.id, at, most)
            assert data == stream.payload[at : at + len(data)]
            assert len(data) <= most
            assert data or at == len(stream.payload)

    @rule(stream=streams)
    def request_cancel(self, stream: Oracle) -> None:
        """An intent is kept for a live stream only."""
        if stream.forgotten:
            self.refused(StreamNotFound, self.store.request_cancel, stream.id)
        else:
            self.call(self.store.request_cancel, stream.id)
            stream.cancel_requested |= stream.ending is None

    @rule(stream=streams)
    def purge(self, stream: Oracle) -> None:
        """A payload goes only after the seal."""
        if stream.forgotten:
            self.refused(StreamNotFound, self.store.purge, stream.id, Gone.EXPIRED)
        elif stream.ending is None:
            self.refused(StoreError, self.store.purge, stream.id, Gone.EXPIRED)
        else:
            if stream.state is State.SEALED:
                stream.state = move(stream.state, Moved.PAYLOAD_DROPPED)
            assert self.call(self.store.purge, stream.id, Gone.EXPIRED).tail == len(stream.payload)

    @rule(stream=streams)
    def forget(self, stream: Oracle) -> None:
        """A tombstone goes only after the payload, and takes the key that still means it along."""
        if not stream.forgotten and stream.state is not State.EXPIRED:
            self.refused(StoreError, self.store.forget, stream.id)
            return
        self.call(self.store.forget, stream.id)
        if not stream.forgotten:
            stream.forgotten = True
            self.oracles.remove(stream)
            if stream.key and self.bound[stream.key][-1] is stream:
                del self.bound[stream.key]

    @rule()
    def reopen(self) -> None:
        """A close and an open change nothing."""
        self.store_scope.__exit__(None, None, None)
        self.open()

    @rule(tidy=st.booleans(), block=st.sampled_from([4_099, 65_537, 262_144]))
    def read_all(self, tidy: bool, block: int) -> None:
        """Reading on and on gives each payload, before and after idle-time work."""
        if tidy and isinstance(self.store, SQLiteStore):
            self.call(self.store.tidy)
        for stream in self.oracles:
            if stream.state is not State.EXPIRED:
                assert self.call(self.whole, stream.id, block) == stream.payload

    async def whole(self, stream: StreamId, block: int) -> bytes:
        payload = bytearray()
        while data := await self.store.read(stream, len(payload), block):
            payload += data
        return bytes(payload)

    @invariant()
    def records_agree(self) -> None:
        """Every list, record and binding is as foretold."""
        found, unsealed, asked, bindings = self.call(self.observe)
        for (principal, _), infos in found.items():
            expected = [stream for stream in reversed(self.oracles) if principal in (None, stream.principal)]
            assert [info.id for info in infos] == [stream.id for stream in expected]
        for info, stream in zip(found[None, ()], reversed(self.oracles), strict=True):
            assert info.state is stream.state
            assert (info.tail, info.epoch) == (len(stream.payload), stream.epoch)
            assert len(info.attempts) == stream.calls
            assert info.cancel_requested == stream.cancel_requested
        live = [stream for stream in self.oracles if stream.ending is None]
        assert {info.id for info in unsealed} == {stream.id for stream in live}
        assert set(asked) == {stream.id for stream in live if stream.cancel_requested}
        for key, binding in bindings.items():
            ids = tuple(stream.id for stream in self.bound.get(key, ()))
            assert (binding and (*binding.earlier, binding.stream)) == (ids or None)

    async def observe(self) -> tuple[dict[tuple[str | None, tuple[str, ...]], Any], Any, Any, dict[str, Any]]:
        store = self.store
        return (
            {
                (principal, labels): await store.find(Query(principal=principal, labels=labels, limit=1000))
                for principal in ("ann", "bob", None)
                for labels in ((), ("label",))
            },
            await store.unsealed(),
            await store.cancel_requests(),
            {key: await store.binding(key) for key in ("k1", "k2")},
        )


def memory(folder: Path) -> Callable[[], LogStore]:
    store = MemoryStore()
    return lambda: store


def sqlite(folder: Path) -> Callable[[], LogStore]:
    return lambda: SQLiteStore(folder / "streams.db", policy=Policy(), serving=True)


@pytest.mark.parametrize(("make", "examples"), [(memory, 40), (sqlite, 30)])
def test_random_histories_match_the_oracle(
    make: Callable[[Path], Callable[[], LogStore]], examples: int, anyio_backend: str
) -> None:
    """Whatever is asked in whatever order, every answer and every record is what the oracle says."""
    machine = type("Model", (StoreModel,), {"make": staticmethod(make), "backend": anyio_backend})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
