"""What a store must answer: plain Python, no store in it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from resumestream.lifecycle import ENDINGS, Moved
from resumestream.model import Gone, Lease, Query, State, StreamId, Tally
from resumestream.ports import LogStore

Seen = dict[str, Any]
RETAIN_S, TOMBSTONE_S = 60.0, 100.0


@dataclass
class Handle:
    """One process's."""

    store: LogStore
    scope: AbstractContextManager[LogStore]
    open: bool = True

    def close(self) -> None:
        self.open = False
        self.scope.__exit__(None, None, None)


@dataclass
class Oracle:
    """What one stream must look like."""

    id: StreamId
    principal: str
    key: str | None
    label: str
    owner: Handle
    lease: Lease
    state: State = State.PENDING
    payload: bytearray = field(default_factory=bytearray)
    events: int = 0
    fenced: list[tuple[Handle, Lease]] = field(default_factory=list)
    calls: list[bool] = field(default_factory=list)
    """Of each whether it got a head, and so ends with the seal; the others had ended when they were recorded."""
    cancel_requested: bool = False
    ending: Moved | None = None
    sealed_at: float = 0.0
    gone: Gone | None = None
    gone_at: float = 0.0
    forgotten: bool = False

    @property
    def due_at(self) -> float:
        return self.gone_at + TOMBSTONE_S if self.gone else self.sealed_at + RETAIN_S


@dataclass
class Foretold:
    """All streams, the ledger, and what time it is."""

    at: float = 1_000_000.0
    oracles: list[Oracle] = field(default_factory=list)
    minted: list[Oracle] = field(default_factory=list)
    bound: dict[str, list[Oracle]] = field(default_factory=dict)
    ledger: list[tuple[float, StreamId, int, str, str, int]] = field(default_factory=list)
    tallies: dict[StreamId, Tally] = field(default_factory=dict)

    def agrees(self, seen: Seen) -> None:
        """Raises AssertionError where a store shows something else."""
        expected = {
            (principal, label): [
                stream.id
                for stream in reversed(self.oracles)
                if principal in (None, stream.principal) and label in (None, stream.label)
            ]
            for principal, label in seen["found"]
        }
        assert {key: [info.id for info in infos] for key, infos in seen["found"].items()} == expected
        for info, stream in zip(seen["found"][None, None], reversed(self.oracles), strict=True):
            assert info.state is stream.state
            assert (info.tail, info.events) == (len(stream.payload), stream.events)
            assert (info.epoch, info.new.worker) == (stream.lease.epoch, stream.lease.worker)
            assert info.new.labels == ("label", stream.label)
            assert len(info.attempts) == len(stream.calls)
            assert info.cancel_requested == stream.cancel_requested
            assert (info.seal and info.seal.outcome) == (stream.ending and ENDINGS[stream.ending])
            assert (info.seal.sealed_at if info.seal else 0.0) == stream.sealed_at
            assert (info.gone, info.gone_at or 0.0) == (stream.gone, stream.gone_at)
        self.live_ones_agree(seen)
        self.retention_agrees(seen)
        for key, binding in seen["bindings"].items():
            ids = tuple(stream.id for stream in self.bound.get(key, ()))
            assert (binding and (*binding.earlier, binding.stream)) == (ids or None)

    def live_ones_agree(self, seen: Seen) -> None:
        live = [stream for stream in self.oracles if stream.ending is None]
        assert {info.id for info in seen["unsealed"]} == {stream.id for stream in live}
        assert seen["owners"] == {stream.lease.worker for stream in live}
        for worker, held in seen["held"].items():
            assert held == {it.id: it.cancel_requested for it in live if it.lease.worker == worker}

    def retention_agrees(self, seen: Seen) -> None:
        due = [stream.id for stream in self.oracles if stream.ending and stream.due_at <= self.at]
        assert sorted(info.id for info in seen["due"]) == sorted(due)
        assert [info.due_at for info in seen["due"]] == sorted(info.due_at for info in seen["due"])
        for principal, (kept, oldest) in seen["kept"].items():
            theirs = [stream for stream in self.oracles if principal in (None, stream.principal) and not stream.gone]
            assert kept.live == sum(stream.ending is None for stream in theirs)
            assert kept.payload_bytes == sum(len(it.payload) for it in theirs)
            full = sorted((it for it in theirs if it.ending and it.payload), key=lambda it: it.sealed_at)
            assert [info.id for info in oldest] == [stream.id for stream in full]
        entries = [
            (it.attempt.ended_at or 0.0, it.stream, it.number, it.principal, it.labels[1], it.attempt.bytes)
            for it in seen["ledger"]
        ]
        assert sorted(entries) == sorted(self.ledger)
        last = {it.stream: it.number for it in seen["ledger"]}  # in the order in which they ended
        told = {it.stream: it.tally for it in seen["ledger"] if it.number == last[it.stream]}
        assert told == {stream: self.tallies.get(stream, Tally()) for stream in last}
        assert all(it.tally == Tally() for it in seen["ledger"] if it.number < last[it.stream])
        assert [entry[0] for entry in entries] == sorted(entry[0] for entry in entries)


async def observe(store: LogStore, workers: Sequence[str]) -> Seen:
    """All that a store shows, of which `agrees` judges."""
    return {
        "found": {
            (principal, label): await store.find(
                Query(principal=principal, labels=("label", label) if label else (), limit=1000)
            )
            for principal in ("ann", "bob", None)
            for label in ("red", "blue", None)
        },
        "unsealed": await store.unsealed(),
        "owners": await store.owners(),
        "held": {worker: await store.held(worker) for worker in workers},
        "due": await store.due(1000),
        "kept": {
            principal: (await store.kept(principal), await store.oldest(1000, principal))
            for principal in ("ann", "bob", None)
        },
        "ledger": await store.ledger(),
        "bindings": {key: await store.binding(key) for key in ("k1", "k2")},
    }
