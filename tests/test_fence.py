"""No byte that anybody saw is lost to a takeover, and none comes after it: the orders of the steps of an owner, its
takers and a reader, each taken through the real store."""

from __future__ import annotations

import itertools
import random
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from resumestream.errors import LeaseLost, OffsetBeyondTail, StoreBusy, StoreError
from resumestream.model import Lease, NewStream, Outcome, Seal, StreamId
from resumestream.policy import Policy
from resumestream.stores.files import extents, takeover, view
from resumestream.stores.files.disk import place

from .stepped import Actor, Stepped, SteppedDisk

SEEN, LATE = b"seen.", b"much too late!"
TAKEN = {1: b"first", 2: b"other"}
PAYLOAD = b"seen[.](much too late!)?(first)?(other)?"
OWNER = ("written", "checked")
TAKER = ("bumped", "fenced", "scanned")
READER = ("marked", "looked")
Make = Callable[[Path], Stepped]


class Lost(AssertionError):
    """A promise is broken."""


class House:
    """An owner, two takers and a reader, each with a handle of its own to one store."""

    def __init__(self, directory: Path, backend: str, kinds: Sequence[type[Stepped]]) -> None:
        self._stack = ExitStack()
        self.stores: list[Stepped] = []
        self._portals: list[BlockingPortal] = []
        for kind in kinds:
            disk = SteppedDisk()
            store = kind(directory, policy=Policy(), serving=True, disk=disk)
            disk.store = store
            portal = self._stack.enter_context(start_blocking_portal(backend))
            self._stack.enter_context(portal.wrap_async_context_manager(store))
            self.stores.append(store)
            self._portals.append(portal)

    def close(self) -> None:
        self._stack.close()

    def call(self, number: int, method: str, *args: Any, **named: Any) -> Any:
        async def call() -> Any:
            return await getattr(self.stores[number], method)(*args, **named)

        return self._portals[number].call(call)


