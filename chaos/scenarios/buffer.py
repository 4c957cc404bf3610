"""The server itself is killed, frozen, or stopped."""

from __future__ import annotations

from ..actions import Ended, Held, Kill, Post, Read, Script, Start, Until
from ..history import Turn
from ..scenario import Scenario

SCENARIOS = (
    Scenario(
        name="buffer-killed",
        what="The server is killed in mid-answer; what readers saw is there after its restart, and nobody is called.",
        turns=(Turn(name="turn", outcomes=frozenset({"interrupted"}), stoppable=True),),
        durable=True,
        steps=(
            Script({"tokens": 60, "hold_at": 20}),
            Post(turn="turn"),
            Until("caller", 2000),
            Held(),
            Read(label="tab", form="events"),
            Until("tab", 2000),
            Kill(),
            Ended("caller"),
            Start(),
            Post(turn="turn", label="again"),
        ),
    ),
)
