"""The caller dies, leaves, or is cut off."""

from __future__ import annotations

from ..actions import (
    Answered,
    Arm,
    Attached,
    CaughtUp,
    Cut,
    Ended,
    Heal,
    Held,
    Leave,
    Played,
    Post,
    Read,
    Release,
    Script,
    Stall,
    Trespass,
)
from ..history import End, Turn
from ..scenario import Scenario
from .parts import BEGUN, COMPLETED, EVERY, TOKENS

TURNS = (Turn(name="turn", outcomes=COMPLETED),)

SCENARIOS = (
    Scenario(
        name="caller-killed",
        what="The caller dies after any event; the same key, asked again, has all of it from one call.",
        turns=TURNS,
        everywhere=True,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Leave("caller"),
            Trespass(),
            Post(turn="turn", label="again"),
            CaughtUp("again"),
            Release(),
            Answered("again", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="caller-left",
        what="The caller ends its connection in good order, and that is no stop either.",
        turns=TURNS,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Leave("caller", reset=False),
            Release(),
            Played(),
            Post(turn="turn", label="again"),
            Answered("again", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="caller-killed-early",
        what="The caller dies before the provider has answered at all.",
        turns=TURNS,
        dialects=EVERY,
        steps=(
            Script({"tokens": TOKENS, "fault": "stall", "before_head": True}),
            Post(turn="turn"),
            Held(),
            Leave("caller"),
            Post(turn="turn", label="again"),
            Release(),
            Answered("again", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="caller-partitioned",
        what="Nothing passes between caller and server for a while; then the same answer goes on, whole.",
        turns=TURNS,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Stall("worker-1"),
            Release(),
            Played(),
            Heal("worker-1"),
            Answered("caller", (200,), (End.CLEAN,)),
        ),
    ),
    Scenario(
        name="caller-partitioned-for-good",
        what="A partition ends in a reset; the caller comes back by another way and goes on where it was.",
        turns=TURNS,
        dialects=EVERY,
        steps=(
            Arm("worker-1"),
            *BEGUN,
            Stall("worker-1"),
            Release(),
            Played(),
            Cut("worker-1"),
            Ended("caller"),
            Post(turn="turn", label="again", resumes="caller", direct=True),
            Answered("again", (200,), (End.CLEAN,)),
            Attached(("caller", "again")),
        ),
    ),
    Scenario(
        name="second-tab",
        what="A second reader joins in mid-answer from the start, a third from where the first one is.",
        turns=TURNS,
        everywhere=True,
        dialects=EVERY,
        steps=(
            *BEGUN,
            Read(label="tab", form="events"),
            CaughtUp("tab"),
            Read(label="device", offset="here"),
            Release(),
            *(Answered(label, (200,), (End.CLEAN,)) for label in ("caller", "tab", "device")),
        ),
    ),
)
