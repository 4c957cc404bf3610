"""The same start many times over: at once, on several workers, by others, for another question."""

from __future__ import annotations

from ..actions import Answered, Attached, CaughtUp, Ended, Held, Post, Race, Release, Script, Sealed
from ..history import End, Turn
from ..scenario import Scenario
from ..stage import PROMPT, STRANGER, Between
from .parts import BEGUN, COMPLETED, EVERY, TOKENS, TRUNCATED, WHOLE

TURN = Turn(name="turn", outcomes=COMPLETED)
SLOW_HEAD = Script({"tokens": TOKENS, "headers_delay_s": 0.1, "delay_s": 0.002})
MANY = 16
CALLERS = tuple(f"caller-{number}" for number in range(1, MANY + 1))
ALL_WHOLE = tuple(Answered(label, (200,), (End.CLEAN,)) for label in CALLERS)

SCENARIOS = (
    Scenario(
        name="starts-racing",
        what="Many callers start the same at once: one call, and the same bytes for each.",
        turns=(TURN,),
        dialects=EVERY,
        steps=(SLOW_HEAD, Race(turn="turn", callers=MANY), Attached(CALLERS), *ALL_WHOLE),
    ),
    Scenario(
        name="starts-racing-on-workers",
        what="Many callers start the same at once, through two workers.",
        turns=(TURN,),
        durable=True,
        workers=2,
        dialects=EVERY,
        steps=(SLOW_HEAD, Race(turn="turn", callers=MANY, workers=2), Attached(CALLERS), *ALL_WHOLE),
    ),
    Scenario(
        name="start-repeated-on-another-worker",
        what="The key is asked again through the other worker, in mid-answer and afterwards.",
        turns=(TURN,),
        durable=True,
        workers=2,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Post(turn="turn", label="beside", worker=2),
            CaughtUp("beside"),
            Release(),
            Answered("beside", (200,), (End.CLEAN,)),
            Post(turn="turn", label="late", worker=2),
            Answered("late", (200,), (End.CLEAN,)),
            Attached(("caller", "beside", "late")),
        ),
    ),
    Scenario(
        name="start-differs",
        what="The same key with another question is refused, and nobody is called for it.",
        turns=(TURN,),
        dialects=EVERY,
        steps=(
            *BEGUN,
            Post(turn="turn", label="other", prompt=f"{PROMPT}, another one"),
            Answered("other", (422,)),
            Release(),
            Answered("caller", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="start-by-a-stranger",
        what="Somebody else's same key is another key.",
        turns=(TURN, Turn(name="strangers", outcomes=COMPLETED)),
        steps=(
            *BEGUN,
            WHOLE,
            Post(turn="strangers", key="turn", label="stranger", headers=STRANGER),
            Answered("stranger", (200,), (End.CLEAN,)),
            Attached(("caller", "stranger"), together=False),
            Release(),
        ),
    ),
    Scenario(
        name="start-with-consent",
        what="After a failure two callers consent at once to pay again: one new call, for both.",
        turns=(Turn(name="turn", outcomes=TRUNCATED | COMPLETED, calls=2),),
        dialects=EVERY,
        steps=(
            Script({"tokens": TOKENS, "fault": "rst", "at_byte": Between(1, 6000)}),
            Post(turn="turn"),
            Ended("caller"),
            Sealed(),
            Script({"tokens": TOKENS, "hold_at": 10}),
            Post(turn="turn", label="one", consents="caller"),
            Post(turn="turn", label="two", consents="caller"),
            Held(),
            Attached(("one", "two")),
            Attached(("caller", "one"), together=False),
            Release(),
            Answered("one", (200,), (End.CLEAN,)),
            Answered("two", (200,), (End.CLEAN,)),
        ),
    ),
)
