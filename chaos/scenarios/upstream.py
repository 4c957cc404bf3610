"""The provider, or the network before it: cut, reset, silent, unreachable, wrong."""

from __future__ import annotations

from ..actions import (
    Answered,
    Arm,
    Attached,
    Cut,
    CutAfter,
    Ended,
    Heal,
    Held,
    Mend,
    Pass,
    Played,
    Post,
    Read,
    Release,
    Script,
    Sealed,
    Stall,
    TimeOut,
    Trickle,
)
from ..history import End, Turn
from ..scenario import Scenario
from ..server import Options
from ..stage import Between
from .parts import BEGUN, COMPLETED, EVERY, PROVIDER_ERROR, STALLED, TOKENS, TRUNCATED, WHOLE

CUT = (Turn(name="turn", outcomes=TRUNCATED, stoppable=True),)
"""The provider may see its client leave before it has noticed that it is cut off."""
IS_CUT = (Turn(name="turn", outcomes=TRUNCATED),)
FAILS_FIRST = (Turn(name="turn", outcomes=PROVIDER_ERROR | COMPLETED),)
WHOLE_IN_THE_END = (Turn(name="turn", outcomes=COMPLETED),)
SILENT = (Turn(name="turn", outcomes=STALLED, stoppable=True),)
LATER = (
    Ended("caller"),
    Sealed(),
    Read(label="late"),
    Post(turn="turn", label="again"),
    Attached(("caller", "again")),
)
"""Who comes when it is over finds the same."""
BEGINS_ANEW = (
    WHOLE,
    Post(turn="turn", label="again"),
    Answered("again", (200,), (End.CLEAN,)),
    Post(turn="turn", label="late"),
    Attached(("again", "late")),
)
"""The key is free, and then taken."""
IMPATIENT = Options(policy={"first_byte_s": 0.5, "stall_s": 0.5})
BYTE = Between(1, 6000)


def _breaks(fault: str, what: str) -> Scenario:
    return Scenario(
        name=f"upstream-{fault}",
        what=what,
        turns=IS_CUT,
        dialects=EVERY,
        steps=(
            Script({"tokens": TOKENS, "fault": fault, "at_byte": BYTE, "chunking": "random:5"}),
            Post(turn="turn"),
            *LATER,
        ),
    )


