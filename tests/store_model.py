"""A state machine that foretells every answer of a store: an oracle in plain Python, and two handles that stand for two
processes which serve it.

A crash is a copy of the store's folder, as it is at that moment, from which new handles are opened: what the system
has of a process that is killed is what it wrote, and its locks are gone. (A power cut, which also takes what was not
synced, is tested elsewhere.) The copy is made until two in a row are equal, so that it shows one moment although idle
work goes on in threads of the store. A store that survives nothing does not crash here.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.from_thread
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

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
from resumestream.model import Attempt, Gone, Head, Lease, NewStream, Seal, StreamId, StreamInfo, Tally
from resumestream.ports import LogStore
from resumestream.tail import Tail

from .store_oracle import RETAIN_S, TOMBSTONE_S, Foretold, Handle, Oracle, observe

DATA = st.binary(max_size=40) | st.integers(1000, 300_000).map(lambda size: bytes(i % 251 for i in range(size)))
CALL_S = 20

Clock = Callable[[], float]
Open = Callable[[Path, Clock], LogStore]
"""A handle on the store in a folder."""


class StoreModel(RuleBasedStateMachine):
    """Every call's answer, also every refusal, is foretold, through whichever handle it is asked."""

    backend: ClassVar[str]
    make: ClassVar[Open]
    crashes: ClassVar[bool]
    """Whether the store outlives its processes."""

    streams = Bundle("streams")
    keys = st.none() | st.sampled_from(["k1", "k2"])
    principals = st.sampled_from(["ann", "bob"])
    labels = st.sampled_from(["red", "blue"])
    which = st.sampled_from([0, 1])

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.told = Foretold()
        self.steps = 0
        self.folder = tempfile.TemporaryDirectory()
        self.portal_scope = anyio.from_thread.start_blocking_portal(self.backend)
        self.portal = self.portal_scope.__enter__()
        self.open_both(Path(self.folder.name) / "before")

    def open_both(self, place: Path) -> None:
        place.mkdir(exist_ok=True)
        self.place = place
        self.memory = getattr(self, "memory", None)
        self.handles = [self.open_one(), self.open_one()]

    def open_one(self) -> Handle:
        store = self.memory if self.memory is not None else type(self).make(self.place, lambda: self.told.at)
        if not self.crashes:
            self.memory = store
        scope = self.portal.wrap_async_context_manager(store)
        return Handle(scope.__enter__(), scope)

    def teardown(self) -> None:
        for handle in self.handles:
            handle.close()
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

    @initialize(target=streams, principals=st.lists(principals, min_size=2, max_size=4))
    def begin_with_some(self, principals: list[str]) -> MultipleResults[Oracle]:
        """Two streams at least are live from the start."""
        keys = ["k1", None, "k2", None]
        made = [self.create(keys[at], name, "red", at % 2, False) for at, name in enumerate(principals)]
        return multiple(*made)  # type: ignore[arg-type]

    # --- owners --------------------------------------------------------------------------------------------------

    @rule(
        target=streams,
        key=keys,
        principal=principals,
        label=labels,
        which=which,
        stale=st.sampled_from([False] * 5 + [True]),
    )
    def create(self, key: str | None, principal: str, label: str, which: int, stale: bool) -> Oracle:
        """A key moves only from the stream that it means."""
        handle = self.handles[which]
        store, id_ = handle.store, StreamId(f"s{next(self.numbers)}")
        worker = store.peers.me
        stream = Oracle(id_, principal, key, label, handle, Lease(id_, worker, 1))
        new = NewStream(
            id_, principal, "u", worker, self.told.at, RETAIN_S, TOMBSTONE_S, key=key, labels=("label", label)
        )
        bound = self.told.bound.setdefault(key, []) if key else []
        if stale and key:
            for past in [None] * bool(bound) + [other.id for other in self.told.minted if other not in bound[-1:]]:
                self.refused(BindingMoved, store.create, new, replaces=past)
            self.refused(StreamNotFound, store.stat, stream.id)
            stream.forgotten = True
            return stream
        replaces = bound[-1].id if bound else None
        assert self.call(store.create, new, replaces=replaces) == stream.lease
        bound.append(stream)
        self.told.minted.append(stream)
        self.told.oracles.append(stream)
        return stream

    @rule(stream=streams, parts=st.lists(DATA, min_size=2, max_size=4))
    def grow(self, stream: Oracle, parts: list[bytes]) -> None:
        """What an owner does most of the time."""
        for data in parts:
            self.append(stream, data, 0, 1)

    @rule(stream=streams, data=DATA, slip=st.sampled_from([0, 0, 0, -1, 1]), events=st.integers(0, 3))
    def append(self, stream: Oracle, data: bytes, slip: int, events: int) -> None:
        """Only to a live stream, at the tail."""
        if stream.forgotten:
            self.refused(StreamNotFound, self.handles[0].store.append, stream.lease, 0, data)
            return
        call = (self.owner(stream).append, stream.lease, len(stream.payload) + slip, data, events)
        if stream.ending:
            self.refused(StreamSealed, *call)
        elif slip:
            self.refused(OffsetConflict, *call)
        else:
            stream.payload += data
            stream.events += events
            assert self.call(*call) == len(stream.payload)
            if data:
                stream.state = move(stream.state, Moved.BYTES_LOGGED)

    def owner(self, stream: Oracle) -> LogStore:
        """The handle that has the stream: one that was closed has lost it, and another takes it over."""
        if not stream.owner.open:
            if stream.ending:
                stream.owner = self.handles[0]
            else:
                self.take_over(stream, 0)
        return stream.owner.store

    @rule(stream=streams, which=which)
    def take_over(self, stream: Oracle, which: int) -> None:
        """A takeover fences whoever held the stream, and only one that knows the present epoch succeeds."""
        store, epoch = self.handles[which].store, stream.lease.epoch
        call = (store.acquire, stream.id, store.peers.me)
        if error := StreamNotFound if stream.forgotten else StreamSealed if stream.ending else None:
            self.refused(error, *call, after=epoch)
            return
        for wrong in (epoch - 1, epoch + 1):
            self.refused(LeaseLost, *call, after=wrong)
        stream.fenced.append((stream.owner, stream.lease))
        stream.owner, stream.lease = self.handles[which], Lease(stream.id, store.peers.me, epoch + 1)
        assert self.call(*call, after=epoch) == stream.lease

    @rule(stream=streams, data=st.binary(min_size=1, max_size=9), do=st.sampled_from(["append", "begin", "seal"]))
    def wake_up_fenced(self, stream: Oracle, data: bytes, do: str) -> None:
        """Who was fenced off learns that first of all, and nothing it does is ever seen."""
        for handle, lease in stream.fenced:
            if not handle.open or stream.forgotten:
                continue
            store = handle.store
            if do == "append":
                self.refused(LeaseLost, store.append, lease, len(stream.payload), data)
            elif do == "begin":
                self.refused(LeaseLost, store.begin, lease, Attempt("u", 1.0, 200), Head(200))
            else:
                self.refused(LeaseLost, store.seal, lease, Seal(ENDINGS[Moved.UPSTREAM_CUT], "late", "Late."))

    @rule(stream=streams, head=st.none() | st.just(Head(200, (("a", "b"),))))
    def begin(self, stream: Oracle, head: Head | None) -> None:
        """A call is recorded for the owner of a live stream."""
        if stream.forgotten:
            self.refused(StreamNotFound, self.handles[0].store.begin, stream.lease, Attempt("u", 1.0), head)
            return
        attempt = Attempt("u", 1.0, ended_at=None if head else 1.0)
        after = [Attempt("u", 1.0, ended_at=1.0)] * len(stream.calls)
        call = (partial(self.owner(stream).begin, after=after), stream.lease, attempt, head)
        if stream.ending:
            self.refused(StreamSealed, *call)
        else:
            self.call(*call)
            stream.calls.append(head is not None)

    @rule(stream=streams, moved=st.sampled_from(sorted(ENDINGS)))
    def seal(self, stream: Oracle, moved: Moved) -> None:
        """The first seal wins; the table allows no second. The last call ends with it."""
        asked = Seal(ENDINGS[moved], "detail", "Message.")
        if stream.forgotten:
            self.refused(StreamNotFound, self.handles[0].store.seal, stream.lease, asked)
            return
        store = self.owner(stream)
        self.told.at += 0.001  # no two at once, so that their order is certain
        if stream.ending is None:
            stream.state, stream.ending, stream.sealed_at = move(stream.state, moved), moved, self.told.at
            for number, got_head in enumerate(stream.calls, 1):
                is_open = got_head and number == len(stream.calls)
                ended_at, size = (self.told.at, len(stream.payload)) if is_open else (1.0, 0)
                self.told.ledger.append((ended_at, stream.id, number, stream.principal, stream.label, size))
        else:
            with pytest.raises(IllegalMove):
                move(stream.state, moved)
        assert self.call(store.seal, stream.lease, asked).seal.outcome == ENDINGS[stream.ending]

    # --- everybody -----------------------------------------------------------------------------------------------

    @rule(
        stream=streams,
        which=which,
        part=st.floats(0, 1),
        most=st.sampled_from([1, 17, 4096, 262_144]),
        beyond=st.booleans(),
    )
    def read(self, stream: Oracle, which: int, part: float, most: int, beyond: bool) -> None:
        """A read gives the bytes at its offset, or says why not."""
        at = len(stream.payload) + 1 if beyond else int(part * len(stream.payload))
        call = (self.handles[which].store.read, stream.id, at, most)
        if stream.forgotten:
            self.refused(StreamNotFound, *call)
        elif stream.gone:
            self.refused(StreamGone, *call)
        elif beyond:
            self.refused(OffsetBeyondTail, *call)
        else:
            data = self.call(*call)
            assert data == stream.payload[at : at + len(data)]
            assert len(data) <= most
            assert data or at == len(stream.payload)

    @rule(stream=streams, which=which, part=st.floats(0, 1))
    def tail(self, stream: Oracle, which: int, part: float) -> None:
        """A Tail gives all that there is from its offset on, and the end where there is one."""
        at = int(part * len(stream.payload))
        if stream.forgotten or stream.gone:
            return

        async def pages() -> tuple[bytes, StreamInfo | None]:
            until = None if stream.ending else len(stream.payload)
            tail, data, info = Tail(self.handles[which].store, stream.id, at, until=until), b"", None
            try:
                while info is None:
                    page = await tail.receive()
                    data, info = data + page.data, page.info
            except anyio.EndOfStream:
                pass
            return data, info

        data, info = self.call(pages)
        assert data == stream.payload[at:]
        assert (info is not None) is (stream.ending is not None)

    @rule(stream=streams, which=which)
    def request_cancel(self, stream: Oracle, which: int) -> None:
        """An intent is kept for a live stream only."""
        store = self.handles[which].store
        if stream.forgotten:
            self.refused(StreamNotFound, store.request_cancel, stream.id)
        else:
            self.call(store.request_cancel, stream.id)
            stream.cancel_requested |= stream.ending is None

    @rule(stream=streams, which=which, more=st.builds(Tally, st.integers(0, 3), st.integers(0, 3)))
    def tally(self, stream: Oracle, which: int, more: Tally) -> None:
        """Who asks again is counted, whatever has become of the stream."""
        self.call(self.handles[which].store.tally, {stream.id: more, StreamId("never"): more})
        self.told.tallies[stream.id] = self.told.tallies.get(stream.id, Tally()) + more

    # --- retention -----------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, RETAIN_S / 2, RETAIN_S, TOMBSTONE_S]))
    def wait(self, seconds: float) -> None:
        """Time passes on the store clock."""
        self.told.at += seconds

    @rule(which=which, ledger_s=st.sampled_from([0.0, 30.0, 1000.0]))
    def sweep(self, which: int, ledger_s: float) -> None:
        """Everything that is due is dropped, then forgotten; the ledger is cut, and goes by its own time."""
        self.call(self.handles[which].store.prune, self.told.at - ledger_s)
        self.told.ledger = [entry for entry in self.told.ledger if entry[0] >= self.told.at - ledger_s]
        for stream in [stream for stream in self.told.oracles if stream.ending and stream.due_at <= self.told.at]:
            if stream.gone:
                self.forget(stream, which)
            else:
                self.purge(stream, which, Gone.EXPIRED)

    @rule(stream=streams, which=which, why=st.sampled_from(Gone))
    def purge(self, stream: Oracle, which: int, why: Gone) -> None:
        """A payload goes only after the seal."""
        store = self.handles[which].store
        if stream.forgotten:
            self.refused(StreamNotFound, store.purge, stream.id, why)
        elif stream.ending is None:
            self.refused(StoreError, store.purge, stream.id, why)
        else:
            if not stream.gone:
                stream.state, stream.gone = move(stream.state, Moved.PAYLOAD_DROPPED), why
                expires_at = stream.sealed_at + RETAIN_S
                stream.gone_at = min(self.told.at, expires_at) if why is Gone.EXPIRED else self.told.at
            info = self.call(store.purge, stream.id, why)
            assert (info.tail, info.gone, info.gone_at) == (len(stream.payload), stream.gone, stream.gone_at)

    @rule(stream=streams, which=which)
    def forget(self, stream: Oracle, which: int) -> None:
        """A tombstone goes only after the payload, and takes the key that still means it along."""
        store = self.handles[which].store
        if not stream.forgotten and not stream.gone:
            self.refused(StoreError, store.forget, stream.id)
            return
        self.call(store.forget, stream.id)
        if not stream.forgotten:
            stream.forgotten = True
            self.told.oracles.remove(stream)
            if stream.key and self.told.bound[stream.key][-1] is stream:
                del self.told.bound[stream.key]

    # --- processes -----------------------------------------------------------------------------------------------

    @rule(which=st.sampled_from([[0], [1], [0, 1]]))
    def reopen(self, which: list[int]) -> None:
        """Processes end in order, and others start; for a moment perhaps nobody has the store."""
        for number in which:
            self.handles[number].close()
        for number in which:
            self.handles[number] = self.open_one()

    @precondition(lambda self: self.crashes)
    @rule(stream=streams, data=DATA, last=st.sampled_from(["append", "request_cancel", "seal", "purge"]))
    def crash(self, stream: Oracle, data: bytes, last: str) -> None:
        """All processes die at once, right after the last thing that they were told is stored: it is there."""
        if last == "append":
            self.append(stream, data, 0, 1)
        elif last == "request_cancel":
            self.request_cancel(stream, 0)
        elif last == "seal":
            self.seal(stream, Moved.END_SEEN)
        else:
            self.purge(stream, 1, Gone.DELETED)
        copy = self.place.with_name(f"after{next(self.numbers)}")
        before = None
        while before != content(self.place):
            before = content(self.place)
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self.place, copy, ignore=what_dies_with_a_process)
        for handle in self.handles:
            handle.close()
        self.open_both(copy)

    # --- what must hold after each step --------------------------------------------------------------------------

    @rule(tidy=st.booleans(), block=st.sampled_from([4_099, 65_537, 262_144]), which=which)
    def read_all(self, tidy: bool, block: int, which: int) -> None:
        """Reading on and on gives each payload, before and after idle-time work; nothing is found wrong."""
        store = self.handles[which].store
        if tidy:
            self.call(store.tidy)
        for stream in self.told.oracles:
            if not stream.gone:
                assert self.call(self.whole, store, stream.id, block) == stream.payload
        assert self.call(store.verify) == []

    async def whole(self, store: LogStore, stream: StreamId, block: int) -> bytes:
        payload = bytearray()
        while data := await store.read(stream, len(payload), block):
            payload += data
        return bytes(payload)

    @invariant()
    def records_agree(self) -> None:
        """Every list, record, count and binding is as foretold, through either handle."""
        self.steps += 1
        peers = [handle.store.peers.me for handle in self.handles]
        self.told.agrees(self.call(observe, self.handles[self.steps % 2].store, peers))


def what_dies_with_a_process(folder: str, names: list[str]) -> list[str]:
    """SQLite's shared memory, and sockets."""
    there = Path(folder)
    return [
        name for name in names if name.endswith("-shm") or not ((there / name).is_file() or (there / name).is_dir())
    ]


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith("-shm"))
    return {str(path): path.read_bytes() for path in files}


def run_model(make: Open, backend: str, *, crashes: bool, examples: int, shrink: bool = True) -> None:
    """Raises, with the steps that lead there, where a store answers otherwise than foretold."""
    machine = type("Model", (StoreModel,), {"make": staticmethod(make), "backend": backend, "crashes": crashes})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate, *[Phase.shrink] * shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
