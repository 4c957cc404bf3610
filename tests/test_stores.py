"""Every store of the package is a LogStore, on both loops; and what `open_store` makes of what people write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from resumestream.errors import ConfigError, StoreError
from resumestream.lifecycle import TRANSITIONS, Moved
from resumestream.model import (
    EARLIER_KEPT,
    Attempt,
    Durability,
    Gone,
    Head,
    Lease,
    NewStream,
    Outcome,
    Query,
    Seal,
    State,
    StreamId,
    StreamInfo,
)
from resumestream.policy import Policy
from resumestream.stores import MemoryStore, SQLiteStore, _rules, open_store
from resumestream.testing import check_log_store

POLICY = Policy()


class FramingInTheOffset(MemoryStore):
    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        return await super().append(lease, at, len(data).to_bytes(4, "big") + data, events)


class OffsetIgnored(MemoryStore):
    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        return await super().append(lease, (await self.stat(lease.stream)).tail, data, events)


class AppendUnfenced(MemoryStore):
    async def append(self, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        present = replace(lease, epoch=(await self.stat(lease.stream)).epoch)
        return await super().append(present, at, data, events)


class LastSealWins(MemoryStore):
    async def seal(self, lease: Lease, seal: Seal) -> StreamInfo:
        if (info := await self.stat(lease.stream)).seal:
            self._streams[lease.stream] = replace(info, seal=None)
        return await super().seal(lease, seal)


class ReadFromElsewhere(MemoryStore):
    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        return await super().read(stream, at - at % 4096, max_bytes)


class ReadPastTheTail(MemoryStore):
    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        return await super().read(stream, min(at, (await self.stat(stream)).tail), max_bytes)


class BindingIgnored(MemoryStore):
    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        binding = await self.binding(new.key or "")
        return await super().create(new, replaces=binding.stream if binding else None)


class BindingsCounted(MemoryStore):
    """Compares how often the key was bound since it was last forgotten, and not which stream it means."""

    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        self._counts: dict[StreamId, int] = getattr(self, "_counts", {})
        binding = await self.binding(new.key or "")
        present = len(binding.earlier) + 1 if binding else 0
        if binding and replaces and self._counts.get(replaces) == present:
            replaces = binding.stream
        lease = await super().create(new, replaces=replaces)
        self._counts[new.id] = present + 1
        return lease


class LoserWritten(MemoryStore):
    async def create(self, new: NewStream, *, replaces: StreamId | None = None) -> Lease:
        self._streams[new.id] = StreamInfo(new)
        return await super().create(new, replaces=replaces)


class PurgedReadable(MemoryStore):
    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        info = await self.stat(stream)
        return b"payload"[at : at + max_bytes] if info.gone else await super().read(stream, at, max_bytes)


class MessageKept(MemoryStore):
    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        seal = (await self.stat(stream)).seal
        info = self._streams[stream] = replace(await super().purge(stream, why), seal=seal)
        return info


class ExpiryCountsFromThePurge(MemoryStore):
    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        now, known = self.now(), (await self.stat(stream)).gone_at
        info = self._streams[stream] = replace(await super().purge(stream, why), gone_at=known or now)
        return info


class KeyForgottenAtPurge(MemoryStore):
    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        self._bindings.pop((await self.stat(stream)).new.key or "", None)
        return await super().purge(stream, why)


class FindLeaksByLabel(MemoryStore):
    async def find(self, query: Query) -> list[StreamInfo]:
        return await super().find(replace(query, principal=None) if query.labels else query)


class CancelForgotten(MemoryStore):
    async def request_cancel(self, stream: StreamId) -> None:
        await self.stat(stream)


WRONG = [
    FramingInTheOffset,
    OffsetIgnored,
    AppendUnfenced,
    LastSealWins,
    ReadFromElsewhere,
    ReadPastTheTail,
    BindingIgnored,
    BindingsCounted,
    LoserWritten,
    PurgedReadable,
    MessageKept,
    ExpiryCountsFromThePurge,
    KeyForgottenAtPurge,
    FindLeaksByLabel,
    CancelForgotten,
]


@pytest.mark.anyio
async def test_memory_is_a_log_store() -> None:
    """The memory store passes the shipped suite."""
    store = MemoryStore()
    await check_log_store(lambda: store)


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["process", "disk"])
async def test_sqlite_is_a_log_store(tmp_path: Path, durability: Durability) -> None:
    """SQLite passes the shipped suite, beside a server that packs what is sealed and erases what is purged."""
    policy = Policy(durability=durability)
    path = tmp_path / "streams.db"
    async with SQLiteStore(path, policy=policy, serving=True):
        await check_log_store(lambda: SQLiteStore(path, policy=policy, serving=False))


@pytest.mark.anyio
async def test_sqlite_alone_is_a_log_store(tmp_path: Path) -> None:
    """SQLite passes the shipped suite without a server beside it, so that closing really closes."""
    path = tmp_path / "streams.db"
    async with SQLiteStore(path, policy=POLICY, serving=True):
        pass
    await check_log_store(lambda: SQLiteStore(path, policy=POLICY, serving=False))


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
async def test_the_suite_catches_a_store_that_is_wrong(wrong: type[MemoryStore]) -> None:
    """Each seeded fault fails the suite with a sentence, so the suite proves something."""
    store = wrong()
    with pytest.raises(AssertionError, match=r"\w+ \w+ \w+"):
        await check_log_store(lambda: store)


@pytest.mark.anyio
async def test_a_key_remembers_a_hundred_earlier_streams() -> None:
    """A retry loop that goes on for days makes no re-bind dearer than the last: the oldest streams are let go."""
    store = MemoryStore()
    ids = [StreamId(f"s{number}") for number in range(EARLIER_KEPT + 3)]
    for replaces, id_ in zip([None, *ids], ids, strict=False):
        await store.create(NewStream(id_, "p", "u", "w", store.now(), 60, 60, key="k"), replaces=replaces)
    binding = await store.binding("k")
    assert binding
    assert (binding.stream, binding.earlier) == (ids[-1], tuple(ids[2:-1]))


LEASE = Lease(StreamId("s"), "w", 1)
LIVE = StreamInfo(NewStream(LEASE.stream, "p", "u", "w", 0, 60, 60))
SEALED = replace(LIVE, tail=1, seal=Seal(Outcome.COMPLETED, "end_seen", "It ended."))
RECORDS = {
    State.PENDING: LIVE,
    State.STREAMING: replace(LIVE, tail=1),
    State.SEALED: SEALED,
    State.EXPIRED: replace(SEALED, gone=Gone.EXPIRED, gone_at=60.0),
}
DONE_BY: list[tuple[Moved, Callable[[StreamInfo], object]]] = [
    (Moved.BYTES_LOGGED, lambda it: _rules.appendable(LEASE, it.tail, epoch=1, state=it.state, tail=it.tail)),
    (Moved.BYTES_LOGGED, lambda it: _rules.begun(it, LEASE, Attempt("u", 0.0), Head(200))),
    (Moved.BYTES_LOGGED, lambda it: _rules.acquired(it, "taker")),
    (Moved.UPSTREAM_CUT, lambda it: _rules.sealed(it, LEASE, Seal(Outcome.TRUNCATED, "cut", "Cut."), 0.0)),
    (Moved.STOP_ASKED, _rules.cancel_requested),
    (Moved.PAYLOAD_DROPPED, lambda it: _rules.purged(it, Gone.EVICTED, 0.0)),
]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(("moved", "rule"), DONE_BY)
@pytest.mark.parametrize("legal", [True, False])
def test_the_table_is_the_stores_law(
    state: State, moved: Moved, rule: Callable[[StreamInfo], object], legal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the lifecycle table says of a state is what the rules do, also once the table says otherwise: nowhere is it
    decided a second time."""
    row = {moved: State.SEALED} if legal else {}
    monkeypatch.setitem(TRANSITIONS, state, row)
    before = RECORDS[state]
    try:
        changed = rule(before) is not before
    except StoreError:
        changed = False
    assert changed is legal


