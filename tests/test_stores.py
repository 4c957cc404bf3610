"""Every store of the package is a LogStore, on both loops; and what `open_store` makes of what people write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import anyio
import pytest

from resumestream.errors import ConfigError
from resumestream.policy import Policy
from resumestream.ports import LogStore
from resumestream.stores import MemoryStore, SQLiteStore, open_store
from resumestream.testing import check_log_store

POLICY = Policy()


@pytest.mark.anyio
async def test_memory_is_a_log_store() -> None:
    """The memory store passes the shipped suite."""
    store = MemoryStore()
    await check_log_store(lambda: store)


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["process", "disk"])
async def test_sqlite_is_a_log_store(tmp_path: Path, durability: str) -> None:
    """SQLite passes the shipped suite, beside a server that packs what is sealed and erases what is purged."""
    policy = Policy(durability=durability)
    path = tmp_path / "streams.db"
    async with SQLiteStore(path, policy=policy, serving=True):
        await check_log_store(lambda: SQLiteStore(path, policy=policy, serving=False))


@pytest.mark.anyio
async def test_sqlite_alone_is_a_log_store(tmp_path: Path) -> None:
    """SQLite passes the shipped suite without a server beside it, so that closing really closes."""
    path = tmp_path / "streams.db"
    async with SQLiteStore(path, policy=POLICY, serving=True):
        pass
    await check_log_store(lambda: SQLiteStore(path, policy=POLICY, serving=False))
