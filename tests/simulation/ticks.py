"""Whatever waits, waits for whole ticks: what can meet, meets, and in which order it then runs is the seed's."""

from __future__ import annotations

from random import Random

TICK_S = 1 / 64
"""Sums of it are exact."""


def ticks(rng: Random, most_s: float) -> float:
    """Some seconds up to `most_s`."""
    return rng.randint(0, round(most_s / TICK_S)) * TICK_S
