"""How a check ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["passed", "failed", "not checked"]

_SHOWN = 500
"""Characters of what was expected, and of what was seen, that a failure tells."""


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class Failed(Exception):
    """The server does not do what the requirement says."""

    def __init__(self, expected: str, seen: str, request: str = "") -> None:
        where = f"{request}: " if request else ""
        super().__init__(f"{where}expected {_short(expected)}; saw {_short(seen)}")


class CannotRun(Exception):
    """There is nothing to check: no server, or one that is not set up for the suite. Its text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    id: str
    verdict: Verdict
    said: str = ""
    """What failed, or why nothing was checked."""
    seconds: float = 0.0
