"""Each seeded fault is caught, by the shipped suite or by the state machine, and tells in a sentence what is wrong.

`nox -s faults` runs this alone and shows the sentences.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from resumestream.errors import ResumeStreamError
from resumestream.live import Live, Windows
from resumestream.model import NewStream, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.ports import LogStore
from resumestream.stores import FileStore, MemoryStore, SQLiteStore
from resumestream.tail import Tail
from resumestream.testing import check_log_store

from .. import store_model
from ..store_model import Clock, StoreModel, run_model
from . import appends, files, keeping, owners

Kind = type[MemoryStore] | type[SQLiteStore] | type[FileStore]
FAULTS: tuple[Kind, ...] = (*appends.FAULTS, *owners.FAULTS, *keeping.FAULTS, *files.FAULTS)
EXAMPLES = 30


def opened(kind: Kind, place: Path, clock: Clock | None = None) -> LogStore:
    if issubclass(kind, MemoryStore):
        return kind(clock=clock)
    return kind(place / "store", policy=Policy(), serving=True, clock=clock)


def suite(kind: Kind, folder: Path) -> None:
    memory = opened(kind, folder) if issubclass(kind, MemoryStore) else None
    anyio.run(check_log_store, lambda: memory or opened(kind, folder))


def model(kind: Kind, folder: Path) -> None:
    durable = not issubclass(kind, MemoryStore)
    make = partial(opened, kind)
    run_model(make, "asyncio", crashes=durable, examples=EXAMPLES, shrink=False)


def complaint(check: Callable[[Kind, Path], None], kind: Kind, folder: Path) -> str | None:
    """What the check says of a store; None: it found nothing."""
    try:
        check(kind, folder)
    except (AssertionError, ResumeStreamError, pytest.fail.Exception) as error:
        return f"{check.__name__}: {sentence(error)}"
    return None


def sentence(error: BaseException) -> str:
    """An error's own; of the state machine, what the rule that failed says of itself, and the line."""
    if isinstance(error, AssertionError) and str(error):
        return str(error).partition("\n")[0]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == store_model.__file__]
    docs = [getattr(getattr(StoreModel, frame.name, None), "__doc__", None) for frame in frames]
    rule = next((doc for doc in docs if doc), "no rule")
    return f"{rule} {frames[-1].line if frames else ''} ({type(error).__name__} {error})"


def test_every_fault_says_what_it_is() -> None:
    """And there are enough of them."""
    assert len({kind.__name__ for kind in FAULTS}) == len(FAULTS) >= 16
    assert all(kind.__doc__ for kind in FAULTS)


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_a_fault_is_caught(kind: Kind, tmp_path: Path) -> None:
    """By the suite, or else by the state machine."""
    said = complaint(suite, kind, tmp_path) or complaint(model, kind, tmp_path)
    assert said, f"nobody notices: {kind.__doc__}"
    print(f"\n  {kind.__doc__}\n    {said[:200]}")


@pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore, FileStore])
def test_without_a_fault_nothing_is_caught(kind: Kind, tmp_path: Path) -> None:
    """So it was the faults. Those of the filesystem store need no histories to be caught."""
    assert complaint(suite, kind, tmp_path) is None
    if kind is not FileStore:
        assert complaint(model, kind, tmp_path) is None


async def tails_are_woken() -> None:
    """Ten appends, each after the tail began to wait for it."""
    store = MemoryStore()
    new = NewStream(StreamId("s"), "p", "u", "w", 0.0, 60.0, 60.0)
    live = Live(StreamInfo(new), Windows(1024), found=True)
    tail, received, counts = Tail(store, new.id, 0, live=live), bytearray(), list[int]()

    async def read() -> None:
        while True:
            received.extend((await tail.receive()).data)

    lease = await store.create(new)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        for number in range(10):
            await store.append(lease, number, b"x")
            live.logged(b"x", 0)
            await anyio.wait_all_tasks_blocked()
            counts.append(len(received))
        tasks.cancel_scope.cancel()
    assert counts == list(range(1, 11)), "a tail that waits is woken by each append"


def never_set(live: Live) -> None:
    live._changed = anyio.Event()


def set_too_late(live: Live) -> None:
    live._changed = anyio.Event()
    live._changed.set()


@pytest.mark.parametrize("ring", [never_set, set_too_late])
def test_a_lost_wake_up_is_caught(
    ring: Callable[[Live], None], anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tail that nobody wakes waits, and is missed."""
    anyio.run(tails_are_woken, backend=anyio_backend)
    monkeypatch.setattr(Live, "ring", ring)
    with pytest.raises(AssertionError, match="is woken by each append"):
        anyio.run(tails_are_woken, backend=anyio_backend)
