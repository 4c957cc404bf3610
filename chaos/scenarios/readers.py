"""Readers are cut, reset, stalled, slowed down, or come and go by the thousand."""

from __future__ import annotations

from ..actions import (
    Answered,
    Arm,
    CaughtUp,
    Cut,
    CutAfter,
    Ended,
    Leave,
    Mend,
    Pass,
    Pause,
    Post,
    Read,
    Reconnect,
    Release,
    Resume,
    Script,
    Sealed,
    Trickle,
    Uncut,
    Until,
)
from ..history import Bounds, End, Turn
from ..scenario import Scenario
from ..server import Options
from ..stage import Between
from .parts import BEGUN, COMPLETED, EVERY, TOKENS

TURNS = (Turn(name="turn", outcomes=COMPLETED),)
MANY = 150_000
"""Tokens of an answer that no buffer on the way takes as a whole."""

SCENARIOS = (
    Scenario(
        name="reader-cut",
        what="A reader's connection ends after any byte; it comes back and gets the rest.",
        turns=TURNS,
        dialects=EVERY,
        steps=(
            *BEGUN,
            CutAfter("worker-1", Between(1200, 2400)),
            Read(label="tab"),
            Release(),
            Answered("tab", (200,), (End.CUT,)),
            Ended("caller"),
            Uncut("worker-1"),
            Read(of="tab", label="back", offset="here"),
            Answered("back", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="reader-reset",
        what="All connections of readers are reset; each comes back behind the last event that it had.",
        turns=TURNS,
        dialects=EVERY,
        steps=(
            Arm("worker-1"),
            *BEGUN,
            Read(label="tab", form="events"),
            CaughtUp("tab"),
            Cut("worker-1"),
            Ended("tab"),
            Mend("worker-1"),
            Read(of="tab", label="back", offset="here", form="events"),
            Post(turn="turn", label="again", resumes="caller"),
            Release(),
            Answered("back", (200,), (End.CLEAN,)),
            Answered("again", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="reader-stalled",
        what="A reader reads nothing; nobody waits for it, no memory grows with it, and later it has all of it.",
        turns=TURNS,
        durable=True,
        options=Options(policy={"window_bytes": 2**20}),
        bounds=Bounds(growth_bytes=20 * 2**20),
        steps=(
            Script({"tokens": MANY, "chunking": (65536,)}),
            Post(turn="turn"),
            Until("caller"),
            Read(label="stuck"),
            Until("stuck"),
            Pause("stuck"),
            Answered("caller", (200,), (End.CLEAN,)),
            Sealed(),
            Resume("stuck"),
            Answered("stuck", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="reader-trickled",
        what="Every answer reaches its reader in pieces of a few bytes.",
        turns=TURNS,
        dialects=EVERY,
        steps=(
            Trickle("worker-1", 29),
            *BEGUN,
            Read(label="tab", form="events"),
            Release(),
            Answered("tab", (200,), (End.CLEAN,)),
            Answered("caller", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="readers-reconnecting",
        what="Two thousand readers come to a live answer at any place, and go with a reset.",
        turns=TURNS,
        bounds=Bounds(growth_bytes=12 * 2**20),
        steps=(*BEGUN, Reconnect(times=2000), Release(), Answered("caller", (200,), (End.CLEAN,))),
    ),
    Scenario(
        name="readers-waiting",
        what="The provider thinks for some seconds; who waits with EventSource hears that the server is there.",
        turns=TURNS,
        options=Options(policy={"keepalive_s": 0.5}),
        bounds=Bounds(silence_s=3),
        dialects=EVERY,
        steps=(
            *BEGUN,
            Read(label="tab", form="events"),
            CaughtUp("tab"),
            Leave("caller"),
            Pass(4.5),
            Release(),
            Answered("tab", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="reader-slow",
        what="A slow reader beside quick ones: each gets all of it in its own time.",
        turns=TURNS,
        dialects=EVERY,
        steps=(
            Script({"tokens": TOKENS, "delay_s": 0.002}),
            Post(turn="turn"),
            Until("caller"),
            Read(label="slow", form="events", slow_s=0.02),
            Answered("caller", (200,), (End.CLEAN,)),
            Answered("slow", (200,), (End.CLEAN,)),
        ),
    ),
)
