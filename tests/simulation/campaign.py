"""Many schedules, on every core."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool

from .simulation import play

BLOCK = 50


@contextmanager
def players() -> Iterator[Pool]:
    """Processes for `campaign`; their start costs as much as some hundred schedules."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), _begin) as pool:
        yield pool


def campaign(pool: Pool, seeds: range) -> Iterator[str]:
    """What went wrong, and how to replay it, as it is found."""
    blocks = [seeds[at : at + BLOCK] for at in range(0, len(seeds), BLOCK)]
    for told in pool.imap_unordered(_block, blocks):
        yield from told


def _begin() -> None:
    gc.freeze()  # each schedule leaves much garbage, and what was imported is none


def _block(seeds: range) -> list[str]:
    return [str(played) for played in map(play, seeds) if played.violations]
