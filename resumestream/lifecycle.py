"""The law: every state a stream can be in, and every way it moves. There is no special case beside this table.

The diagram in the documentation is drawn from `TRANSITIONS`. What is not in the table is illegal: `move` raises and
nothing happens.
"""

from __future__ import annotations

from enum import StrEnum

from .errors import ResumeStreamError
from .model import Outcome, State


class Moved(StrEnum):
    """What can happen to a stream."""

    BYTES_LOGGED = "bytes logged"
    END_SEEN = "end seen"
    PROVIDER_FAILED = "provider failed"
    UPSTREAM_CUT = "upstream cut"
    UPSTREAM_STALLED = "upstream stalled"
    STOP_ASKED = "stop asked"
    CAP_REACHED = "cap reached"
    DRAIN_LOST = "drain lost"
    PAYLOAD_DROPPED = "payload dropped"


ENDINGS: dict[Moved, Outcome] = {
    Moved.END_SEEN: Outcome.COMPLETED,
    Moved.PROVIDER_FAILED: Outcome.PROVIDER_ERROR,
    Moved.UPSTREAM_CUT: Outcome.TRUNCATED,
    Moved.UPSTREAM_STALLED: Outcome.STALLED,
    Moved.STOP_ASKED: Outcome.CANCELLED,
    Moved.CAP_REACHED: Outcome.OVERFLOW,
    Moved.DRAIN_LOST: Outcome.INTERRUPTED,
}

_ENDS = dict.fromkeys(ENDINGS, State.SEALED)

TRANSITIONS: dict[State, dict[Moved, State]] = {
    State.PENDING: {Moved.BYTES_LOGGED: State.STREAMING, **_ENDS},
    State.STREAMING: {Moved.BYTES_LOGGED: State.STREAMING, **_ENDS},
    State.SEALED: {Moved.PAYLOAD_DROPPED: State.EXPIRED},
    State.EXPIRED: {},
}


class IllegalMove(ResumeStreamError):
    """A program error: something tried a move the table does not have."""

    code = "illegal-move"


def allows(state: State, moved: Moved) -> bool:
    """Whether the table has that move."""
    return moved in TRANSITIONS[state]


def move(state: State, moved: Moved) -> State:
    """The state after `moved`. Raises IllegalMove; nothing has happened then."""
    try:
        return TRANSITIONS[state][moved]
    except KeyError:
        raise IllegalMove(f"a stream that is {state} cannot move by {moved!r}") from None
