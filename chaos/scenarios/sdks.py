"""Callers that are real processes with the providers' official SDKs."""

from __future__ import annotations

from ..actions import Call, CutAfter, Heard, Hears, Held, Kill, KillCaller, Post, Release, Start
from ..history import Turn
from ..scenario import Scenario
from ..stage import Between
from .parts import COMPLETED, EVERY, HELD, INTERRUPTED, TEXT, TRUNCATED

WATCH = {"stream-match": "key"}
"""Who looks for the stream of a key has not its request: an SDK wrote that."""

SCENARIOS = (
    Scenario(
        name="sdk-caller-killed",
        what="A process with an SDK gets SIGKILL after any event; started again, it is handed the whole answer.",
        turns=(Turn(name="turn", outcomes=COMPLETED, text=TEXT),),
        durable=True,
        dialects=EVERY,
        steps=(
            HELD,
            Call(turn="turn"),
            Held(),
            Hears(),
            KillCaller(),
            Call(turn="turn", label="again"),
            Hears("again"),
            Release(),
            Heard("again"),
            Post(turn="turn", label="watch", headers=WATCH),
        ),
    ),
    Scenario(
        name="sdk-upstream-cut",
        what="The provider's connection ends in mid-answer: the SDK raises, now and for who asks later.",
        turns=(Turn(name="turn", outcomes=TRUNCATED, text=TEXT, stoppable=True),),
        durable=True,
        dialects=EVERY,
        steps=(
            HELD,
            Call(turn="turn"),
            Held(),
            Hears(),
            CutAfter("main", Between(1, 1200)),
            Release(),
            Heard(finished=False),
            Call(turn="turn", label="again"),
            Heard("again", finished=False),
            Post(turn="turn", label="watch", headers=WATCH),
        ),
    ),
    Scenario(
        name="sdk-buffer-killed",
        what="The server dies and comes back: no SDK takes what is left for whole.",
        turns=(Turn(name="turn", outcomes=INTERRUPTED, text=TEXT, stoppable=True),),
        durable=True,
        dialects=EVERY,
        steps=(
            HELD,
            Call(turn="turn"),
            Held(),
            Hears(),
            Kill(),
            Start(),
            Call(turn="turn", label="again"),
            Heard("again", finished=False),
            Post(turn="turn", label="watch", headers=WATCH),
        ),
    ),
)
