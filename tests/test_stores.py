"""Every store of the package is a LogStore, on both loops; and what `open_store` makes of what people write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from resumestream.errors import ConfigError
from resumestream.model import Durability, Gone, Lease, NewStream, Query, Seal, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.stores import MemoryStore, SQLiteStore, open_store
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


class GenerationIgnored(MemoryStore):
    async def create(self, new: NewStream, *, replaces: int = 0) -> Lease:
        binding = await self.binding(new.key or "")
        return await super().create(new, replaces=binding.generation if binding else 0)


class LoserWritten(MemoryStore):
    async def create(self, new: NewStream, *, replaces: int = 0) -> Lease:
        self._streams[new.id] = StreamInfo(new)
        return await super().create(new, replaces=replaces)


class PurgedReadable(MemoryStore):
    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        info = await self.stat(stream)
        return b"payload"[at : at + max_bytes] if info.gone else await super().read(stream, at, max_bytes)


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
    GenerationIgnored,
    LoserWritten,
    PurgedReadable,
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
