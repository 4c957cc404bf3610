"""What many scenarios begin with, and how turns end."""

from __future__ import annotations

from ..actions import Action, CaughtUp, Held, Post, Script
from ..dialects import PATHS, Dialect
from ..provider import said
from ..stage import Between

EVERY: tuple[Dialect, ...] = tuple(PATHS)
TOKENS = 60
TEXT = said(TOKENS)

COMPLETED = frozenset({"completed"})
PROVIDER_ERROR = frozenset({"provider_error"})
TRUNCATED = frozenset({"truncated"})
STALLED = frozenset({"stalled"})
CANCELLED = frozenset({"cancelled"})
OVERFLOW = frozenset({"overflow"})
INTERRUPTED = frozenset({"interrupted"})

WHOLE = Script({"tokens": TOKENS})
HELD = Script({"tokens": TOKENS, "hold_at": Between(6, 45)})
"""It waits after an event that the cell draws."""

BEGUN: tuple[Action, ...] = (HELD, Post(turn="turn"), Held(), CaughtUp())
"""A caller has the first part of its answer, and the provider waits."""