class Case:
    """One stream, of which everybody has seen a part when its owner appends more while others take it over."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.stream = StreamId(secrets.token_urlsafe(16))
        self.told, self.delivered = 0, b""
        self.appended: dict[int, int] = {}
        """Where takers went on."""
        self.lease: Lease = house.call(0, "create", NewStream(self.stream, "p", "u", "w", 0.0, 60, 60))
        house.call(0, "append", self.lease, 0, SEEN)
        self.look()

    def look(self) -> None:
        """A reader goes on from what it has."""
        try:
            tail = self.house.call(3, "stat", self.stream).tail
            if tail < self.told:
                raise Lost(f"the tail went back from {self.told} to {tail}")
            self.told = tail
            while len(self.delivered) < tail:
                self.delivered += self.house.call(3, "read", self.stream, len(self.delivered), 1 << 16)
        except StoreBusy:
            pass
        except OffsetBeyondTail as error:
            raise Lost("a tail was told that is not there") from error

    def owner(self) -> Actor:
        return Actor(self.house.stores[0], lambda: self.house.call(0, "append", self.lease, len(SEEN), LATE), *OWNER)

    def taker(self, number: int, after: int) -> Actor:
        def take() -> Lease:
            store = self.house.stores[number]
            lease: Lease = self.house.call(number, "acquire", self.stream, f"taker{number}", after=after)
            self.appended[number] = tail = store._held[self.stream].tail
            self.house.call(number, "append", lease, tail, TAKEN[number])
            return lease

        return Actor(self.house.stores[number], take, *TAKER)

    def reader(self) -> Actor:
        return Actor(self.house.stores[3], self.look, *READER)

    def run(self, actors: Sequence[Actor], order: Sequence[int], *, look: bool) -> None:
        """Take the steps in this order, then end the stream and see what it has become."""
        for number in order:
            actors[number].step()
            if look:
                self.look()
        for actor in actors:
            actor.finish()
            if isinstance(actor.error, AssertionError) or not isinstance(actor.error, StoreError | None):
                raise actor.error
        self.check(actors)

    def check(self, actors: Sequence[Actor]) -> None:
        takers = [(number, actor) for number, actor in enumerate(actors[1:3], 1) if actor.result]
        number, last = max(takers, key=lambda found: found[1].result.epoch)
        sealed = self.house.call(number, "seal", last.result, Seal(Outcome.INTERRUPTED, "died", "It died."))
        self.look()
        payload = b""
        while data := self.house.call(3, "read", self.stream, len(payload), 1 << 16):
            payload += data
        if len(payload) != sealed.tail or not re.fullmatch(PAYLOAD, payload):
            raise Lost(f"the payload is {payload!r}, its tail {sealed.tail}")
        if not payload.startswith(self.delivered):
            raise Lost(f"{self.delivered!r} was delivered, and the payload is {payload!r}")
        for number, _ in takers:
            if not payload[self.appended[number] :].startswith(TAKEN[number]):
                raise Lost(f"taker {number} appended at {self.appended[number]}, and the payload is {payload!r}")
        owner = actors[0]
        if owner.error is None and payload[owner.result - len(LATE) : owner.result] != LATE:
            raise Lost(f"an append was acknowledged at {owner.result}, and the payload is {payload!r}")
        if owner.error is not None and not isinstance(owner.error, LeaseLost):
            raise owner.error


def orders(*steps: int) -> Iterator[tuple[int, ...]]:
    """All orders in which actors, each with so many steps, can take them."""
    tokens = [number for number, count in enumerate(steps) for _ in range(count)]
    yield from sorted(set(itertools.permutations(tokens))) if len(tokens) < 9 else ()


def shuffled(count: int, *steps: int) -> Iterator[tuple[int, ...]]:
    chance = random.Random(4)
    tokens = [number for number, many in enumerate(steps) for _ in range(many)]
    for _ in range(count):
        chance.shuffle(tokens)
        yield tuple(tokens)


@contextmanager
def house(tmp_path: Path, backend: str, *kinds: type[Stepped]) -> Iterator[House]:
    made = House(tmp_path / "store", backend, [*kinds, *[Stepped] * (4 - len(kinds))])
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "SETTLE_S", 0)


def every_order(house: House) -> None:
    """Owner and one taker, a reader looking after every step."""
    for order in orders(3, 4):
        case = Case(house)
        case.run([case.owner(), case.taker(1, 1)], order, look=True)


def paused_reader(house: House, count: int = 150) -> None:
    """Owner, one taker, and a reader that stops between the mark and the catalog."""
    stops_behind_its_looks = (2, 2, 1, 1, 1, 0, 2, 1, 0, 0)
    for order in (stops_behind_its_looks, *shuffled(count, 3, 4, 3)):
        case = Case(house)
        actors = [case.owner(), case.taker(1, 1), case.reader()]
        for number in order:
            actors[number].step()
        actors[2].finish()
        if actors[2].error:
            raise actors[2].error
        case.run(actors[:2], (), look=False)


def two_takers(house: House, count: int = 100) -> None:
    """The second takes over from the first, wherever that has come to."""
    for order in shuffled(count, 3, 4, 4):
        case = Case(house)
        first = case.taker(1, 1)
        first.step()  # past its bump, or the second has nothing to take from
        case.run([case.owner(), first, case.taker(2, 2)], order, look=True)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("schedule", [every_order, paused_reader, two_takers])
def test_every_order_keeps_the_promises(tmp_path: Path, backend: str, schedule: Callable[[House], None]) -> None:
    """What was delivered or acknowledged is in the end payload, and nothing else than what was appended."""
    with house(tmp_path, backend) as made:
        schedule(made)


class NoPostCheck(Stepped):
    """Never looks whether it was fenced off."""

    def _open(self) -> Any:
        conn = super()._open()
        assert self._ticks
        get = self._ticks._page.get
        self._ticks._page.get = lambda name: get(name) and 0 if name == "fences" else get(name)  # type: ignore[method-assign]
        return conn


class CheckThenWrite(Stepped):
    """Looks whether it was fenced off before it writes."""

    def _open(self) -> Any:
        conn = super()._open()
        assert self._ticks
        ticks = self._ticks
        write, before = ticks._write, list[bool]()

        def check_then_write(appends: Any) -> None:
            before[:] = [ticks._page._page.get("fences") != ticks._fences]  # type: ignore[attr-defined]
            self.pause("checked")
            write(appends)

        ticks._write = check_then_write  # type: ignore[method-assign]
        get = ticks._page._page.get  # type: ignore[attr-defined]
        ticks._page.get = lambda name: (  # type: ignore[method-assign]
            ticks._fences if name == "fences" and before != [True] else get(name)
        )
        return conn


class ScanThenBump(Stepped):
    """Looks what was written before it bumps the epoch."""

    async def _take(self, stream: StreamId, rule: Any) -> Any:
        def look(conn: Any) -> Any:
            (row,) = conn.execute("SELECT row FROM stream WHERE id = ?", (stream,)).fetchone()
            return takeover.reached(self._files, extents.of(conn, row))

        self._found = await self._read(look)
        return await super()._take(stream, rule)

    def _reach(self, lower: Any) -> takeover.Reach:
        super()._reach(lower)
        found: takeover.Reach = self._found
        return found


class ByFileLength(Stepped):
    """A reader that takes for visible whatever is in the file."""

    def _open(self) -> Any:
        conn = super()._open()
        mark = self._files.trails.mark
        self._files.trails.mark = lambda worker: max(mark(worker), place(9, 0))  # type: ignore[method-assign]
        return conn


class IgnoresBase(Stepped):
    """A taker that does not go by what the one before it found."""

    def _reach(self, lower: Any) -> takeover.Reach:
        super()._reach(lower[:1])
        return takeover.reached(self._files, lower[:1])


WRONG: list[tuple[int, type[Stepped], Callable[[House], None]]] = [
    (0, NoPostCheck, every_order),
    (0, CheckThenWrite, every_order),
    (1, ScanThenBump, every_order),
    (3, ByFileLength, paused_reader),
    (2, IgnoresBase, two_takers),
]


@pytest.mark.parametrize(("who", "kind", "schedule"), WRONG, ids=[kind.__name__ for _, kind, _ in WRONG])
def test_a_wrong_order_breaks_them(
    tmp_path: Path, who: int, kind: type[Stepped], schedule: Callable[[House], None]
) -> None:
    """The checks can fail: each wrong way to do it is found out."""
    kinds = [kind if number == who else Stepped for number in range(4)]
    with house(tmp_path, "asyncio", *kinds) as made, pytest.raises(Lost):
        schedule(made)
