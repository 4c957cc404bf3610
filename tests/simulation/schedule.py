"""What happens in one simulation, drawn from its seed before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from random import Random

from .provider import CHAT, EVENTLESS, PLAIN, STATUSES, WAYS, Script
from .store import FAILURES, Trouble
from .ticks import TICK_S, ticks

NODES = ("a", "b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that somebody does. `node`: where it is asked, or what it happens to."""

    at_s: float
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Post(Act):
    """A caller. One with a key that is cut or refused comes again; `consents`: also to pay again."""

    turn: str
    leave_s: float
    slow_s: float
    consents: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Get(Act):
    """A reader, from part `of_tail` of what there is; not `live`: what is there, and no more."""

    turn: str
    leave_s: float
    slow_s: float
    of_tail: float
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Act):
    turn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Act):
    turn: str
    forget: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill(Act):
    """The process is gone at once, and back after a while."""

    down_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart(Act):
    """An orderly end."""

    down_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze(Act):
    for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPlan:
    """What callers of one key want. `scripts`: of its calls in their order, the last one also of all further."""

    name: str
    keyed: bool
    on_disconnect: str
    dialect: str
    scripts: tuple[Script, ...]
    fallback: bool
    retries: int
    segments: bool
    """Whether a call that broke in the middle is followed by one to the fallback."""
    keyed_calls: bool
    """Whether the provider takes the same key for the same call: what it has not answered may be made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    seed: int
    nodes: tuple[str, ...]
    turns: tuple[TurnPlan, ...]
    acts: tuple[Act, ...]
    trouble: Trouble | None
    slow: float
    lossy: float
    resumable: bool
    """Whether the provider's calls can be gone on with after a takeover."""
    retain_s: float
    window_bytes: int
    max_stream_bytes: int

    def __str__(self) -> str:
        acts = sorted(self.acts, key=lambda act: act.at_s)
        shown = (field.name for field in fields(self) if field.name not in ("turns", "acts"))
        head = ", ".join(f"{name}={getattr(self, name)}" for name in shown)
        return "\n".join((head, *map(str, self.turns), *map(str, acts)))


def draw(seed: int) -> Schedule:
    rng = Random(f"schedule {seed}")

    def chance(share: float) -> bool:
        return rng.random() < share

    nodes = NODES if chance(0.5) else NODES[:1]

    def when(most_s: float = 1.0) -> float:
        return ticks(rng, most_s * rng.random())

    def leave_s() -> float:
        return ticks(rng, 0.6) if chance(0.25) else math.inf

    def slow_s() -> float:
        return ticks(rng, 0.2) if chance(0.2) else 0.0

    turns, acts = list[TurnPlan](), list[Act]()
    for name in ("t1", "t2", "t3")[: rng.choice((1, 1, 1, 2, 2, 3))]:
        turn = _turn(name, rng)
        turns.append(turn)
        for _ in range(rng.choice((1, 1, 2, 3)) if turn.keyed else 1):
            acts.append(
                Post(
                    turn=name,
                    at_s=when(0.6),
                    node=rng.choice(nodes),
                    leave_s=leave_s(),
                    slow_s=slow_s(),
                    consents=turn.keyed and chance(0.2),
                )
            )
        for _ in range(rng.choice((0, 1, 1, 2))):
            acts.append(
                Get(
                    turn=name,
                    at_s=when(),
                    node=rng.choice(nodes),
                    leave_s=leave_s(),
                    slow_s=slow_s(),
                    of_tail=rng.choice((0.0, rng.random(), 1.0)),
                    live=chance(0.8),
                )
            )
        if chance(0.1):
            acts.append(Cancel(turn=name, at_s=when(), node=rng.choice(nodes)))
        if chance(0.08):
            acts.append(Delete(turn=name, at_s=when(1.5), node=rng.choice(nodes), forget=chance(0.3)))
    if chance(0.2):
        acts.append(Kill(at_s=when(), node=rng.choice(nodes), down_s=rng.choice((TICK_S, 0.25, 1.0))))
    if chance(0.06):
        acts.append(Restart(at_s=when(), node=rng.choice(nodes), down_s=TICK_S))
    if len(nodes) > 1 and chance(0.2):
        acts.append(Freeze(at_s=when(0.75), node=rng.choice(nodes), for_s=rng.choice((0.25, 2.0, 2.0))))
    trouble = None
    if chance(0.2):
        begins_s = when()
        trouble = Trouble(rng.choice(list(FAILURES)), begins_s, begins_s + ticks(rng, 0.5), rng.choice((0.3, 1.0)))
    return Schedule(
        seed=seed,
        nodes=nodes,
        turns=tuple(turns),
        acts=tuple(acts),
        trouble=trouble,
        slow=rng.choice((0.2, 0.5, 1.0)),
        lossy=rng.choice((0.0, 0.0, 0.3, 1.0)),
        resumable=chance(0.3),
        retain_s=0.5 if chance(0.05) else 60.0,
        window_bytes=rng.choice((1 << 20, 300, 1)),
        max_stream_bytes=rng.choice((60, 200, 400)) if chance(0.08) else 1 << 20,
    )


def _turn(name: str, rng: Random) -> TurnPlan:
    dialect = CHAT if rng.random() < 0.85 else PLAIN
    ways = [way for way in WAYS if dialect == CHAT or way in EVENTLESS]
    scripts = list[Script]()
    while len(scripts) < 4:
        piece_bytes = rng.choice((20, 100, 1000))
        scripts.append(
            Script(
                way="whole" if rng.random() < 0.4 else rng.choice(ways),
                dialect=dialect,
                text=f"{name}.{len(scripts)}",
                events=rng.randint(0 if dialect == CHAT else 1, 6),
                at=rng.choice((0.0, 1.0, rng.random(), rng.random())),
                head_s=rng.choice((0.0, 0.25)),
                pace_s=rng.choice((0.0, 0.125, 0.25) if piece_bytes > 20 else (0.0, TICK_S, 2 * TICK_S)),
                piece_bytes=piece_bytes,
                crlf=rng.random() < 0.2,
                status=rng.choice(STATUSES),
            )
        )
        if rng.random() < 0.5:
            break
    fallback = rng.random() < 0.35
    keyed = rng.random() < 0.8
    return TurnPlan(
        name=name,
        keyed=keyed,
        on_disconnect=rng.choice(("continue", "continue", "cancel", "grace:0.25")),
        dialect=dialect,
        scripts=tuple(scripts),
        fallback=fallback,
        retries=rng.choice((0, 0, 1)),
        segments=fallback and rng.random() < 0.6,
        keyed_calls=rng.random() < 0.3,
    )
