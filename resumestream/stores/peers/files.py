"""Several processes on one machine that serve one store, through files and sockets in one directory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import anyio

from ...errors import StoreUnusable
from ...model import StreamId
from ...ports import Duties, Following
from .follows import Follows
from .interests import Interests
from .lease import LeaseWatch
from .mailbox import Mailbox, Outbox
from .messages import Kind, Message
from .page import Page
from .registry import Registry, is_id, mint

POLL_S = 0.05
"""How often pages are looked at for what no datagram tells, and full queues are tried again."""


class FilePeers:
    """Between `open` and `close` a Peers; each `open` is a new incarnation. Not for the children of a fork.

    The rest of its calls belong to one event loop. `run` ends, cancelled, before `close`; what was not said by then is
    said once by `close`.
    """

    me: str
    page: Page
    """Our own."""

    def __init__(self, directory: Path, *, lease_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory, self._lease_s, self._monotonic = directory, lease_s, monotonic

    def open(self) -> None:
        """Make the directory where there is none (its parent is there) and show up in it. Raises StoreUnusable."""
        if sys.platform == "win32":
            raise StoreUnusable(f"{self._directory}: on Windows one process serves a store")
        self.me = mint()
        self._registry = Registry(self._directory, self.me, lease_s=self._lease_s)
        self.page = self._registry.page
        self._mailbox = Mailbox(self._directory, self.me, dir_fd=self._registry.dir_fd)
        self._outbox = Outbox(self._mailbox, self.me)
        self._interests = Interests()
        self._follows = Follows(self._outbox.put, self.page_of)
        self._watches: dict[str, LeaseWatch] = {}

    def close(self) -> None:
        """Be gone: what is left of us in the store is lost, to the others, from here on."""
        self._outbox.flush()
        self._mailbox.close()
        self._registry.close()

    # --- who lives -----------------------------------------------------------------------------------------------

    def beat(self) -> None:
        self.page.set("beats", self.page.get("beats") + 1)

    def observe(self) -> None:
        try:
            workers = self._registry.workers()
        except OSError:  # not seen is not silent: the next look starts over
            return
        for worker in {*self._registry.mapped(), *self._watches}.difference(workers):
            self._watches.pop(worker, None)
            self._registry.forget(worker)
        for worker in workers:
            if page := self.page_of(worker):
                watch = self._watches.setdefault(worker, LeaseWatch())
                watch.observe(page.get("beats"), self._monotonic(), self._lease_of(worker))

    def lost(self, worker: str) -> bool:
        if worker == self.me:
            return False
        if self._registry.gone(worker):
            return True
        page, watch = self.page_of(worker), self._watches.get(worker)
        return page is not None and watch is not None and watch.expired(page.get("beats"))

    def alone(self) -> bool:
        try:
            return all(map(self._registry.gone, self._registry.workers()))
        except OSError:
            return False

    def bury(self, worker: str) -> None:
        if worker != self.me:
            self._registry.bury(worker)

    def workers(self) -> list[str]:
        """Everybody else who has a page, so also the dead whom no stream names: `bury` them."""
        try:
            return self._registry.workers()
        except OSError:
            return []

    def page_of(self, worker: str) -> Page | None:
        """None where it has none that could be read. Valid until `observe` or `bury` finds it gone: do not keep it."""
        try:
            page = self._registry.find(worker)
        except OSError:
            return None
        return page if page and page.known else None

    @property
    def clock_start(self) -> float | None:
        """What the store clocks of the living go by, for us to adopt."""
        for worker in self.workers():
            page = self.page_of(worker)
            if page and page.alive and page.clock_start is not None:
                return page.clock_start
        return None

    def publish_clock(self, start: float) -> None:
        self.page.clock_start = start

    def _lease_of(self, worker: str) -> float:
        """The longer one of two that differ: its owner beats, and we look, often enough for that."""
        page = self.page_of(worker)
        return max(self._lease_s, page.lease_s) if page else self._lease_s

    # --- who is told ---------------------------------------------------------------------------------------------

    def changed(self, stream: StreamId) -> None:
        self.page.set("changes", self.page.get("changes") + 1)
        for worker in self._interests.followers(stream):
            self._outbox.put(worker, Kind.CHANGED, stream)

    def tell(self, worker: str) -> None:
        if is_id(worker):
            with contextlib.suppress(OSError):
                self._mailbox.send(worker, Message(Kind.LOOK, self.me))

    def follow(self, stream: StreamId, worker: str) -> AbstractContextManager[Following]:
        return self._follows.follow(stream, worker)

    # --- what runs -----------------------------------------------------------------------------------------------

    async def run(self, duties: Duties) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._receive, duties)
            tasks.start_soon(self._send)
            tasks.start_soon(self._poll)
            tasks.start_soon(self._renew, duties)

    async def _receive(self, duties: Duties) -> None:
        while self._mailbox.socket:
            await anyio.wait_readable(self._mailbox.socket)
            for message in self._mailbox.receive():
                self._heed(message, duties)

    def _heed(self, message: Message, duties: Duties) -> None:
        match message.kind:
            case Kind.CHANGED:
                self._follows.changed(message.sender, message.streams)
            case Kind.LOOK:
                duties.look()
            case Kind.FOLLOW:
                for stream in message.streams:
                    if self._interests.said(message.sender, stream, self._monotonic()):
                        # It may have looked at the store before we knew of it, and we changed the stream since.
                        self._outbox.put(message.sender, Kind.CHANGED, stream)
                    duties.followed(stream, message.sender)
            case Kind.LEAVE:
                for stream in message.streams:
                    if self._interests.left(message.sender, stream):
                        duties.left(stream, message.sender)

    async def _send(self) -> None:
        while True:
            await self._outbox.filled.wait()
            for worker in self._outbox.flush():
                self._follows.refused(worker)
            if self._outbox.filled.is_set():
                await anyio.sleep(POLL_S)

    async def _poll(self) -> None:
        while True:
            await self._follows.some.wait()
            await anyio.sleep(POLL_S)
            for worker, owner in self._follows.owners.items():
                owner.poll(self.page_of(worker), gone=self._registry.gone(worker), now=self._monotonic())

    async def _renew(self, duties: Duties) -> None:
        while True:
            self._follows.say_all()
            for worker in self._interests.workers():
                dead = self._registry.gone(worker)
                lease_s = self._lease_of(worker)
                for stream in self._interests.sweep(worker, self._monotonic(), lease_s=lease_s, dead=dead):
                    duties.left(stream, worker)
            await anyio.sleep(self._lease_s / 3)
