"""The reference server conforms: every check holds on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from resumestream.conformance.registry import load
from resumestream.conformance.report import summary
from resumestream.conformance.suite import chosen, probe, run
from resumestream.testing.running import ServerName

from .conformance.reference import ALL, setting

load()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("store", "server"), [("memory:", "uvicorn"), ("streams.db", "hypercorn-trio")], ids=["memory", "sqlite-trio"]
)
def test_the_reference_server_conforms(store: str, server: ServerName, tmp_path: Path) -> None:
    where = store if store.endswith(":") else str(tmp_path / store)
    with setting(where, server=server) as made:
        probe(made, ALL)
        results = run(made, chosen([]), ALL, jobs=16)
    assert not [result for result in results if result.verdict == "failed"], summary(results)
