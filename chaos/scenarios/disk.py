"""The store's disk is full: before a start, and in the middle of an answer."""

from __future__ import annotations

from ..actions import Answered, Ended, FillDisk, FreeDisk, Post, Read, Release, Sealed
from ..history import End, Turn
from ..scenario import Scenario
from .parts import BEGUN, COMPLETED, EVERY, INTERRUPTED, WHOLE

NEW = Turn(name="new", outcomes=COMPLETED)
REFUSED = (503, 507)

SCENARIOS = (
    Scenario(
        name="disk-full-at-the-start",
        what="A start that cannot be written down is refused, and calls nobody; with space again it is made.",
        turns=(NEW,),
        durable=True,
        dialects=EVERY,
        steps=(
            FillDisk(),
            Post(turn="new", label="refused"),
            Answered("refused", REFUSED),
            FreeDisk(),
            WHOLE,
            Post(turn="new"),
            Answered("caller", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="disk-full-in-mid-answer",
        what="What was read is kept, the rest is cut and says so, new starts are refused until there is space again.",
        turns=(Turn(name="turn", outcomes=INTERRUPTED, stoppable=True), NEW),
        durable=True,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Read(label="tab", form="events"),
            FillDisk(),
            Post(turn="new", label="refused"),
            Answered("refused", REFUSED),
            Release(),
            Ended("caller"),
            Ended("tab"),
            FreeDisk(),
            Sealed(),
            WHOLE,
            Post(turn="new", label="new"),
            Answered("new", (200,), (End.CLEAN,)),
            Post(turn="turn", label="again"),
            Answered("again", (200,), (End.CUT,)),
        ),
    ),
)
