"""resumestream, broken on purpose, one way each: what a simulation must find. Each holds while its block runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import anyio

from resumestream import recovery, route, watch
from resumestream.drain import Drain
from resumestream.endings import Ending
from resumestream.errors import UpstreamLost
from resumestream.hub import Hub
from resumestream.live import Live, Window
from resumestream.model import Attempt, Lease, NewStream, Page, Seal, StreamId
from resumestream.pour import Pour
from resumestream.reading import Portion, Reading
from resumestream.stores import MemoryStore, _rules
from resumestream.tail import Tail

Fault = Callable[[], AbstractContextManager[Any]]


@contextmanager
def key_not_looked_up() -> Iterator[None]:
    """A caller whose key has a stream starts another."""
    bound = Hub._bound

    async def free(hub: Hub, key: str) -> Any:
        binding, info = await bound(hub, key)
        seal = replace(Ending.of("unreachable"), released=True).seal
        return binding, info and replace(info, seal=seal)

    with patch.object(Hub, "_bound", free):
        yield


@contextmanager
def claim_not_compared() -> Iterator[None]:
    """Two callers of one key at two processes both win it."""

    def bound(binding: Any, new: NewStream, replaces: StreamId | None) -> Any:
        return real(binding, new, binding.stream if binding else None)

    real = _rules.bound
    with patch.object(_rules, "bound", bound):
        yield


@contextmanager
def ambiguous_call_repeated() -> Iterator[None]:
    """A call that was sent, and never answered, is made again."""
    again = dict.fromkeys(route.Shown, route.Retry.AGAIN)
    with patch.dict(route.DECISIONS, {route.Failure.UNKNOWN: again}):
        yield


@contextmanager
def byte_dropped() -> Iterator[None]:
    """An append loses the last byte of an event now and then."""
    append = MemoryStore.append

    async def lossy(store: MemoryStore, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        tail = await append(store, lease, at, data, events)
        if at > 60:
            store._payloads[lease.stream][-1:] = b""
            store._streams[lease.stream] = replace(store._streams[lease.stream], tail=tail - 1)
            return tail - 1
        return tail

    with patch.object(MemoryStore, "append", lossy):
        yield


@contextmanager
def bytes_swapped() -> Iterator[None]:
    """The window gives what was pushed first last."""
    read = Window.read

    def swapped(window: Window, at: int, max_bytes: int) -> bytes:
        data = read(window, at, max_bytes)
        return data[len(data) // 2 :] + data[: len(data) // 2] if len(data) > 150 else data

    with patch.object(Window, "read", swapped):
        yield


@contextmanager
def page_skipped() -> Iterator[None]:
    """A tail goes on one event too far after a page of several."""
    look = Tail._look

    async def skipping(tail: Tail) -> Page | None:
        page = await look(tail)
        if page and page.data.count(b"data:") > 2 and page.info is None:
            at = page.at + page.data.index(b"data:", 5)
            return Page(at, page.data[at - page.at :])
        return page

    with patch.object(Tail, "_look", skipping):
        yield


@contextmanager
def shown_before_durable() -> Iterator[None]:
    """Readers get bytes that the store has not acknowledged."""

    async def append(pour: Pour, portion: Portion) -> None:
        at = pour._live.info.tail
        pour._live.logged(portion.data, portion.events)
        await pour._store.append(pour._lease, at, portion.data, portion.events)

    with patch.object(Pour, "_append", append):
        yield


@contextmanager
def wake_lost() -> Iterator[None]:
    """Who waits is never told."""

    def ring(live: Live) -> None:
        live._changed = anyio.Event()

    with patch.object(Live, "ring", ring):
        yield


@contextmanager
def truncated_completes() -> Iterator[None]:
    """A connection that ended in mid-answer is taken for its end."""

    def cut(pour: Pour, error: UpstreamLost) -> Ending:
        return Ending.of("framed_end", where=pour._where)

    with patch.object(Pour, "_cut", cut):
        yield


@contextmanager
def capped_completes() -> Iterator[None]:
    """An answer that is larger than may be kept is taken for whole."""

    def cap(reading: Reading, name: str) -> Ending:
        return Ending.of("framed_end", where=reading._where)

    with patch.object(Reading, "_cap", cap):
        yield


@contextmanager
def terminal_lost() -> Iterator[None]:
    """A stream that has ended is not sealed, and nobody looks after it."""

    async def seal(drain: Drain, lease: Lease) -> None:
        pass

    async def nothing(self: Any) -> None:
        pass

    with patch.object(Drain, "_seal", seal), patch.object(watch.Watch, "_rescue", nothing):
        yield


@contextmanager
def unfenced() -> Iterator[None]:
    """Whoever lost a stream to another writes on."""

    def anybody(lease: Lease, at: int, **known: Any) -> None:
        pass

    with patch.object(_rules, "appendable", anybody):
        yield


@contextmanager
def taken_from_the_living() -> Iterator[None]:
    """Recovery takes every stream, whoever drains it."""

    async def recover(store: Any, policy: Any, *, running: Any, heir: Any) -> None:
        for info in await store.unsealed():
            if not running(info.id):
                await recovery._end(store, info, policy, heir)

    with patch.object(watch, "recover", recover):
        yield


@contextmanager
def called_again_after_a_death() -> Iterator[None]:
    """A stream whose process died releases its key, though it was billed."""
    sealing = Ending.sealing

    def released(ending: Ending, attempts: Sequence[Attempt]) -> Seal:
        seal = sealing(ending, attempts)
        return replace(seal, released=seal.released or seal.detail == "process_died")

    with patch.object(Ending, "sealing", released):
        yield


@contextmanager
def reader_stops_it() -> Iterator[None]:
    """Any reader that leaves stops the stream."""

    def left(hub: Hub, live: Live) -> None:
        hub._stop(live.info.id, Ending.of("nobody_listens"))

    with patch.object(Hub, "_left", left):
        yield


FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        key_not_looked_up,
        claim_not_compared,
        ambiguous_call_repeated,
        byte_dropped,
        bytes_swapped,
        page_skipped,
        shown_before_durable,
        wake_lost,
        truncated_completes,
        capped_completes,
        terminal_lost,
        unfenced,
        taken_from_the_living,
        called_again_after_a_death,
        reader_stops_it,
    )
}
