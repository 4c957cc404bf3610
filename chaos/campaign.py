"""Random fault schedules: Hypothesis draws moves, what cannot be done is left out, and a failure shrinks to a line.

A schedule is text, `sqlite-asyncio,hold.20,fin.40,kill.1,start.1`, and the same text is what replays it. The caller's
stream is drained by worker 1; whatever happens, in the end all faults are undone and the key is asked for once more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .actions import (
    Action,
    Arm,
    Cancel,
    Cut,
    CutAfter,
    Freeze,
    Heal,
    Held,
    Kill,
    Leave,
    Mend,
    Post,
    Read,
    Release,
    Script,
    Stall,
    Start,
    Thaw,
    Trickle,
    Until,
)
from .history import Bounds, Turn
from .scenario import Scenario, Verdict
from .server import CONFIGURATIONS, Configuration, Options
from .stage import UPSTREAM
from .waits import Pass

TOKENS = 60
LEASE_S = 1.0
WORKERS = (1, 2)
MOST_MOVES = 10
MOST_RESTS = 3
DURING_A_STALL = {"again", "tab", "follow", "freeze", "thaw", "rest", "heal"}
"""What ends a connection does not: toxiproxy hangs when a toxic is taken off a link that ended meanwhile."""
BOUNDS = Bounds(silence_s=30, settle_s=30)
"""They hold on a busy machine, all moves included."""
LINKS = (UPSTREAM, *(f"worker-{number}" for number in WORKERS))
SIZES = (1, 100, 1000, 5000)
SHARED = {str(chosen): chosen for chosen in CONFIGURATIONS if chosen.store != "memory"}
"""Two workers need a store that both can open."""

BEGINNINGS = [f"hold.{event}" for event in (1, 10, 20)]
FAULTS = ["none", *(f"{fault}.{event}" for fault in ("fin", "rst", "clean") for event in (21, 55))]
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


@dataclass(frozen=True, slots=True)
class Schedule:
    """A value that says all of it: `str` of it is read by `parse`."""

    configuration: Configuration
    beginning: str
    fault: str
    moves: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join((str(self.configuration), self.beginning, self.fault, *self.moves))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Raises ValueError."""
        name, beginning, fault, *moves = [*text.split(","), "", ""][: max(3, text.count(",") + 1)]
        unknown = [move for move in moves if move not in MOVES]
        if name not in SHARED or beginning not in BEGINNINGS or fault not in FAULTS or unknown:
            raise ValueError(f"not a schedule: {text!r}; one looks like {name or 'sqlite-asyncio'},hold.20,none,kill.1")
        return cls(SHARED[name], beginning, fault, tuple(moves))

    def scenario(self) -> Scenario:
        """With what may come of it."""
        state = State()
        made = [(move, action) for move in self.moves if (action := state.act(move)) is not None]
        names = {name.removesuffix(".0") for name, _ in made}
        verbs = {name.partition(".")[0] for name in names}
        cut_off = any(name.startswith((f"cut.{UPSTREAM}", f"limit.{UPSTREAM}")) for name in names)
        lost = bool({"kill.1", "freeze.1"} & names)
        outcomes = {"completed"}
        outcomes |= {"truncated"} if cut_off or self.fault != "none" else set()
        outcomes |= {"interrupted"} if lost else set()
        outcomes |= {"cancelled"} if "cancel" in verbs else set()
        stoppable = cut_off or lost or "cancel" in verbs
        hold = int(self.beginning.partition(".")[2])
        fault, _, event = self.fault.partition(".")
        broken = {"fault": fault, "at_event": int(event)} if event else {}
        return Scenario(
            name=str(self),
            what="Drawn at random.",
            turns=(Turn(name="turn", outcomes=frozenset(outcomes), stoppable=stoppable),),
            workers=len(WORKERS),
            options=Options(policy={"lease_s": LEASE_S}),
            bounds=BOUNDS,
            steps=(
                Script({"tokens": TOKENS, "hold_at": hold, **broken}),
                Post(turn="turn"),
                Until("caller", 1),
                Held(),
                *(action for _, action in made),
                *state.undone(),
            ),
        )


def feasible(moves: Sequence[str]) -> tuple[str, ...]:
    """Without those that cannot be made where they stand."""
    state = State()
    return tuple(move for move in moves if state.act(move) is not None)


SCHEDULES = st.builds(
    Schedule,
    st.sampled_from(list(SHARED.values())),
    st.sampled_from(BEGINNINGS),
    st.sampled_from(FAULTS),
    st.lists(st.sampled_from(MOVES), min_size=2, max_size=MOST_MOVES).map(feasible),
)


def drawn(random: Random) -> Schedule:
    """One by chance alone, for a soak: nothing shrinks it."""
    moves = feasible(random.choices(MOVES, k=random.randint(2, MOST_MOVES)))
    return Schedule(random.choice(list(SHARED.values())), random.choice(BEGINNINGS), random.choice(FAULTS), moves)


class _Failed(Exception):
    """The schedule did not hold."""


class _Over(BaseException):
    """The time is. No Exception, which Hypothesis would take for a failure of the schedule."""


def campaign(
    number: int,
    *,
    examples: int,
    within_s: float,
    perform: Callable[[str], Verdict],
) -> Verdict | None:
    """Draw schedules from seed `number`, so many, or for so long, until one does not hold; `perform` plays its text.
    The failing one's verdict, as small as it could be made in that time again; None: all held."""
    seen: dict[str, Verdict] = {}
    failing: dict[str, Schedule] = {}
    ends_s = time.monotonic() + within_s

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck(each) for each in HealthCheck],
    )
    @given(SCHEDULES)
    def each(schedule: Schedule) -> None:
        nonlocal ends_s
        name = str(schedule)
        if name not in seen:
            if time.monotonic() > ends_s:
                raise _Over
            seen[name] = perform(name)
            if not seen[name].held:
                if not failing:
                    ends_s = time.monotonic() + within_s
                failing[name] = schedule
        if name in failing:  # the same answer for the same schedule, or Hypothesis would call it flaky
            raise _Failed

    with contextlib.suppress(_Failed, _Over):
        each()
    smallest = min(failing, key=lambda name: (len(failing[name].moves), len(name)), default=None)
    return seen[smallest] if smallest else None
