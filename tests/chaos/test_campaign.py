"""Random schedules: what is drawn can be played, is text and back, and what fails shrinks to what it takes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given

from chaos.campaign import SCHEDULES, campaign
from chaos.checker import Violation
from chaos.moves import MOVES, feasible
from chaos.scenario import Verdict, play
from chaos.schedule import Schedule, drawn
from chaos.server import Target


def verdict(code: str, *, held: bool) -> Verdict:
    violations = () if held else (Violation("I1", "seen"),)
    return Verdict(scenario=code, configuration="", violations=violations, seconds=0)


@given(SCHEDULES)
def test_a_schedule_is_text_and_back(schedule: Schedule) -> None:
    assert Schedule.parse(str(schedule)) == schedule


@given(SCHEDULES)
def test_what_is_drawn_can_be_played(schedule: Schedule) -> None:
    """Every move of it is an action, and in the end nothing is left undone."""
    assert feasible(schedule.moves) == schedule.moves
    verbs = [type(step).__name__ for step in schedule.scenario().steps]
    for done, undone in (("Cut", "Mend"), ("Stall", "Heal")):
        assert verbs.count(done) == verbs.count(undone)
    assert verbs.count("Start") == verbs.count("Kill")
    assert verbs.count("Freeze") >= verbs.count("Thaw") >= verbs.count("Freeze") - verbs.count("Kill")
    assert verbs[-2:] == ["Post", "Release"]


def test_all_moves_are_drawn() -> None:
    random = Random(0)
    assert {move for _ in range(2000) for move in drawn(random).moves} == {*MOVES}


@pytest.mark.parametrize(
    ("moves", "left"),
    [
        (["thaw.1", "freeze.1", "freeze.1"], ["freeze.1"]),
        (["kill.1", "tab.1", "freeze.1", "start.1", "tab.1"], ["kill.1", "start.1", "tab.1"]),
        (["mend.main", "cut.main", "cut.main", "heal.main"], ["cut.main"]),
        (["leave.caller", "leave.last", "again.2", "leave.last"], ["leave.caller", "again.2", "leave.last"]),
    ],
)
def test_what_cannot_be_done_is_left_out(moves: list[str], left: list[str]) -> None:
    assert list(feasible(moves)) == left


@pytest.mark.parametrize(
    "text", ["", "memory-asyncio,hold.1,none", "sqlite-trio,hold.1", "sqlite-trio,hold.1,none,x.1"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a schedule"):
        Schedule.parse(text)


def test_a_failure_shrinks_to_what_it_takes() -> None:
    """Of all that was drawn, the two moves that it needs are left."""

    def perform(code: str) -> Verdict:
        moves = Schedule.parse(code).moves
        return verdict(code, held=not ("kill.1" in moves and "cut.main" in moves))

    failed = campaign(1, examples=3000, within_s=50, perform=perform)
    assert failed
    assert sorted(Schedule.parse(failed.scenario).moves) == ["cut.main", "kill.1"]


def test_one_that_fails_only_sometimes_is_told_all_the_same() -> None:
    """The first verdict of a schedule counts: Hypothesis is not asked to see it twice."""
    failed = campaign(1, examples=3, within_s=50, perform=lambda code: verdict(code, held=False))
    assert failed
    assert not failed.held


def test_a_campaign_ends_in_time() -> None:
    assert campaign(1, examples=10**6, within_s=0, perform=lambda code: verdict(code, held=False)) is None


def test_the_same_seed_draws_the_same() -> None:
    def codes() -> list[str]:
        seen: list[str] = []

        def perform(code: str) -> Verdict:
            seen.append(code)
            return verdict(code, held=True)

        assert campaign(7, examples=20, within_s=50, perform=perform) is None
        return seen

    assert codes() == codes()


def test_a_schedule_holds(tmp_path: Path) -> None:
    schedule = Schedule.parse("sqlite-asyncio,hold.10,none,tab.2,cut.worker-1,freeze.1,rest.2.0,again.2")
    told = play(schedule.scenario(), schedule.configuration, tmp_path)
    assert told.held, told


def test_a_schedule_tells_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_FAULT", "unfenced")
    schedule = Schedule.parse("sqlite-asyncio,hold.10,none,tab.2,freeze.1,rest.2.0,thaw.1,release.all")
    told = play(schedule.scenario(), schedule.configuration, tmp_path, target=Target(app="chaos.targets.broken:app"))
    assert "I5" in {found.invariant for found in told.violations}, told
