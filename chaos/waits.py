"""What a scenario waits for, and holds to be so when it comes: how far things are, and how answers ended."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .history import End
from .process import DEADLINE_S, Failed
from .stage import Stage


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Wait until a reader has all that the provider has sent in the last call of its turn, while that waits."""

    label: str = "caller"

    def act(self, stage: Stage) -> None:
        reader = stage.readers[self.label]
        deadline = time.monotonic() + DEADLINE_S
        sent = [call.sent for call in stage.provider.calls() if call.turn == reader.request.turn][-1]
        while reader.read().reached < len(sent):
            if reader.end is not None or time.monotonic() > deadline:
                raise Failed(f"{reader.name} has {reader.read().reached} of {len(sent)} bytes")
            time.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Answered:
    """Wait for a reader's end; its answer is to have one of these statuses, and to end so. 0: no status line."""

    label: str
    statuses: tuple[int, ...]
    ends: tuple[End, ...] = tuple(End)

    def act(self, stage: Stage) -> None:
        read = stage.readers[self.label].join().read()
        if read.status not in self.statuses or read.end not in self.ends:
            raise Failed(f"{self.label} got {read.status}, {read.end}, not {self.statuses}, {self.ends}")


@dataclass(frozen=True, slots=True)
class Attached:
    """Wait for the heads of some answers: all of one stream, or each of its own."""

    labels: tuple[str, ...]
    together: bool = True

    def act(self, stage: Stage) -> None:
        streams = {stage.readers[label].until(0).stream for label in self.labels}
        if len(streams) != (1 if self.together else len(self.labels)) or "" in streams:
            raise Failed(f"{', '.join(self.labels)} are at {len(streams)} streams: {sorted(streams)}")


@dataclass(frozen=True, slots=True)
class Pass:
    """Time passes, and nothing is done: for what has no event, as a lease that runs out."""

    seconds: float

    def act(self, stage: Stage) -> None:
        time.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class Played:
    """Wait until so many calls have had their whole answer, or all of it that was written."""

    calls: int = 1

    def act(self, stage: Stage) -> None:
        stage.provider.wait_for(lambda entries: sum(entry["finished"] for entry in entries) >= self.calls)


@dataclass(frozen=True, slots=True)
class Lost:
    """Wait until the provider saw so many of its clients leave."""

    calls: int = 1

    def act(self, stage: Stage) -> None:
        stage.provider.wait_for(lambda entries: sum(entry["disconnected"] for entry in entries) >= self.calls)
