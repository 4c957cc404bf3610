"""What can be done to callers that are real processes with an official SDK. They speak the cell's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..process import DEADLINE_S, Failed
from ..provider import TURN
from ..stage import Between, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A caller's process asks."""

    turn: str
    label: str = "sdk"
    worker: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)

    def act(self, stage: Stage) -> None:
        headers = {"idempotency-key": stage.key(self.turn), TURN: self.turn, **self.headers}
        stage.call(self.label, self.worker, self.turn, headers)


@dataclass(frozen=True, slots=True)
class Hears:
    """Wait until a caller was handed so many pieces of text."""

    label: str = "sdk"
    texts: int | Between = 1

    def act(self, stage: Stage) -> None:
        stage.callers[self.label].until(stage.draw(self.texts))


@dataclass(frozen=True, slots=True)
class KillCaller:
    """SIGKILL."""

    label: str = "sdk"

    def act(self, stage: Stage) -> None:
        stage.callers[self.label].kill()


@dataclass(frozen=True, slots=True)
class Heard:
    """Wait for a caller's end: with the whole answer, or with an exception of its SDK."""

    label: str = "sdk"
    finished: bool = True

    def act(self, stage: Stage) -> None:
        caller = stage.callers[self.label]
        caller.join(within_s=DEADLINE_S)
        heard = caller.heard()
        if heard.finished is not self.finished or bool(heard.error) is self.finished:
            raise Failed(f"{self.label} ended {heard}")
