"""File stores whose steps a test takes one by one, each store on a loop and in threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from resumestream.stores import FileStore
from resumestream.stores.files import takeover
from resumestream.stores.files.disk import Disk

STEP_S = 20


class Actor:
    """Does `work` in a thread, up to the next of its pauses at each `step`. Each pause is made once."""

    def __init__(self, store: Stepped, work: Callable[[], object], *pauses: str) -> None:
        self._store, self._work, self._pauses = store, work, set(pauses)
        self.steps = len(pauses) + 1
        self._thread: threading.Thread | None = None
        self._go, self._at = threading.Semaphore(0), threading.Semaphore(0)
        self.result: Any = None
        self.error: Exception | None = None

    def step(self) -> None:
        """Nothing, once it is done."""
        if self._thread is None:
            self._store.actor = self
            self._thread = threading.Thread(target=self._run)
            self._thread.start()
        elif self._thread.is_alive():
            self._go.release()
        else:
            return
        assert self._at.acquire(timeout=STEP_S), "a step hangs"

    def finish(self) -> None:
        while self._thread is None or self._thread.is_alive():
            self.step()
        self._thread.join()

    def pause(self, name: str) -> None:
        if name in self._pauses:
            self._pauses.discard(name)
            self._at.release()
            assert self._go.acquire(timeout=STEP_S), "nobody goes on"

    def _run(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:
            self.error = error
        self._store.actor = None
        self._at.release()
        # Whoever releases `_go` finds the thread alive or not: both are fine


class Stepped(FileStore):
    actor: Actor | None = None

    def pause(self, name: str) -> None:
        if actor := self.actor:
            actor.pause(name)

    def _open(self) -> Any:
        conn = super()._open()
        assert self._ticks
        self._ticks._page = _Page(self._ticks._page, self)  # type: ignore[assignment]
        trails = self._files.trails
        mark, visible = trails.mark, trails.visible

        def marked(worker: str) -> int:
            found = mark(worker)
            self.pause("marked")
            return found

        def looked(worker: str, extent: int, mark: int) -> Any:
            self.pause("looked")
            return visible(worker, extent, mark)

        trails.mark, trails.visible = marked, looked  # type: ignore[method-assign]
        return conn

    def _reach(self, lower: Any) -> takeover.Reach:
        self.pause("bumped")
        takeover.fence(self._files, lower)
        self.pause("fenced")
        found = takeover.reached(self._files, lower)
        self.pause("scanned")
        return found


class _Page:
    def __init__(self, page: Any, store: Stepped) -> None:
        self._page, self._store = page, store

    def get(self, name: Any) -> int:
        value: int = self._page.get(name)
        if name == "fences":
            self._store.pause("checked")
        return value

    def set(self, name: Any, value: int) -> None:
        self._page.set(name, value)


class SteppedDisk(Disk):
    """Pauses behind what is written to a segment."""

    store: Stepped

    def __init__(self) -> None:
        self._segments: set[int] = set()

    def create(self, path: Any) -> int:
        fd = super().create(path)
        if path.suffix == ".seg":
            self._segments.add(fd)
        else:
            self._segments.discard(fd)
        return fd

    def write(self, fd: int, data: bytes, position: int) -> int:
        written = super().write(fd, data, position)
        if fd in self._segments:
            self.store.pause("written")
        return written
