"""Implements ports.Peers between processes that are simulated: who lives, who is silent, and messages that get lost.

What is decided from that (leases, interests, follows) is the real code.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random

import trio

from resumestream.model import StreamId
from resumestream.ports import Duties, Following
from resumestream.stores.peers.follows import Follows
from resumestream.stores.peers.interests import Interests
from resumestream.stores.peers.lease import LeaseWatch
from resumestream.stores.peers.messages import Kind


@dataclass(slots=True, eq=False)
class Page:
    """What a process shows to the others, also when it is dead."""

    beats: int = 0
    changes: int = 0
    fences: int = 0
    alive: bool = True

    def get(self, name: str) -> int:
        return int(getattr(self, name))


@dataclass(slots=True)
class Network:
    """`lossy`: which part of all messages is lost."""

    rng: Random
    lease_s: float
    lossy: float
    peers: dict[str, SimulatedPeers] = field(default_factory=dict)

    def join(self, me: str) -> SimulatedPeers:
        peers = self.peers[me] = SimulatedPeers(self, me)
        return peers

    def send(self, sender: str, to: str, kind: Kind, stream: StreamId | None = None) -> None:
        peer = self.peers.get(to)
        if peer and peer.page.alive and self.rng.random() >= self.lossy:
            peer.inbox.append((sender, kind, stream))
            peer.mail.set()


class SimulatedPeers:
    """Those of one incarnation."""

    def __init__(self, network: Network, me: str) -> None:
        self._network, self.me = network, me
        self.page = Page()
        self.inbox: list[tuple[str, Kind, StreamId | None]] = []
        self.mail = trio.Event()
        self.thawed = trio.Event()
        self.thawed.set()
        self._interests = Interests()
        self._follows = Follows(self._say, self._page_of)  # type: ignore[arg-type]
        self._watches: dict[str, LeaseWatch] = {}

    def beat(self) -> None:
        if self.thawed.is_set():
            self.page.beats += 1

    def observe(self) -> None:
        if self.thawed.is_set():
            for worker in self.workers():
                watch = self._watches.setdefault(worker, LeaseWatch())
                watch.observe(self._network.peers[worker].page.beats, trio.current_time(), self._network.lease_s)

    def lost(self, worker: str) -> bool:
        if worker == self.me:
            return False
        page, watch = self._page_of(worker), self._watches.get(worker)
        if page is None or not page.alive:
            return True
        return watch is not None and watch.expired(page.beats)

    def alone(self) -> bool:
        return not any(self._network.peers[worker].page.alive for worker in self.workers())

    def workers(self) -> list[str]:
        return [worker for worker in self._network.peers if worker != self.me]

    def bury(self, worker: str) -> None:
        page = self._page_of(worker)
        if page and not page.alive:
            del self._network.peers[worker]

    def changed(self, stream: StreamId) -> None:
        self.page.changes += 1
        for worker in sorted(self._interests.followers(stream)):
            self._say(worker, Kind.CHANGED, stream)

    def tell(self, worker: str) -> None:
        self._say(worker, Kind.LOOK, None)

    def follow(self, stream: StreamId, worker: str) -> AbstractContextManager[Following]:
        return self._follows.follow(stream, worker)

    async def run(self, duties: Duties) -> None:
        every_s = self._network.lease_s / 3
        renew_at = trio.current_time()
        while True:
            with trio.move_on_at(renew_at):
                await self.mail.wait()
            await self.thawed.wait()
            self.mail = trio.Event()
            inbox, self.inbox = self.inbox, []
            for sender, kind, stream in inbox:
                self._heed(sender, kind, stream, duties)
            if trio.current_time() >= renew_at:
                self._renew(duties)
                renew_at = trio.current_time() + every_s

    def _heed(self, sender: str, kind: Kind, stream: StreamId | None, duties: Duties) -> None:
        if stream is None:
            duties.look()
        elif kind is Kind.CHANGED:
            self._follows.changed(sender, (stream,))
        elif kind is Kind.FOLLOW:
            if self._interests.said(sender, stream, trio.current_time()):
                self._say(sender, Kind.CHANGED, stream)
            duties.followed(stream, sender)
        elif self._interests.left(sender, stream):
            duties.left(stream, sender)

    def _renew(self, duties: Duties) -> None:
        now, lease_s = trio.current_time(), self._network.lease_s
        self._follows.say_all()
        for worker, owner in self._follows.owners.items():
            page = self._page_of(worker)
            owner.poll(page, gone=page is None or not page.alive, now=now)  # type: ignore[arg-type]
        for worker in self._interests.workers():
            page = self._page_of(worker)
            dead = page is None or not page.alive
            for stream in self._interests.sweep(worker, now, lease_s=lease_s, dead=dead):
                duties.left(stream, worker)

    def _say(self, worker: str, kind: Kind, stream: StreamId | None) -> None:
        self._network.send(self.me, worker, kind, stream)

    def _page_of(self, worker: str) -> Page | None:
        peers = self._network.peers.get(worker)
        return peers.page if peers else None
