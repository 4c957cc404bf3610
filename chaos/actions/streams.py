"""What is asked about a stream, by the label of a reader who has it."""

from __future__ import annotations

from dataclasses import dataclass

from ..process import Failed
from ..stage import ENDED_STATES, Stage
from ..trespass import trespass


@dataclass(frozen=True, slots=True)
class Trespass:
    """A stranger asks for the stream, while it is as it is."""

    of: str = "caller"

    def act(self, stage: Stage) -> None:
        stage.probes += trespass(stage, stage.readers[self.of])


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask a worker to stop the stream."""

    of: str = "caller"
    worker: int = 1

    def act(self, stage: Stage) -> None:
        reply = stage.ask(self.worker, "POST", f"/streams/{stage.readers[self.of].stream}/cancel")
        if reply.status != 202:
            raise Failed(f"worker {self.worker} answers {reply.status} to a cancel: {reply.body!r}")


@dataclass(frozen=True, slots=True)
class Sealed:
    """Wait for the stream's seal; and for its expiry, if so."""

    of: str = "caller"
    expired: bool = False

    def act(self, stage: Stage) -> None:
        states = ("expired",) if self.expired else ENDED_STATES
        stage.ended(stage.readers[self.of], states)
