"""Somebody asks to stop, or nobody listens any more, while other things go wrong."""

from __future__ import annotations

from ..actions import Cancel, Ended, Freeze, Held, Leave, Post, Read, Release, Script, Sealed, Stall, Thaw, Trespass
from ..history import End, Turn
from ..scenario import Scenario
from ..server import Options
from ..waits import Answered, Attached, CaughtUp, Lost, Pass
from .parts import BEGUN, CANCELLED, COMPLETED, EVERY, HELD, INTERRUPTED, TOKENS

STOPPED = (Turn(name="turn", outcomes=CANCELLED, stoppable=True),)

SCENARIOS = (
    Scenario(
        name="stop",
        what="A stop in mid-answer reaches the provider; the partial is kept for everybody.",
        turns=STOPPED,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Read(label="tab", form="events"),
            Cancel(),
            Lost(),
            Answered("caller", (200,), (End.CUT,)),
            Answered("tab", (200,), (End.TOLD,)),
            Cancel(),
            Post(turn="turn", label="again"),
            Answered("again", (200,), (End.CUT,)),
        ),
    ),
    Scenario(
        name="stop-early",
        what="A stop before the provider has answered at all.",
        turns=STOPPED,
        steps=(
            Script({"tokens": TOKENS, "fault": "stall", "before_head": True}),
            Post(turn="turn", headers={"prefer": "respond-async"}),
            Held(),
            Answered("caller", (202,)),
            Cancel(),
            Lost(),
            Sealed(),
        ),
    ),
    Scenario(
        name="stop-from-another-worker",
        what="A stop that another worker is asked for reaches the provider.",
        turns=STOPPED,
        durable=True,
        workers=2,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Cancel(worker=2),
            Lost(),
            Ended("caller"),
            Post(turn="turn", label="again", worker=2),
            Answered("again", (200,), (End.CUT,)),
        ),
    ),
    Scenario(
        name="stop-while-partitioned",
        what="A stop through the other worker while nothing passes to the provider.",
        turns=STOPPED,
        durable=True,
        workers=2,
        dialects=EVERY,
        steps=(*BEGUN, Stall("main"), Release(), Cancel(worker=2), Ended("caller"), Sealed()),
    ),
    Scenario(
        name="stop-while-frozen",
        what="A stop while the stream's worker is frozen past its lease: one end, whichever was first.",
        turns=(Turn(name="turn", outcomes=CANCELLED | INTERRUPTED, stoppable=True),),
        durable=True,
        workers=2,
        options=Options(policy={"lease_s": 1}),
        steps=(*BEGUN, Freeze(1), Cancel(worker=2), Sealed(), Thaw(1), Lost(), Ended("caller")),
    ),
    Scenario(
        name="stop-races-the-end",
        what="A stop in the moment in which the answer goes on to its end: it has one of the two.",
        turns=(Turn(name="turn", outcomes=CANCELLED | COMPLETED, stoppable=True),),
        dialects=EVERY,
        steps=(
            *BEGUN,
            Read(label="tab"),
            Release(),
            Cancel(),
            Ended("caller"),
            Post(turn="turn", label="again"),
            Attached(("caller", "again")),
        ),
    ),
    Scenario(
        name="stop-by-a-stranger",
        what="A stranger reads and stops nothing, and learns nothing, while the answer is live.",
        turns=(Turn(name="turn", outcomes=COMPLETED),),
        dialects=EVERY,
        steps=(*BEGUN, Trespass(), Release(), Answered("caller", (200,), (End.CLEAN,))),
    ),
    Scenario(
        name="stop-when-nobody-listens",
        what="The policy is to stop when the last reader leaves; a first one that leaves is not the last.",
        turns=STOPPED,
        options=Options(policy={"on_disconnect": "cancel"}),
        dialects=EVERY,
        steps=(
            *BEGUN,
            Read(label="tab"),
            CaughtUp("tab"),
            Leave("caller"),
            Post(turn="turn", label="again"),
            CaughtUp("again"),
            Leave("tab"),
            Leave("again"),
            Lost(),
            Sealed(),
        ),
    ),
    Scenario(
        name="stop-after-grace",
        what="The policy gives readers a second to come back: who does saves the answer, who does not lets it stop.",
        turns=(
            Turn(name="turn", outcomes=COMPLETED),
            Turn(name="left", outcomes=CANCELLED, stoppable=True),
        ),
        options=Options(policy={"on_disconnect": "grace:1"}),
        steps=(
            *BEGUN,
            HELD,
            Post(turn="left", label="gone"),
            Held(2),
            CaughtUp("gone"),
            Leave("caller"),
            Leave("gone"),
            Pass(0.2),
            Post(turn="turn", label="back"),
            CaughtUp("back"),
            Lost(),
            Sealed("gone"),
            Release(),
            Answered("back", (200,), (End.CLEAN,)),
        ),
    ),
)
