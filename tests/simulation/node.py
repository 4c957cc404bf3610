"""A process that serves the store: incarnation after incarnation of the real Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from resumestream.errors import StoreError
from resumestream.hub import Hub, ReadOn
from resumestream.policy import Policy

from .network import Network
from .store import Handle, Killed, Log
from .ticks import TICK_S

Died = Callable[[str], None]
"""Told which process was killed."""


class Node:
    def __init__(self, name: str, log: Log, network: Network, policy: Policy, read_on: ReadOn, died: Died) -> None:
        self.name, self._died = name, died
        self._log, self._network, self._policy, self._read_on = log, network, policy, read_on
        self.hub: Hub | None = None
        """None: nobody listens."""
        self.up = trio.Event()
        self._connections: dict[int, trio.CancelScope] = {}
        self._down_s = TICK_S
        self._end = trio.Event()
        self._lives = 0
        self.hit_s: float | None = None
        """When it was first killed, or frozen."""

    async def serving(self) -> Hub:
        """Wait until somebody listens."""
        while self.hub is None:
            await self.up.wait()
        return self.hub

    async def run(self) -> None:
        """For ever."""
        while True:
            self._lives += 1
            self._end = trio.Event()
            self._handle = Handle(self._log, self._network.join(f"{self.name}.{self._lives}"))
            self._log.said(self._handle.peers.me, "starts")
            with trio.CancelScope() as self._life:
                try:
                    async with Hub(self._handle, self._policy, read_on=self._read_on) as self.hub:
                        self.up.set()
                        await self._end.wait()
                        self._down()
                except* Killed:
                    pass
                except* StoreError as errors:
                    self._log.said(self._handle.peers.me, f"cannot start: {errors.exceptions[0]}")
            self._dead()
            await trio.sleep(self._down_s)

    def kill(self, down_s: float) -> None:
        """At once; also while it starts, or is down."""
        self._down_s = down_s
        self._log.said(self._handle.peers.me, "is killed")
        self._hit()
        self._handle.dead = True
        self._handle.peers.thawed.set()
        self._died(self._handle.peers.me)
        self._dead()
        self._life.cancel()

    def _hit(self) -> None:
        if self.hit_s is None:
            self.hit_s = trio.current_time()

    def _dead(self) -> None:
        self._handle.peers.page.alive = False
        self.hub = None
        self._down()
        for connection in self._connections.values():
            connection.cancel()

    def _down(self) -> None:
        if self.up.is_set():  # who waits for it goes on waiting
            self.up = trio.Event()

    def restart(self, down_s: float) -> None:
        self._down_s = down_s
        self._log.said(self._handle.peers.me, "is told to end")
        self._end.set()

    async def freeze(self, for_s: float) -> None:
        peers = self._handle.peers
        self._log.said(peers.me, "freezes")
        self._hit()
        peers.thawed = trio.Event()
        await trio.sleep(for_s)
        self._log.said(peers.me, "thaws")
        peers.thawed.set()

    @contextmanager
    def connection(self) -> Iterator[trio.CancelScope]:
        """Cancelled when the process dies."""
        with trio.CancelScope() as scope:
            self._connections[id(scope)] = scope
            try:
                yield scope
            finally:
                del self._connections[id(scope)]
