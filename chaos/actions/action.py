"""What every action is."""

from __future__ import annotations

from typing import Protocol

from ..stage import Stage


class Action(Protocol):
    def act(self, stage: Stage) -> None:
        """Done on return. Raises Failed where what it waits for does not come."""
        ...
