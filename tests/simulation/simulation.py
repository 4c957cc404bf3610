"""One schedule, played and judged."""

from __future__ import annotations

import hashlib
import logging
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import trio
from trio._core import _run as scheduler
from trio.testing import MockClock

from chaos.checker import Violation, check
from chaos.history import Bounds, End, History, Record
from chaos.history import Turn as Wanted
from resumestream import recovery
from resumestream.errors import ResumeStreamError
from resumestream.model import StreamId, StreamInfo

from .provider import OVERFLOW, STALLED
from .schedule import Cancel, Delete, Freeze, Kill, Post, Restart, Schedule, draw
from .visit import Visit
from .world import Turn, World

HORIZON_S = 30
"""When everybody has long been done."""
SETTLE_S = 8
"""How long the last streams may take after that."""
AT_ONCE = 2
"""Streams that recovery ends side by side: all the tasks that it starts for it are most of what a start costs."""
BOUNDS = Bounds(silence_s=6, settle_s=5)


@dataclass(slots=True)
class Played:
    """What came of one schedule. `violations` empty: all held."""

    schedule: Schedule
    world: World
    history: History
    violations: list[Violation]

    @property
    def trace(self) -> str:
        return "\n".join(f"{at_s:9.4f}  {who:14}  {what}" for at_s, who, what in self.world.trace)

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.trace.encode()).hexdigest()

    def __str__(self) -> str:
        told = "\n".join(f"  {violation}" for violation in self.violations)
        seed = self.schedule.seed
        return f"seed {seed}: {told or 'all held'}\n  replay: python -m tests.simulation {seed}"


def play(seed: int) -> Played:
    """Play the schedule of that seed. The same seed plays the same, on the same versions of Python and trio."""
    world = World(draw(seed))
    history = History(bounds=BOUNDS)
    broken: list[Violation] = []
    with _deterministic(seed), _listening(broken), patch.object(recovery, "AT_ONCE", AT_ONCE):
        try:
            trio.run(_run, world, history, clock=MockClock(autojump_threshold=0))
        except (Exception, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt):
                raise
            broken.append(Violation("broken", "".join(traceback.format_exception(error))))
    return Played(world.schedule, world, history, [*broken, *check(history), *_served(world.schedule, history)])


async def _run(world: World, history: History) -> None:
    schedule = world.schedule
    async with trio.open_nursery() as processes:
        processes.cancel_scope.deadline = 3 * HORIZON_S
        for node in world.nodes.values():
            processes.start_soon(node.run)
        for node in world.nodes.values():
            await node.up.wait()
        with trio.move_on_after(HORIZON_S):
            async with trio.open_nursery() as actors:
                for act in schedule.acts:
                    actors.start_soon(world.act, act)
        if schedule.trouble:
            await trio.sleep(max(0, schedule.trouble.ends_s - trio.current_time()))
        with trio.move_on_after(SETTLE_S):
            while await world.log.core.unsealed():  # noqa: ASYNC110
                await trio.sleep(0.125)
        with trio.move_on_after(SETTLE_S):
            await _observe(world, history)
        for node in world.nodes.values():
            node.kill(SETTLE_S)
        processes.cancel_scope.cancel()
    history.reads = world.reads
    history.calls = world.ledger.history()
    known = {record.turn for record in history.records}
    history.turns = [
        wanted if wanted.name in known else replace(wanted, outcomes=frozenset())
        for wanted in (_wanted(world, turn) for turn in world.turns.values())
    ]


async def _observe(world: World, history: History) -> None:
    """What the store has, and what each node says of it: to a late reader, and of the record."""
    core = world.log.core
    world.log.slow = 0
    for stream in core.seen():
        if stream in core.first:
            history.records.append(_record(*core.first[stream], "the store at the seal"))
        record = _record(*core.now_of(stream), "the store")
        history.records.append(replace(record, sealed_after_s=_sealed_after_s(world, stream)))
    for node in world.nodes.values():
        for stream in core.seen():
            await _asked(world, history, node.name, stream)


def _sealed_after_s(world: World, stream: StreamId) -> float | None:
    """From the death of its process to its seal."""
    core = world.log.core
    seal, (owner, _, _) = core.now_of(stream)[0].seal, core.leased[stream][0].partition(".")
    hit_s = world.nodes[owner].hit_s
    return seal.sealed_at - hit_s if seal and seal.detail == "process_died" and hit_s is not None else None


