"""What a random schedule is made of: moves, which are text, and what each comes to on a stage that has seen some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .actions import (
    Action,
    Arm,
    Cancel,
    Cut,
    CutAfter,
    Freeze,
    Heal,
    Kill,
    Leave,
    Mend,
    Pass,
    Post,
    Read,
    Release,
    Stall,
    Start,
    Thaw,
    Trickle,
)
from .stage import UPSTREAM

LEASE_S = 1.0
WORKERS = (1, 2)
MOST_RESTS = 3
DURING_A_STALL = {"again", "tab", "follow", "freeze", "thaw", "rest", "heal"}
"""What ends a connection does not: toxiproxy hangs when a toxic is taken off a link that ended meanwhile."""
LINKS = (UPSTREAM, *(f"worker-{number}" for number in WORKERS))
SIZES = (1, 100, 1000, 5000)

MOVES = [
    *(f"{verb}.{worker}" for verb in ("again", "tab", "follow") for worker in WORKERS),
    "leave.caller",
    "leave.last",
    "release.all",
    *(f"{verb}.{link}" for verb in ("cut", "mend", "stall", "heal", "arm", "trickle") for link in LINKS),
    *(f"limit.{link}.{size}" for link in LINKS for size in SIZES),
    *(f"{verb}.{worker}" for verb in ("freeze", "thaw", "kill", "start") for worker in WORKERS),
    f"rest.{2 * LEASE_S}",
    *(f"cancel.{worker}" for worker in WORKERS),
]
"""The less it disturbs, the earlier: a failure shrinks to what comes first."""


@dataclass(slots=True)
class State:
    """What a stage is like after some moves, as far as the next one depends on it."""

    up: dict[int, str] = field(default_factory=lambda: dict.fromkeys(WORKERS, "up"))
    on: set[str] = field(default_factory=set)
    """`verb.link` of every fault in the network that lasts."""
    readers: list[str] = field(default_factory=lambda: ["caller"])
    left: set[str] = field(default_factory=set)
    rests: int = 0

    def act(self, move: str) -> Action | None:
        """What that move is now; None where it cannot be made."""
        verb, _, what = move.partition(".")
        if verb not in DURING_A_STALL and any(fault.startswith("stall.") for fault in self.on):
            return None
        if verb in ("freeze", "thaw", "kill", "start", "cancel", "again", "tab", "follow"):
            return self._at_worker(verb, int(what))
        if verb == "leave":
            label = self.readers[-1] if what == "last" else what
            if label in self.left:
                return None
            self.left.add(label)
            return Leave(label)
        if verb == "release":
            return Release()
        if verb == "rest":
            self.rests += 1
            return Pass(float(what)) if self.rests <= MOST_RESTS else None
        return self._on_link(verb, what)

    def _at_worker(self, verb: str, worker: int) -> Action | None:
        was = self.up[worker]
        changes: dict[str, tuple[tuple[str, ...], str, Callable[[int], Action]]] = {
            "freeze": (("up",), "frozen", Freeze),
            "thaw": (("frozen",), "up", Thaw),
            "kill": (("up", "frozen"), "dead", Kill),
            "start": (("dead",), "up", Start),
        }
        if verb in changes:
            before, after, action = changes[verb]
            if was not in before:
                return None
            self.up[worker] = after
            return action(worker)
        if was != "up":
            return None
        if verb == "cancel":
            return Cancel(worker=worker)
        label = f"{verb}-{len(self.readers)}"
        self.readers.append(label)
        if verb == "again":
            return Post(turn="turn", label=label, worker=worker)
        if verb == "tab":
            return Read(label=label, worker=worker, form="events")
        return Read(label=label, worker=worker, offset="here")

    def _on_link(self, verb: str, what: str) -> Action | None:
        link, _, size = what.partition(".")
        undone = {"mend": "cut", "heal": "stall"}.get(verb)
        if undone:
            if f"{undone}.{link}" not in self.on:
                return None
            self.on.remove(f"{undone}.{link}")
            return Mend(link) if verb == "mend" else Heal(link)
        if f"{verb}.{link}" in self.on:
            return None
        if verb == "stall" and f"cut.{link}" in self.on:
            return None
        self.on.add(f"{verb}.{link}")
        if verb == "limit":
            return CutAfter(link, int(size))
        actions: dict[str, Callable[[str], Action]] = {"cut": Cut, "stall": Stall, "arm": Arm, "trickle": Trickle}
        return actions[verb](link)

    def undone(self) -> Iterator[Action]:
        """All faults that can be undone, and one more caller."""
        for fault in sorted(self.on):
            verb, _, link = fault.partition(".")
            if verb in ("cut", "stall"):
                yield Mend(link) if verb == "cut" else Heal(link)
        for worker, how in self.up.items():
            if how != "up":
                yield Thaw(worker) if how == "frozen" else Start(worker)
        yield Post(turn="turn", label="at last", worker=2)
        yield Release()


def feasible(moves: Sequence[str]) -> tuple[str, ...]:
    """Without those that cannot be made where they stand."""
    state = State()
    return tuple(move for move in moves if state.act(move) is not None)
