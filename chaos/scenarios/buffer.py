"""The server itself is killed, frozen, told to end, or all of that to one worker of two."""

from __future__ import annotations

from ..actions import Ended, Freeze, Gone, Held, Kill, Post, Read, Release, Script, Sealed, Start, Stop, Terminate, Thaw
from ..crowds import Load, Loaded
from ..history import End, Turn
from ..scenario import Scenario
from ..server import Options
from ..waits import Answered, Attached, CaughtUp, Lost, Pass
from .parts import BEGUN, COMPLETED, EVERY, INTERRUPTED, TOKENS

DIES = (Turn(name="turn", outcomes=INTERRUPTED, stoppable=True),)
GOES_ON = (Turn(name="turn", outcomes=COMPLETED),)
LOAD = tuple(f"load-{number}" for number in range(1, 13))
SHORT_LEASE = Options(policy={"lease_s": 1})

SCENARIOS = (
    Scenario(
        name="buffer-killed",
        what="The server is killed after any event; what readers saw is there after its restart, and nobody is called.",
        turns=DIES,
        durable=True,
        everywhere=True,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Read(label="tab", form="events"),
            CaughtUp("tab"),
            Kill(),
            Ended("caller"),
            Start(),
            Post(turn="turn", label="again"),
            Answered("again", (200,), (End.CUT,)),
        ),
    ),
    Scenario(
        name="buffer-killed-early",
        what="The server is killed between its call and the answer to it; nobody calls again.",
        turns=DIES,
        durable=True,
        dialects=EVERY,
        steps=(
            Script({"fault": "stall", "before_head": True}),
            Post(turn="turn"),
            Held(),
            Kill(),
            Start(),
            Post(turn="turn", label="again"),
            Answered("again", (502,)),
        ),
    ),
    Scenario(
        name="buffer-killed-again",
        what="It is killed once more as soon as it is back: recovery may be interrupted as well.",
        turns=DIES,
        durable=True,
        steps=(
            *BEGUN,
            Kill(),
            Start(),
            Kill(),
            Start(),
            Post(turn="turn", label="again"),
            Answered("again", (200,), (End.CUT,)),
        ),
    ),
    Scenario(
        name="buffer-killed-beside-another",
        what="One of two workers is killed; the other ends its streams within a lease, and tells their readers.",
        turns=DIES,
        durable=True,
        workers=2,
        options=SHORT_LEASE,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Read(label="beside", worker=2),
            CaughtUp("beside"),
            Kill(1),
            Answered("beside", (200,), (End.CUT,)),
            Post(turn="turn", label="again", worker=2),
            Attached(("caller", "again")),
            Start(1),
        ),
    ),
    Scenario(
        name="buffer-frozen",
        what="A worker is frozen past its lease and thawed: another ended its stream, and no late byte lands.",
        turns=DIES,
        durable=True,
        workers=2,
        options=SHORT_LEASE,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Read(label="beside", worker=2),
            CaughtUp("beside"),
            Freeze(1),
            Release(),
            Sealed(),
            Answered("beside", (200,), (End.CUT,)),
            Thaw(1),
            Ended("caller"),
            Post(turn="turn", label="again", worker=1),
            Attached(("caller", "again")),
        ),
    ),
    Scenario(
        name="buffer-frozen-briefly",
        what="A worker is frozen for less than its lease: nobody takes anything from it.",
        turns=GOES_ON,
        durable=True,
        workers=2,
        options=Options(policy={"lease_s": 6}),
        steps=(
            *BEGUN,
            Read(label="beside", worker=2),
            CaughtUp("beside"),
            Freeze(1),
            Pass(0.5),
            Thaw(1),
            Release(),
            Answered("beside", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="buffer-drained",
        what="SIGTERM cuts readers, and lets the answer come to its end first.",
        turns=GOES_ON,
        durable=True,
        dialects=EVERY,
        options=Options(policy={"drain_s": 15}),
        steps=(
            *BEGUN,
            Terminate(),
            Answered("caller", (200,), (End.CUT,)),
            Release(),
            Gone(),
            Start(),
            Post(turn="turn", label="again", resumes="caller"),
            Answered("again", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="buffer-drained-in-vain",
        what="SIGTERM, and the answer does not end in time: it is sealed as interrupted.",
        turns=DIES,
        durable=True,
        options=Options(policy={"drain_s": 0.2}),
        steps=(
            *BEGUN,
            Stop(),
            Lost(),
            Start(),
            Post(turn="turn", label="again"),
            Answered("again", (200,), (End.CUT,)),
        ),
    ),
    Scenario(
        name="rolling-restart",
        what="Two workers are restarted one after the other under load; every caller gets a whole answer of one call.",
        turns=tuple(Turn(name=name, outcomes=COMPLETED) for name in LOAD),
        durable=True,
        workers=2,
        options=Options(policy={"drain_s": 15}),
        steps=(
            Script({"tokens": TOKENS, "delay_s": 0.01}, every=True),
            Load(turns=LOAD, every_s=0.3),
            Stop(1),
            Start(1),
            Stop(2),
            Start(2),
            Loaded(),
        ),
    ),
)
