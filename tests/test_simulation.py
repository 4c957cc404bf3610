"""The real Hub in ten thousand simulated lives, judged by the checker of the chaos harness; and that it finds what is
broken, and plays the same again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import pytest

from .simulation.campaign import campaign, players
from .simulation.faults import FAULTS
from .simulation.simulation import play

SCHEDULES = 10_000
BLOCK = 500
"""A test each: no test may take long, on the slowest machine."""
ROOT = Path(__file__).parents[1]

FOUND = {
    "ambiguous-call-repeated": {"I1"},
    "byte-dropped": {"I3", "I4"},
    "bytes-swapped": {"I2"},
    "called-again-after-a-death": {"I1"},
    "capped-completes": {"I3"},
    "claim-not-compared": {"I1"},
    "key-not-looked-up": {"I1"},
    "page-skipped": {"I2"},
    "reader-stops-it": {"I5", "I6"},
    "shown-before-durable": {"I4"},
    "taken-from-the-living": {"I5"},
    "terminal-lost": {"I5"},
    "truncated-completes": {"I5"},
    "unfenced": {"I2", "I3", "I5"},
    "wake-lost": {"live"},
}
"""Fault -> one of these invariants is said to be violated first."""
WITHIN = 400
"""Schedules."""
HASHES = """
from tests.simulation.simulation import play
for seed in range(60):
    print(play(seed).hash)
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with players() as pool:
        yield pool


@pytest.mark.parametrize("first", range(0, SCHEDULES, BLOCK))
def test_every_schedule_holds(first: int, pool: Pool) -> None:
    """All of them in 40 s on two idle cores."""
    told = list(campaign(pool, range(first, first + BLOCK)))
    assert not told, "\n".join((f"{len(told)} schedules went wrong", *told[:5]))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str) -> None:
    """Within some hundred schedules, by the invariant that it breaks, with the way to see it again."""
    with FAULTS[name]():
        played = next((played for played in map(play, range(WITHIN)) if played.violations), None)
        assert played, f"nobody notices: {FAULTS[name].__doc__}"
        again = play(played.schedule.seed)
    assert played.violations[0].invariant in FOUND[name], str(played)
    assert f"python -m tests.simulation {played.schedule.seed}" in str(played)
    assert again.violations == played.violations
    assert again.hash == played.hash
    print(f"\n  {FAULTS[name].__doc__}\n    {played.violations[0]}")


def test_a_seed_plays_the_same_in_any_process() -> None:
    """Whatever hashes and addresses are there; and another seed plays something else."""
    told = [
        subprocess.run(
            [
                sys.executable,
                "-c",
                HASHES,
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        ).stdout.split()
        for salt in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(set(told[0])) == 60


def test_a_replay_tells_it_all() -> None:
    """The schedule, what happened, and what was wrong with it."""
    replay = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "0", "--fault", "wake-lost"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert replay.returncode == 1
    for part in ("seed=0", "Post(", "a.1             starts", "live: ", "replay: python -m tests.simulation 0"):
        assert part in replay.stdout
