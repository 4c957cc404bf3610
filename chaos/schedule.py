"""One random scenario as text, `sqlite-asyncio,hold.20,fin.40,kill.1,start.1`; the same text is what replays it.

The caller's stream is drained by worker 1; whatever happens, in the end all faults are undone and the key is asked for
once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .actions import Held, Post, Script, Until
from .history import Bounds, Turn
from .moves import LEASE_S, MOVES, WORKERS, State, feasible
from .scenario import Scenario
from .server import CONFIGURATIONS, Configuration, Options
from .stage import UPSTREAM

TOKENS = 60
MOST_MOVES = 10
BOUNDS = Bounds(silence_s=30, settle_s=30)
"""They hold on a busy machine, all moves included."""
SHARED = {str(chosen): chosen for chosen in CONFIGURATIONS if chosen.store != "memory"}
"""Two workers need a store that both can open."""

BEGINNINGS = [f"hold.{event}" for event in (1, 10, 20)]
FAULTS = ["none", *(f"{fault}.{event}" for fault in ("fin", "rst", "clean") for event in (21, 55))]


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
        match text.split(","):
            case [name, beginning, fault, *moves] if (
                name in SHARED and beginning in BEGINNINGS and fault in FAULTS and {*moves} <= {*MOVES}
            ):
                return cls(SHARED[name], beginning, fault, tuple(moves))
        raise ValueError(f"not a schedule: {text!r}; one looks like sqlite-asyncio,hold.20,none,kill.1")

    def scenario(self) -> Scenario:
        """With what may come of it."""
        state = State()
        made = [(move, action) for move in self.moves if (action := state.act(move)) is not None]
        names = {name for name, _ in made}
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


def drawn(random: Random) -> Schedule:
    """One by chance alone, for a soak: nothing shrinks it."""
    moves = feasible(random.choices(MOVES, k=random.randint(2, MOST_MOVES)))
    return Schedule(random.choice(list(SHARED.values())), random.choice(BEGINNINGS), random.choice(FAULTS), moves)
