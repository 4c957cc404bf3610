"""A provider fails and there is another one: before its first byte, and after it."""

from __future__ import annotations

from typing import Any

from ..actions import Answered, Attached, CaughtUp, Cut, Ended, Held, Post, Read, Release, Script, Sealed
from ..history import End, Turn
from ..scenario import Scenario
from ..server import Options
from ..stage import UPSTREAM, Between
from .parts import COMPLETED, EVERY, TOKENS, TRUNCATED, WHOLE

BACKUP = "backup"
TWO = (UPSTREAM, BACKUP)
ONE_CALL = (Turn(name="turn", outcomes=COMPLETED),)
BREAKS = Script({"tokens": TOKENS, "fault": "rst", "at_byte": Between(1500, 6000)})
BREAKS_UNDER_A_READER = (
    Script({"tokens": TOKENS, "hold_at": 1, "fault": "rst", "at_byte": Between(1500, 6000)}),
    Script({"tokens": TOKENS, "hold_at": 20}),
    Post(turn="turn"),
    Held(),
    CaughtUp(),
    Release(),
)
"""Who comes when the second call has begun gets that: the caller has to read before the first one breaks off."""
WHOLE_ANSWER = Answered("caller", (200,), (End.CLEAN,))


def fallbacks(**main: Any) -> Options:
    """The second is called with the operator's own credential: a caller's goes only where it was sent to."""
    backup = {"headers": {"authorization": "Bearer of-the-operator", "x-goog-api-key": "of-the-operator"}}
    return Options(upstreams={UPSTREAM: {"fallbacks": [BACKUP], **main}, BACKUP: backup})


SCENARIOS = (
    Scenario(
        name="failover-refused",
        what="The first provider refuses, the second answers; the caller sees one answer.",
        turns=ONE_CALL,
        upstreams=TWO,
        options=fallbacks(),
        dialects=EVERY,
        steps=(Script({"status": 503}), WHOLE, Post(turn="turn"), WHOLE_ANSWER),
    ),
    Scenario(
        name="failover-after-a-retry",
        what="The first provider is asked again before the second is.",
        turns=ONE_CALL,
        upstreams=TWO,
        options=fallbacks(retries=1),
        steps=(Script({"status": 503}), Script({"status": 429}), WHOLE, Post(turn="turn"), WHOLE_ANSWER),
    ),
    Scenario(
        name="failover-unreachable",
        what="No connection to the first provider.",
        turns=ONE_CALL,
        upstreams=TWO,
        options=fallbacks(),
        dialects=EVERY,
        steps=(Cut(UPSTREAM), WHOLE, Post(turn="turn"), WHOLE_ANSWER),
    ),
    Scenario(
        name="failover-not-when-in-doubt",
        what="The first provider may have taken the request: nobody else is called, and the caller is told.",
        turns=(Turn(name="turn", outcomes=TRUNCATED),),
        upstreams=TWO,
        options=fallbacks(retries=2),
        dialects=EVERY,
        steps=(
            Script({"fault": "rst", "before_head": True}),
            Post(turn="turn"),
            Answered("caller", (502,)),
            Post(turn="turn", label="again"),
            Answered("again", (502,)),
        ),
    ),
    Scenario(
        name="failover-never-mid-stream",
        what="The first provider breaks off: without the operator's consent the second is not called.",
        turns=(Turn(name="turn", outcomes=TRUNCATED),),
        upstreams=TWO,
        options=fallbacks(),
        steps=(
            BREAKS,
            Post(turn="turn"),
            Ended("caller"),
            Sealed(),
            Post(turn="turn", label="again"),
            Answered("again", (200,), (End.CUT,)),
        ),
    ),
    Scenario(
        name="failover-by-segment",
        what="The first provider breaks off, the second begins a new segment; no answer goes from one into the other.",
        turns=(Turn(name="turn", outcomes=COMPLETED, calls=2),),
        upstreams=TWO,
        options=fallbacks(failover="segment"),
        dialects=EVERY,
        steps=(
            *BREAKS_UNDER_A_READER,
            Answered("caller", (200,), (End.CUT,)),
            Held(),
            Read(label="first"),
            Answered("first", (200,), (End.CUT,)),
            Post(turn="turn", label="again"),
            CaughtUp("again"),
            Release(),
            Answered("again", (200,), (End.CLEAN,)),
            Attached(("caller", "again")),
        ),
    ),
    Scenario(
        name="failover-exhausted",
        what="Both providers break off: two segments, the stream is truncated, and nothing is spliced.",
        turns=(Turn(name="turn", outcomes=TRUNCATED, calls=2),),
        upstreams=TWO,
        options=fallbacks(failover="segment"),
        steps=(
            BREAKS,
            BREAKS,
            Post(turn="turn"),
            Ended("caller"),
            Sealed(),
            Post(turn="turn", label="again"),
            Answered("again", (200,), (End.CUT,)),
        ),
    ),
)
