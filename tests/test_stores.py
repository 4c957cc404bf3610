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
    Seal,
    State,
    StreamId,
    StreamInfo,
)
from resumestream.policy import Policy
from resumestream.ports import LogStore
from resumestream.stores import FileStore, MemoryStore, SQLiteStore, _rules, open_store
from resumestream.testing import check_log_store

POLICY = Policy()


@pytest.mark.anyio
async def test_memory_is_a_log_store() -> None:
    """The memory store passes the shipped suite."""
    store = MemoryStore()
    await check_log_store(lambda: store)


SERVED: dict[str, Callable[[Path, Policy], LogStore]] = {
    "sqlite": lambda path, policy: SQLiteStore(path, policy=policy, serving=True),
    "filesystem": lambda path, policy: FileStore(path, policy=policy, serving=True),
}


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["process", "disk"])
@pytest.mark.parametrize("served", SERVED.values(), ids=SERVED.keys())
async def test_a_durable_store_is_a_log_store(
    served: Callable[[Path, Policy], LogStore], tmp_path: Path, durability: Durability
) -> None:
    """Each passes the shipped suite, beside a server that packs what is sealed and erases what is purged."""
    policy = Policy(durability=durability)
    async with served(tmp_path / "streams", policy):
        await check_log_store(lambda: served(tmp_path / "streams", policy))


@pytest.mark.anyio
@pytest.mark.parametrize("served", SERVED.values(), ids=SERVED.keys())
async def test_a_durable_store_alone_is_a_log_store(served: Callable[[Path, Policy], LogStore], tmp_path: Path) -> None:
    """Each passes the shipped suite without a server beside it, so that closing really closes."""
    await check_log_store(lambda: served(tmp_path / "streams", POLICY))


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
    (Moved.BYTES_LOGGED, lambda it: _rules.begun(it, LEASE, Attempt("u", 0.0), Head(200), (), ())),
    (Moved.BYTES_LOGGED, lambda it: _rules.acquired(it, "taker", 1)),
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
        ("file:a/b", "{cwd}/a/b"),
        ("file:///var/b", "/var/b"),
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
    "store",
    [
        "",
        "redis://host/0",
        "sqlite:rel.db",
        "sqlite://rel.db",
        "sqlite:///",
        ":memory:",
        "memory:x",
        "file:",
        "file://host/x",
    ],
)
def test_open_store_refuses_what_it_does_not_know(store: str) -> None:
    """The refusal names what was given and the accepted forms."""
    with pytest.raises(ConfigError, match=r"sqlite:///relative") as refused:
        open_store(store, policy=POLICY, serving=True)
    assert repr(store) in refused.value.message
