"""What the provider answers, and how far its calls are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..stage import Stage


@dataclass(frozen=True, slots=True)
class Script:
    """What the next call gets, in the provider's own words; or every call that nothing else is written for."""

    values: Mapping[str, Any]
    every: bool = False

    def act(self, stage: Stage) -> None:
        values = stage.draw(dict(self.values))
        if self.every:
            stage.provider.script(default=values)
        else:
            stage.provider.script(values)


@dataclass(frozen=True, slots=True)
class Held:
    """Wait until so many calls wait for their release."""

    calls: int = 1

    def act(self, stage: Stage) -> None:
        stage.provider.wait_for(lambda entries: sum(entry["held"] for entry in entries) >= self.calls)


@dataclass(frozen=True, slots=True)
class Release:
    """Every held answer goes on."""

    def act(self, stage: Stage) -> None:
        stage.provider.release()


@dataclass(frozen=True, slots=True)
class Lost:
    """Wait until the provider saw so many of its clients leave."""

    calls: int = 1

    def act(self, stage: Stage) -> None:
        stage.provider.wait_for(lambda entries: sum(entry["disconnected"] for entry in entries) >= self.calls)


@dataclass(frozen=True, slots=True)
class Played:
    """Wait until so many calls have had their whole answer, or all of it that was written."""

    calls: int = 1

    def act(self, stage: Stage) -> None:
        stage.provider.wait_for(lambda entries: sum(entry["finished"] for entry in entries) >= self.calls)


@dataclass(frozen=True, slots=True)
class Finished:
    """Wait until so many calls have ended, however they did."""

    calls: int = 1

    def act(self, stage: Stage) -> None:
        stage.provider.wait_for(lambda entries: sum(entry["ended_at"] is not None for entry in entries) >= self.calls)
