"""The filesystem store is a LogStore, on both loops and at both durabilities."""

from __future__ import annotations

from pathlib import Path

import pytest

from resumestream.model import Durability
from resumestream.policy import Policy
from resumestream.stores import FileStore
from resumestream.testing import check_log_store


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["process", "disk"])
async def test_it_is_a_log_store(tmp_path: Path, durability: Durability) -> None:
    """The shared suite."""
    policy = Policy(durability=durability)
    await check_log_store(lambda: FileStore(tmp_path / "store", policy=policy, serving=True))
