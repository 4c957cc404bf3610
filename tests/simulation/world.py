"""Everything of one simulation, wired up, and what its actors do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import trio

from chaos.history import End, Read
from resumestream.claiming import Outgoing
from resumestream.claims import Attach, Start, Terms, decide
from resumestream.errors import ResumeStreamError
from resumestream.hub import Hub
from resumestream.model import Binding, NewStream, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.ports import LogStore
from resumestream.route import Leg, Route

from .network import Network
from .node import Node
from .provider import Ledger, Script, SimulatedAnswer, SimulatedSource
from .schedule import Act, Cancel, Delete, Freeze, Get, Kill, Post, Restart, Schedule, TurnPlan
from .store import Killed, Log
from .visit import Visit

LEASE_S = 0.75
TRIES, AGAIN_S = 4, 0.25
"""How often a caller with a key comes, and what it waits in between."""
PATIENCE_S = 2.0
"""How long a reader waits for a stream to read."""


@dataclass(slots=True, eq=False)
class Turn:
    """A plan, and what came of it."""

    plan: TurnPlan
    calls: int = 0
    streams: list[StreamId] = field(default_factory=list)
    some: trio.Event = field(default_factory=trio.Event)
    consented: set[StreamId] = field(default_factory=set)
    forgotten: int = 0

    @property
    def name(self) -> str:
        return self.plan.name

    def next_script(self) -> Script:
        """The script of one call more."""
        scripts = self.plan.scripts
        script = scripts[min(self.calls, len(scripts) - 1)]
        self.calls += 1
        return replace(script, text=f"{self.name}.{self.calls}")

    def found(self, stream: StreamId) -> None:
        if stream not in self.streams:
            self.streams.append(stream)
            self.some.set()


class World:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.trace: list[tuple[float, str, str]] = []
        self.reads: list[Read] = []
        self.turns = {plan.name: Turn(plan) for plan in schedule.turns}
        self._rng = rng = Random(f"world {schedule.seed}")
        self.log = Log(rng, slow=schedule.slow, trouble=schedule.trouble, said=self.said)
        self.ledger = Ledger(rng, self.said)
        self._minted = 0
        network = Network(rng, LEASE_S, schedule.lossy)
        policy = Policy(
            first_byte_s=1.25,
            stall_s=0.75,
            settle_s=0.0625,
            drain_s=0.25,
            lease_s=LEASE_S,
            retain_s=schedule.retain_s,
            window_bytes=schedule.window_bytes,
            max_stream_bytes=schedule.max_stream_bytes,
        )
        self.nodes = {
            name: Node(name, self.log, network, policy, self._read_on, self.ledger.died) for name in schedule.nodes
        }

    def said(self, who: str, what: str) -> None:
        self.trace.append((trio.current_time(), who, what))

    async def act(self, act: Act) -> None:
        """One act, at its time, to its end."""
        await trio.sleep(act.at_s)
        node = self.nodes[act.node]
        match act:
            case Post():
                await self._post(act, node)
            case Get():
                await self._get(act, node)
            case Cancel(turn=turn):
                await self._to(turn, node, lambda hub, stream: hub.cancel(stream))
            case Delete(turn=turn, forget=forget):
                self.turns[turn].forgotten += forget
                await self._to(turn, node, lambda hub, stream: hub.delete(stream, forget=forget))
            case Kill(down_s=down_s):
                node.kill(down_s)
            case Restart(down_s=down_s):
                node.restart(down_s)
            case Freeze(for_s=for_s):
                await node.freeze(for_s)

    # --- callers and readers -------------------------------------------------------------------------------------

    async def _post(self, act: Post, node: Node) -> None:
        """A caller; one with a key comes again where it could not be served, to whoever serves then."""
        turn, name = self.turns[act.turn], f"caller at {act.at_s:g}"
        nodes = list(self.nodes.values())
        retry_of: StreamId | None = None
        for number in range(TRIES if turn.plan.keyed else 1):
            visit = Visit(name, turn.name, slow_s=act.slow_s)
            claim = partial(self._claim, visit=visit, turn=turn, retry_of=retry_of)
            await self.visit(node, visit, act.leave_s, claim)
            if visit.end is End.LEFT:
                return
            if act.consents and visit.stream and visit.end is not End.CLEAN:
                retry_of = visit.stream
            elif visit.end or (visit.refused and not turn.plan.keyed):
                return
            await trio.sleep(AGAIN_S)
            node = nodes[(nodes.index(node) + number) % len(nodes)]

    async def _claim(self, hub: Hub, visit: Visit, turn: Turn, retry_of: StreamId | None) -> None:
        new = self._new(hub, turn.plan)
        terms = Terms("print", retry_of=retry_of)
        if retry_of:
            turn.consented.add(retry_of)

        def choose(binding: Binding | None, info: StreamInfo | None) -> Start | Attach:
            return decide(terms, binding, info, hub.store.now())

        claim = await hub.claim(new, Outgoing(self._route(turn, new.id, hub.worker)), choose if new.key else None)
        visit.stream = claim.stream
        with hub.reads.reading(claim.stream):
            turn.found(claim.stream)
            await visit.answer(hub)

    async def _get(self, act: Get, node: Node) -> None:
        turn = self.turns[act.turn]
        with trio.move_on_after(PATIENCE_S):
            await turn.some.wait()
        if not turn.streams:
            return
        visit = Visit(f"reader at {act.at_s:g}", turn.name, slow_s=act.slow_s, live=act.live)
        visit.stream = self._rng.choice(turn.streams)
        await self.visit(node, visit, act.leave_s, lambda hub: self._read(hub, visit, act))

    async def _read(self, hub: Hub, visit: Visit, act: Get) -> None:
        info = await hub.stat(visit.stream)
        segment = self._rng.randint(1, info.segment)
        seen = info.seen(segment)
        at = int(seen.tail * act.of_tail)
        if act.live:
            with hub.reads.reading(visit.stream):
                await visit.read(hub, segment, at)
        else:
            with hub.reads.holding(visit.stream):
                await visit.read(hub, segment, at, until=seen.tail)

    async def visit(self, node: Node, visit: Visit, leave_s: float, work: Callable[[Hub], Awaitable[None]]) -> None:
        """Ask a node for an answer, and keep what came. Where nobody listens there is none."""
        hub = node.hub
        if hub is None:
            return
        try:
            with trio.move_on_after(leave_s) as leaving, node.connection():
                try:
                    await work(hub)
                except ResumeStreamError as error:
                    visit.status = visit.status or error.status
                except Killed:
                    pass
            if leaving.cancelled_caught:
                visit.end = End.LEFT
        finally:  # also of those that wait until everything is over
            self._keep(visit.history())

    def _keep(self, read: Read) -> None:
        self.said(read.reader, f"{read.end.value} of {read.stream} at {read.reached}, {read.status} {read.outcome}")
        self.reads.append(read)

    async def _to(self, name: str, node: Node, ask: Callable[[Hub, StreamId], Awaitable[None]]) -> None:
        turn, hub = self.turns[name], node.hub
        if hub and turn.streams:
            with node.connection():
                try:
                    self.said(node.name, f"is asked to stop {turn.streams[-1]}")
                    await ask(hub, turn.streams[-1])
                except (ResumeStreamError, Killed) as error:
                    self.said(node.name, f"could not stop it: {error}")

    # --- streams -------------------------------------------------------------------------------------------------

    def _new(self, hub: Hub, plan: TurnPlan) -> NewStream:
        self._minted += 1
        return NewStream(
            StreamId(f"{plan.name}-{self._minted}"),
            principal="somebody",
            upstream="main",
            worker=hub.worker,
            created_at=hub.store.now(),
            retain_s=self.schedule.retain_s,
            tombstone_s=60.0,
            key=plan.name if plan.keyed else None,
            fingerprint="print" if plan.keyed else "",
            labels=(plan.name,),
            on_disconnect=plan.on_disconnect,
            dialect=plan.dialect,
        )

    def _route(self, turn: Turn, stream: StreamId, client: str) -> Route:
        def leg(upstream: str, retries: int, *, keyed: bool) -> Leg:
            async def source(segment: int) -> SimulatedSource:
                script = turn.next_script
                return SimulatedSource(self.ledger, turn.name, stream, segment, upstream, script, client, keyed=keyed)

            return Leg(upstream, source, retries, resend=keyed)

        plan = turn.plan
        legs = [leg("main", plan.retries, keyed=plan.keyed_calls)]
        if plan.fallback:
            legs.append(leg("fallback", 0, keyed=False))
        return Route(legs, segments=plan.segments)

    def _read_on(self, store: LogStore, info: StreamInfo) -> SimulatedAnswer | None:
        """The call of the latest segment, behind what the log has of it."""
        call = self.ledger.of(info.id, info.segment)
        if not self.schedule.resumable or call is None or info.head is None or call.script.refused:
            return None
        call.client = store.peers.me
        return SimulatedAnswer(self.ledger, call, info.tail - info.base)
