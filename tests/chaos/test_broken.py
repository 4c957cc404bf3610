"""A server with one thing broken on purpose does not get past the scenarios, and the right invariant says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos import targets
from chaos.actions import (
    Cancel,
    CaughtUp,
    CutAfter,
    Ended,
    Finished,
    Freeze,
    Held,
    Kill,
    Leave,
    Pass,
    Post,
    Read,
    Release,
    Script,
    Start,
    Thaw,
    Until,
)
from chaos.history import Bounds, Turn
from chaos.scenario import Scenario, Verdict, play
from chaos.server import EMBEDDED, Configuration, Options, Target

BROKEN = Target(app="chaos.targets.broken:app")
WHERE = Configuration("sqlite", "asyncio")

COMPLETES = Turn(name="turn", outcomes=frozenset({"completed"}))
HOLDS = (Script({"tokens": 60, "hold_at": 20}), Post(turn="turn"), Until("caller", 2000), Held())


SCENARIOS = {
    "caller-killed": Scenario(
        name="caller-killed",
        what="The caller dies, and asks again.",
        turns=(COMPLETES,),
        bounds=Bounds(end_s=10),
        steps=(*HOLDS, Leave("caller"), Post(turn="turn", label="again"), Until("again", 2000), Release()),
    ),
    "caller-gone": Scenario(
        name="caller-gone",
        what="The caller dies, and nobody else is there for so long that everybody has noticed.",
        turns=(COMPLETES,),
        steps=(*HOLDS, Leave("caller"), Pass(1), Release(), Post(turn="turn", label="again")),
    ),
    "second-tab": Scenario(
        name="second-tab",
        what="One more reader from the start, one from where the first is.",
        turns=(COMPLETES,),
        steps=(
            *HOLDS,
            Read(label="tab", form="events"),
            Until("tab", 2000),
            Read(label="device", offset="here"),
            Release(),
        ),
    ),
    "comes-back": Scenario(
        name="comes-back",
        what="A caller and an EventSource go on where one left; another asks for a label.",
        turns=(COMPLETES,),
        steps=(
            *HOLDS,
            CaughtUp(),
            Leave("caller"),
            Post(turn="turn", label="again", resumes="caller"),
            Read(label="tab", form="events", offset="here"),
            Post(turn="turn", label="labelled", headers={"stream-label": "one"}),
            Until("again", 0),
            Until("tab", 0),
            Until("labelled", 0),
            Release(),
        ),
    ),
    "upstream-cut": Scenario(
        name="upstream-cut",
        what="The provider's connection ends in mid-answer.",
        turns=(Turn(name="turn", outcomes=frozenset({"truncated"}), stoppable=True),),
        steps=(
            CutAfter("main", 3000),
            Script({"tokens": 60}),
            Post(turn="turn"),
            Until("caller", 1),
            Read(label="tab", form="events"),
            Ended("tab"),
        ),
    ),
    "buffer-killed": Scenario(
        name="buffer-killed",
        what="The server dies in mid-answer.",
        turns=(Turn(name="turn", outcomes=frozenset({"interrupted"}), stoppable=True),),
        bounds=Bounds(settle_s=3.5),
        steps=(*HOLDS, CaughtUp(), Kill(), Ended("caller"), Start(), Post(turn="turn", label="again")),
    ),
    "stopped": Scenario(
        name="stopped",
        what="Somebody asks to stop.",
        turns=(Turn(name="turn", outcomes=frozenset({"cancelled"}), stoppable=True),),
        steps=(*HOLDS, Cancel(), Ended("caller")),
    ),
    "owner-frozen": Scenario(
        name="owner-frozen",
        what="The draining process is frozen for longer than its lease, and wakes up.",
        turns=(Turn(name="turn", outcomes=frozenset({"interrupted"}), stoppable=True),),
        workers=2,
        options=Options(policy={"lease_s": 1}),
        steps=(
            *HOLDS,
            Read(label="tab", form="events", worker=2),
            Until("tab", 2000),
            Freeze(),
            Ended("tab"),
            Release(),
            Thaw(),
            Finished(),
            Ended("caller"),
        ),
    ),
    "long-answer": Scenario(
        name="long-answer",
        what="The answer is much longer than what is kept of it in memory.",
        turns=(COMPLETES,),
        options=Options(policy={"window_bytes": 2**20}),
        bounds=Bounds(growth_bytes=20 * 2**20),
        steps=(Script({"tokens": 150_000, "chunking": (65536,)}), Post(turn="turn"), Ended("caller")),
    ),
    "provider-thinks": Scenario(
        name="provider-thinks",
        what="The provider is silent for some seconds.",
        turns=(COMPLETES,),
        options=Options(policy={"keepalive_s": 0.5}),
        bounds=Bounds(silence_s=2.5),
        steps=(*HOLDS, Read(label="tab", form="events"), Until("tab", 2000), Leave("caller"), Pass(4), Release()),
    ),
}

TOLD = {
    "called-twice": ("caller-killed", "I1", "turn cost 2 provider calls"),
    "off-by-one": ("second-tab", "I2", "device of turn got other bytes"),
    "byte-dropped": ("caller-killed", "I3", "that no call of turn sent as a whole"),
    "shown-too-early": ("buffer-killed", "I4", "caller of turn saw"),
    "ends-clean": ("upstream-cut", "I5", "got a clean end of"),
    "end-untold": ("upstream-cut", "I5", "tab of turn got a clean end of"),
    "end-cut": ("second-tab", "I5", "which nothing disturbed, got no end"),
    "never-sealed": ("caller-killed", "I5", "is still streaming, says worker 1"),
    "stop-kept-back": ("stopped", "I6", "is cancelled, and call 1 of turn goes on"),
    "leaving-stops": ("caller-gone", "I6", "was left by its client"),
    "late": ("buffer-killed", "I7", "s after the fault"),
    "unfenced": ("owner-frozen", "I5", "tab of turn got the end of"),
    "nothing-let-go": ("long-answer", "I8", "worker 1 grew by"),
    "credential-logged": ("caller-killed", "I9", "canary-credential-of-the-caller is in worker-1.log"),
    "strangers-read": ("caller-killed", "I10", "lets a stranger in"),
    "silent": ("provider-thinks", "live", "tab of turn heard nothing for"),
    "head-lies": ("upstream-cut", "I5", "HEAD of turn at 1 was told completed"),
    "end-event-lies": ("upstream-cut", "I5", "tab of turn was told stalled"),
    "offset-ignored": ("comes-back", "I2", "again of turn asked for byte"),
    "last-event-id-ignored": ("comes-back", "I2", "tab of turn asked for byte"),
    "unnamed": ("caller-killed", "I2", "bytes of no stream"),
    "strangers-list": ("caller-killed", "I10", "is in a stranger's list"),
    "credential-told": ("comes-back", "I9", "is in the answer to labelled of turn"),
}
"""Fault of the target -> the scenario that it is seen in, the invariant that tells it, and in which words."""


def test_every_fault_is_told() -> None:
    """The table has all that the target can break. It cannot be imported here: that breaks this process."""
    source = (Path(targets.__file__).parent / "broken.py").read_text(encoding="utf-8")
    assert {*re.findall(r'^    "([a-z-]+)": \w+,$', source, re.MULTILINE)} == TOLD.keys()


def told(verdict: Verdict, invariant: str, words: str) -> bool:
    return any(found.invariant == invariant and words in found.what for found in verdict.violations)


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_works_passes(name: str, tmp_path: Path) -> None:
    """The same scenarios hold without a fault: what is told below is the fault's doing."""
    verdict = play(SCENARIOS[name], WHERE, tmp_path, target=EMBEDDED)
    assert verdict.held, verdict


@pytest.mark.parametrize("fault", TOLD)
def test_what_is_broken_is_told(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_FAULT", fault)
    scenario, invariant, words = TOLD[fault]
    verdict = play(SCENARIOS[scenario], WHERE, tmp_path, target=BROKEN)
    assert told(verdict, invariant, words), verdict