SCENARIOS = (
    Scenario(
        name="upstream-cut",
        what="The provider's connection ends after any byte; the partial is kept and never looks complete.",
        turns=CUT,
        everywhere=True,
        dialects=EVERY,
        steps=(*BEGUN, CutAfter("main", Between(1, 1200)), Release(), *LATER),
    ),
    Scenario(
        name="upstream-cut-early",
        what="The provider's connection ends after any of the first bytes, its head's included.",
        turns=CUT,
        dialects=EVERY,
        steps=(CutAfter("main", Between(1, 600)), WHOLE, Post(turn="turn"), *LATER),
    ),
    Scenario(
        name="upstream-reset",
        what="The provider's connection is reset in mid-answer.",
        turns=CUT,
        dialects=EVERY,
        steps=(Arm("main"), *BEGUN, Cut("main"), *LATER),
    ),
    Scenario(
        name="upstream-times-out",
        what="What the provider sends is lost on its way, until somebody in between gives the connection up.",
        turns=CUT,
        dialects=EVERY,
        steps=(*BEGUN, TimeOut("main"), Release(), *LATER),
    ),
    _breaks("fin", "The provider ends its connection after an exact byte."),
    _breaks("rst", "The provider resets its connection after an exact byte."),
    _breaks("half-close", "The provider ends its side of the connection after an exact byte, and reads on."),
    _breaks("garbage", "The provider sends what is no HTTP."),
    _breaks("clean", "The provider ends its answer as framed, and before the end."),
    Scenario(
        name="upstream-refuses",
        what="The provider refuses: everybody who waits gets its words, and the next start is a new one.",
        turns=FAILS_FIRST,
        dialects=EVERY,
        steps=(
            Script({"status": 529}),
            Post(turn="turn"),
            Answered("caller", (529,), (End.CLEAN,)),
            *BEGINS_ANEW,
        ),
    ),
    Scenario(
        name="upstream-fails",
        what="The provider says in mid-answer that it failed: those are the last words, for everybody.",
        turns=(Turn(name="turn", outcomes=PROVIDER_ERROR),),
        dialects=EVERY,
        steps=(
            Script({"tokens": TOKENS, "error_at": Between(6, 50)}),
            Post(turn="turn"),
            Answered("caller", (200,), (End.TOLD,)),
            Read(label="late", form="events"),
            Answered("late", (200,), (End.TOLD,)),
            Post(turn="turn", label="again"),
            Answered("again", (200,), (End.TOLD,)),
        ),
    ),
    Scenario(
        name="upstream-fails-at-once",
        what="The provider says as its first word that it failed: not billed, so the next start is a new one.",
        turns=FAILS_FIRST,
        dialects=EVERY,
        steps=(
            Script({"error_at": 0}),
            Post(turn="turn"),
            Answered("caller", (200,), (End.TOLD,)),
            *BEGINS_ANEW,
        ),
    ),
    Scenario(
        name="upstream-slow",
        what="The provider takes its time for the head and for each event.",
        turns=WHOLE_IN_THE_END,
        dialects=EVERY,
        steps=(
            Script({"tokens": TOKENS, "headers_delay_s": 0.3, "delay_s": 0.005, "chunking": "random:3"}),
            Post(turn="turn"),
            Answered("caller", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="upstream-trickled",
        what="The provider's answer comes in pieces of a few bytes.",
        turns=WHOLE_IN_THE_END,
        dialects=EVERY,
        steps=(Trickle("main", 31), WHOLE, Post(turn="turn"), Answered("caller", (200,), (End.CLEAN,))),
    ),
    Scenario(
        name="upstream-silent",
        what="The provider takes the request and never answers: 504, once for all, and no second call.",
        turns=SILENT,
        dialects=EVERY,
        options=IMPATIENT,
        steps=(
            Script({"fault": "stall", "before_head": True}),
            Post(turn="turn"),
            Answered("caller", (504,)),
            Post(turn="turn", label="again"),
            Answered("again", (504,)),
        ),
    ),
    Scenario(
        name="upstream-partitioned-early",
        what="Nothing passes to the provider before the first byte: it may have the request, so nobody calls again.",
        turns=(Turn(name="turn", outcomes=STALLED, dispatched=False, stoppable=True),),
        dialects=EVERY,
        options=IMPATIENT,
        steps=(
            Stall("main"),
            Post(turn="turn"),
            Answered("caller", (504,)),
            Post(turn="turn", label="again"),
            Answered("again", (504,)),
        ),
    ),
    Scenario(
        name="upstream-partitioned",
        what="Nothing passes to the provider in mid-answer: given up after `stall_s`, and the partial is kept.",
        turns=SILENT,
        dialects=EVERY,
        options=IMPATIENT,
        steps=(*BEGUN, Stall("main"), Release(), *LATER),
    ),
    Scenario(
        name="upstream-partition-healed",
        what="Nothing passes to the provider for less than `stall_s`: nobody has lost anything.",
        turns=WHOLE_IN_THE_END,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Stall("main"),
            Release(),
            Played(),
            Pass(0.3),
            Heal("main"),
            Answered("caller", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="upstream-unreachable",
        what="No connection to the provider: nothing was billed, so the next start is a new one.",
        turns=FAILS_FIRST,
        dialects=EVERY,
        steps=(
            Cut("main"),
            Post(turn="turn"),
            Answered("caller", (502,)),
            Mend("main"),
            *BEGINS_ANEW,
        ),
    ),
    Scenario(
        name="upstream-stalls-and-heals",
        what="The provider itself is silent in mid-answer, and goes on.",
        turns=WHOLE_IN_THE_END,
        dialects=EVERY,
        steps=(
            Script({"tokens": TOKENS, "fault": "stall", "at_byte": BYTE}),
            Post(turn="turn"),
            Held(),
            Pass(0.2),
            Release(),
            Answered("caller", (200,), (End.CLEAN,)),
        ),
    ),
)
