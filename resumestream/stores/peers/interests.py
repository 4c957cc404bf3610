"""Who, elsewhere, follows the streams that are drained here. Has no clock: times are monotonic seconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ...model import StreamId


@dataclass(slots=True)
class _Interest:
    said_at: float
    missing_since: float | None = None


class Interests:
    """A follower says its streams again every third of its lease, so that one lost message repairs itself."""

    def __init__(self) -> None:
        self._by_worker: dict[str, dict[StreamId, _Interest]] = {}
        self._by_stream: dict[StreamId, set[str]] = {}

    def followers(self, stream: StreamId) -> Collection[str]:
        return self._by_stream.get(stream, ())

    def workers(self) -> list[str]:
        return list(self._by_worker)

    def said(self, worker: str, stream: StreamId, now: float) -> bool:
        """It follows the stream. Returns whether that is new."""
        self._by_worker.setdefault(worker, {})[stream] = _Interest(now)
        followers = self._by_stream.setdefault(stream, set())
        new = worker not in followers
        followers.add(worker)
        return new

    def left(self, worker: str, stream: StreamId) -> bool:
        """It does so no longer. Returns whether that is new."""
        if self._by_worker.get(worker, {}).pop(stream, None) is None:
            return False
        if not self._by_worker[worker]:
            del self._by_worker[worker]
        self._by_stream[stream].remove(worker)
        if not self._by_stream[stream]:
            del self._by_stream[stream]
        return True

    def sweep(self, worker: str, now: float, *, lease_s: float, dead: bool) -> list[StreamId]:
        """Drop, and return, what the worker has been missing from for `lease_s`: that long its readers have to come
        back through another process. It is missing when it is dead, or has not said the stream when it should have."""
        gone: list[StreamId] = []
        for stream, interest in self._by_worker.get(worker, {}).items():
            if not dead and now - interest.said_at <= lease_s / 2:
                interest.missing_since = None
            elif interest.missing_since is None:
                interest.missing_since = now
            elif now - interest.missing_since >= lease_s:
                gone.append(stream)
        for stream in gone:
            self.left(worker, stream)
        return gone
