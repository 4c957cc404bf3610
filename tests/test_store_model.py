"""Random histories of every store of the package against an oracle."""

from __future__ import annotations

from pathlib import Path

import pytest

from resumestream.policy import Policy
from resumestream.ports import LogStore
from resumestream.stores import FileStore, MemoryStore, SQLiteStore

from .store_model import Clock, Open, run_model


def memory(folder: Path, clock: Clock) -> LogStore:
    return MemoryStore(clock=clock)


def sqlite(folder: Path, clock: Clock) -> LogStore:
    return SQLiteStore(folder / "streams.db", policy=Policy(), serving=True, clock=clock)


def filesystem(folder: Path, clock: Clock) -> LogStore:
    return FileStore(folder / "streams", policy=Policy(), serving=True, clock=clock)


STORES = {"memory": (memory, False, 60), "sqlite": (sqlite, True, 25), "filesystem": (filesystem, True, 25)}
"""How to open it, whether it outlives its processes, how many histories."""


@pytest.mark.parametrize(("make", "crashes", "examples"), STORES.values(), ids=STORES.keys())
def test_random_histories_match_the_oracle(make: Open, crashes: bool, examples: int, anyio_backend: str) -> None:
    """Whatever is asked in whatever order, through either of two handles, over closes and crashes, every answer and
    every record is what the oracle says."""
    run_model(make, anyio_backend, crashes=crashes, examples=examples)