async def _asked(world: World, history: History, name: str, stream: StreamId) -> None:
    node, (kept, payload) = world.nodes[name], world.log.core.now_of(stream)
    try:
        info = await (await node.serving()).stat(stream)
    except ResumeStreamError:
        return
    if info.gone:
        return
    history.records.append(_record(info, payload, name))
    for segment in range(1, kept.segment + 1):
        visit = Visit(f"late reader at {name}", kept.new.labels[0], slow_s=0)
        visit.stream = stream
        await world.visit(node, visit, SETTLE_S, lambda hub, to=visit, of=segment: to.read(hub, of, 0))


def _record(info: StreamInfo, payload: bytes, asked: str) -> Record:
    ends = [*(segment.end for segment in info.ended), info.tail]
    begins = [0, *ends]
    return Record(
        stream=info.id,
        turn=info.new.labels[0],
        asked=asked,
        state="sealed" if info.sealed else str(info.state),
        outcome=str(info.seal.outcome) if info.seal else "",
        detail=info.seal.detail if info.seal else "",
        payload={
            number: payload[begin : len(payload) if number == len(ends) else end]
            for number, (begin, end) in enumerate(zip(begins, ends, strict=False), 1)
        },
    )


def _wanted(world: World, turn: Turn) -> Wanted:
    """What may come of a turn under what this schedule does."""
    schedule, plan, acts = world.schedule, turn.plan, world.schedule.acts
    stopped = any(isinstance(act, Cancel | Delete) and act.turn == plan.name for act in acts)
    left = plan.on_disconnect != "continue" or not plan.keyed
    hit = {act.node for act in acts if isinstance(act, Kill | Restart | Freeze)}
    died = schedule.trouble is not None or bool(hit & _owners(world, plan.name))
    outcomes = {script.outcome for script in plan.scripts}
    if stopped or left:
        outcomes.add("cancelled")
    if died:
        outcomes |= {"interrupted", STALLED}
    segments = 2 if plan.segments else 1
    capped = segments * max(len(script.body) for script in plan.scripts) > schedule.max_stream_bytes
    if capped:
        outcomes.add(OVERFLOW)
    posts = [act for act in acts if isinstance(act, Post) and act.turn == plan.name]
    return Wanted(
        name=plan.name,
        outcomes=frozenset(outcomes),
        calls=(1 + len(turn.consented) + turn.forgotten) * segments,
        dispatched=not (stopped or left or died or hit)
        and all(script.way != "unreachable" for script in plan.scripts)
        and any(post.leave_s > 1 for post in posts),
        stoppable=stopped or left or died or capped,
    )


def _owners(world: World, turn: str) -> set[str]:
    """The nodes whose death may have ended a stream of that turn."""
    core, nodes = world.log.core, set[str]()
    for stream in core.seen():
        if core.now_of(stream)[0].new.labels == (turn,):
            owners = core.leased[stream] if world.schedule.resumable else core.leased[stream][:1]
            nodes |= {owner.partition(".")[0] for owner in owners}
    return nodes


def _served(schedule: Schedule, history: History) -> Iterator[Violation]:
    """Where no process and no store fails and nothing is deleted, nobody is cut."""
    if schedule.trouble or schedule.retain_s < HORIZON_S:
        return
    if any(isinstance(act, Kill | Restart | Freeze | Delete) for act in schedule.acts):
        return
    for read in history.reads:
        if read.end is End.CUT and read.status < 300:
            yield Violation("live", f"{read.reader} was cut, and nothing had failed")


# --- chance and noise ------------------------------------------------------------------------------------------------


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Trio runs tasks in an order that the seed gives; so does everything that draws from `random`."""
    before, state = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, random.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
        random.setstate(state)


class _Unexpected(logging.Handler):
    """What was caught and logged, and no error of a kind that is raised on purpose."""

    def __init__(self, broken: list[Violation]) -> None:
        super().__init__(logging.ERROR)
        self._broken = broken

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info and record.exc_info[1]
        if error and not isinstance(error, ResumeStreamError):
            told = "".join(traceback.format_exception(error))
            self._broken.append(Violation("broken", f"{record.getMessage()}\n{told}"))


@contextmanager
def _listening(broken: list[Violation]) -> Iterator[None]:
    logger = logging.getLogger("resumestream")
    handler, level, propagate = _Unexpected(broken), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
