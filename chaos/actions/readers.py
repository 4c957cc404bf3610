"""What readers do, and how far they are. They go by the label that they were begun with, callers as well."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..history import End
from ..process import DEADLINE_S, Failed
from ..reader import LIVE, Form, Request
from ..stage import Between, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Somebody reads the stream that another reader has, live."""

    of: str = "caller"
    label: str = "reader"
    worker: int = 1
    offset: int | str = 0
    """In bytes, or a token; `here`: where the other one got to, told as an EventSource does where it is one."""
    form: Form = "bytes"
    slow_s: float = 0

    def act(self, stage: Stage) -> None:
        of = stage.readers[self.of]
        offset = of.read().reached if self.offset == "here" else self.offset
        path, headers = f"/streams/{of.stream}?live={LIVE[self.form]}", stage.ours
        if self.form == "events" and self.offset == "here":
            headers = {**headers, "last-event-id": f"{offset:016}"}
        else:
            path += f"&offset={offset}"
        request = Request(turn=of.request.turn, path=path, headers=headers, form=self.form)
        stage.begin(self.label, self.worker, request, slow_s=self.slow_s)


@dataclass(frozen=True, slots=True)
class Until:
    """Wait until a reader has so many bytes, or has ended."""

    label: str
    size: int | Between = 1

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].until(stage.draw(self.size))


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
class Leave:
    """A reader's process is gone: its kernel sends FIN, or RST."""

    label: str
    reset: bool = True

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].leave(reset=self.reset)


@dataclass(frozen=True, slots=True)
class Pause:
    """A reader reads nothing more for now."""

    label: str

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].pause()


@dataclass(frozen=True, slots=True)
class Resume:
    label: str

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].resume()


@dataclass(frozen=True, slots=True)
class Ended:
    """Wait for a reader's end."""

    label: str

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].join()


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
