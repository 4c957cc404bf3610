"""What another worker's segments hold, learnt from the headers of its records, and only what is new each time."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable

from .disk import parts, place
from .records import HEADER_BYTES, Record, parse
from .segments import Reading, Segments
from .trail import Trail

_READ_BYTES = 256 * 1024


class Scan:
    """Any thread may use it. A record counts if it goes on where its extent ended: what an owner wrote twice, because
    the first time failed halfway, counts once, and the same one to every reader. Behind one whose payload is not as it
    was written, nothing counts of its extent; those of others do: that extent may have been erased."""

    def __init__(self, segments: Segments, worker: str) -> None:
        self._segments, self._worker = segments, worker
        self._lock = threading.Lock()
        self._trails: dict[int, Trail] = {}
        self._begun: dict[int, list[tuple[int, Record]]] = {}
        """Appends of which not all records were seen yet."""
        self.place = 0
        """Everything below was looked at."""

    def trail(self, extent: int) -> Trail | None:
        return self._trails.get(extent)

    def visible(self, mark: int) -> None:
        """Learn of all records below `mark`, which their owner made visible. Raises OSError."""
        if self.place < mark:
            with self._lock, self._segments.reading(self._worker) as files:
                self._advance(files, mark, trusted=mark)

    def whole(self, trusted: int) -> None:
        """Learn of all records that are there whole, those beyond `trusted` by their payload's check. Raises
        OSError."""
        with self._lock, self._segments.reading(self._worker) as files:
            self._advance(files, place(1 << 31, 0), trusted=trusted)

    def forget(self, needless: Callable[[int], bool]) -> None:
        """Forget these extents."""
        with self._lock:
            for extent in [extent for extent in self._trails if needless(extent)]:
                del self._trails[extent]
                self._begun.pop(extent, None)

    def _advance(self, files: Reading, limit: int, *, trusted: int) -> None:
        # A segment that has a successor gets nothing more: look which are there before looking for their ends
        for number in self._segments.numbers(self._worker):
            if number > parts(limit)[0]:
                return
            if place(number, 0) > self.place:
                self.place = place(number, 0)
            if parts(self.place)[0] == number:
                self._segment(files, min(limit, place(number, files.size(number))), trusted)

    def _segment(self, files: Reading, limit: int, trusted: int) -> None:
        while self.place < limit:
            block = files.read(self.place, min(_READ_BYTES, limit - self.place))
            start, at = self.place, 0
            while record := parse(block, at):
                end = start + at + HEADER_BYTES + record.length
                if end > limit:
                    return
                if end <= trusted or zlib.crc32(files.read(end - record.length, record.length)) == record.sum:
                    self._add(start + at, record)
                elif parse(files.read(end, HEADER_BYTES)):
                    self._trails.setdefault(record.extent, Trail(record.at))
                else:
                    return  # it may be being written
                self.place = end
                at = end - start
            if self.place == start:
                return

    def _add(self, where: int, record: Record) -> None:
        trail = self._trails.get(record.extent)
        if trail is None:
            trail = self._trails[record.extent] = Trail(record.at)
        begun = self._begun.pop(record.extent, [])
        if begun and record.at != begun[-1][1].at + begun[-1][1].length:
            begun = []
        if not begun and record.at != trail.tail:
            return
        begun.append((where, record))
        if record.more:
            self._begun[record.extent] = begun
            return
        for found, part in begun:
            trail.add(found, part.length, part.events)