@pytest.mark.parametrize(
    ("store", "location"),
    [
        ("memory:", "memory:"),
        ("sqlite:///a/b.db", "{cwd}/a/b.db"),
        ("sqlite:////var/b.db", "/var/b.db"),
        ("b.db", "{cwd}/b.db"),
        (Path("c/b.db"), "{cwd}/c/b.db"),
        (Path("odd:name.db"), "{cwd}/odd:name.db"),
    ],
)
def test_open_store_takes_urls_and_paths(
    store: str | Path, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path means SQLite; `location` is the resolved path, and nothing is touched yet."""
    monkeypatch.chdir(tmp_path)
    assert open_store(store, policy=POLICY, serving=True).location == location.format(cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_open_store_takes_a_log_store() -> None:
    """A store of somebody's own goes through as it is."""
    store = MemoryStore()
    assert open_store(store, policy=POLICY, serving=True) is store


@pytest.mark.parametrize(
    "store", ["", "redis://host/0", "sqlite:rel.db", "sqlite://rel.db", "sqlite:///", ":memory:", "memory:x", "file:x"]
)
def test_open_store_refuses_what_it_does_not_know(store: str) -> None:
    """The refusal names what was given and the accepted forms."""
    with pytest.raises(ConfigError, match=r"sqlite:///relative") as refused:
        open_store(store, policy=POLICY, serving=True)
    assert repr(store) in refused.value.message
    assert ("not there yet" in refused.value.message) == store.startswith("file:")
