"""Time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..stage import Stage


@dataclass(frozen=True, slots=True)
class Pass:
    """Time passes, and nothing is done: for what has no event, as a lease that runs out."""

    seconds: float

    def act(self, stage: Stage) -> None:
        time.sleep(self.seconds)
