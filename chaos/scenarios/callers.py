"""The caller dies, leaves, or is cut off."""

from __future__ import annotations

from ..actions import Held, Leave, Post, Read, Release, Script, Until
from ..history import Turn
from ..scenario import Scenario

COMPLETES = frozenset({"completed"})

SCENARIOS = (
    Scenario(
        name="caller-killed",
        what="The caller dies in mid-answer; the same key, asked again, has all of it from one call.",
        turns=(Turn(name="turn", outcomes=COMPLETES),),
        steps=(
            Script({"tokens": 60, "hold_at": 20}),
            Post(turn="turn"),
            Until("caller", 2000),
            Held(),
            Leave("caller"),
            Post(turn="turn", label="again"),
            Until("again", 2000),
            Release(),
        ),
    ),
    Scenario(
        name="second-tab",
        what="A second reader joins in mid-answer from the start, a third from where the first one is.",
        turns=(Turn(name="turn", outcomes=COMPLETES),),
        steps=(
            Script({"tokens": 60, "hold_at": 20}),
            Post(turn="turn"),
            Until("caller", 2000),
            Held(),
            Read(label="tab", form="events"),
            Until("tab", 2000),
            Read(label="device", offset="here"),
            Release(),
        ),
    ),
)
