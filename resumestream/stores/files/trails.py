"""The trails of all extents that this process reads: its own as it writes them, others' as it finds them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path

from ..peers import Page, boot_id
from .scan import Scan
from .segments import Segments
from .trail import Trail

KEPT_WORKERS = 16
"""Other workers of which is remembered what their segments hold: those asked for last."""


class _Other:
    """What is known of another worker."""

    def __init__(self, segments: Segments, worker: str, page: Page | None) -> None:
        self.page = page
        self.visible, self.whole = Scan(segments, worker), Scan(segments, worker)


class Trails:
    """Any thread may use it. `me` names our own worker, "" where we only look."""

    def __init__(self, segments: Segments, pages: Path) -> None:
        self.segments, self._pages = segments, pages
        self.me = ""
        self.own: dict[int, Trail] = {}
        self._others: OrderedDict[str, _Other] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        self.forget()
        self.own.clear()

    def mark(self, worker: str) -> int | None:
        """How far another worker has made its records visible. None where nobody knows: it ended, or the machine did,
        and what is there is all there will be."""
        with self._lock:
            page = self._other(worker).page
            return page.get("mark_position") if page else None

    def alive(self, worker: str) -> bool:
        """Whether it may still write."""
        with self._lock:
            page = self._other(worker).page
            return worker == self.me or (page is not None and page.alive)

    def fence(self, worker: str) -> None:
        """Make another worker look into the catalog before it makes anything visible again."""
        with self._lock:
            if page := self._other(worker).page:
                page.set("fences", int.from_bytes(os.urandom(8), "little"))

    def visible(self, worker: str, extent: int, mark: int | None) -> Trail | None:
        """What another worker's extent has below its mark. None: nothing. Raises OSError."""
        if mark is None:
            return self.whole(worker, extent)
        with self._lock:
            scan = self._other(worker).visible
        scan.visible(mark)
        return scan.trail(extent)

    def whole(self, worker: str, extent: int) -> Trail | None:
        """What there is of another worker's extent, whether visible or not. Raises OSError."""
        mark = self.mark(worker)
        with self._lock:
            scan = self._other(worker).whole
        scan.whole(mark or 0)
        return scan.trail(extent)

    def reaching(self, worker: str, extent: int, end: int) -> Trail | None:
        """The trail of an extent that is known to have come to `end`. None where it has not: that is damage."""
        mine = worker == self.me
        trail = self.own.get(extent) if mine else self.visible(worker, extent, self.mark(worker))
        if trail is None or trail.tail < end:
            # A taker found what its owner had written and then, fenced off, not made visible
            trail = self.whole(worker, extent)
        return trail if trail and trail.tail >= end else None

    def retain(self, extents: set[int], newest: int) -> None:
        """Forget all others that are not newer than `newest`: nobody reads them any more."""

        def needless(extent: int) -> bool:
            return extent <= newest and extent not in extents

        for extent in list(self.own):
            if needless(extent):
                del self.own[extent]
        with self._lock:
            others = list(self._others.values())
        for other in others:
            other.visible.forget(needless)
            other.whole.forget(needless)

    def forget(self) -> None:
        """Segments are gone: learn anew what others hold."""
        with self._lock:
            while self._others:
                self._drop(next(iter(self._others)))

    def _other(self, worker: str) -> _Other:
        other = self._others.get(worker)
        if other is None:
            other = self._others[worker] = _Other(self.segments, worker, self._page(worker))
            if len(self._others) > KEPT_WORKERS:
                self._drop(next(iter(self._others)))
        self._others.move_to_end(worker)
        return other

    def _drop(self, worker: str) -> None:
        if page := self._others.pop(worker).page:
            page.close()

    def _page(self, worker: str) -> Page | None:
        try:
            directory = os.open(self._pages, os.O_RDONLY)
            try:
                page = Page.open(f"{worker}.page", dir_fd=directory)
            finally:
                os.close(directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno is None:  # a power cut left no whole page
                return None
            raise
        # What is mapped is not synced: another boot's words may be of any moment
        if page.alive or (page.known and page.get("boot") == boot_id()):
            return page
        page.close()
        return None
