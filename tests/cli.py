"""The command line in the test's own process, and what it looks at."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

from resumestream import Policy
from resumestream.cli import main
from resumestream.model import Attempt, Gone, Head, NewStream, Outcome, Seal, StreamId
from resumestream.stores import open_store

SSE = Head(200, (("content-type", "text/event-stream"),))
EVENTS = [b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n"]
SIZE = sum(map(len, EVENTS))


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Cli(Protocol):
    def __call__(self, *args: object) -> Said: ...


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Runs a command; no store of the user's own is touched."""
    monkeypatch.setenv("RESUMESTREAM_STORE", str(tmp_path / "default.db"))

    def call(*args: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["resumestream", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return call


def states(cli: Cli, store: Path) -> dict[str, str]:
    """How each stream is."""
    records = cli("ls", "--store", store, "--json").json()["streams"]
    return {record["id"]: record["gone"]["why"] if record["gone"] else record["state"] for record in records}


def put(
    store: Path,
    stream: str,
    outcome: Outcome | None,
    *,
    message: str = "the provider finished its answer",
    gone: Gone | None = None,
    data: bytes = b"".join(EVENTS),
    **fields: Any,
) -> None:
    """A stream of `data` that ended so, or is live where `outcome` is None."""

    async def write() -> None:
        async with open_store(store, policy=Policy(), serving=True) as log:
            given = {"principal": "me", "upstream": "demo", "worker": "w", "retain_s": 3600.0, "tombstone_s": 3600.0}
            new = NewStream(id=StreamId(stream), **{**given, "created_at": log.now(), **fields})
            lease = await log.create(new)
            await log.begin(lease, Attempt("demo", log.now(), 200, "req_1"), SSE)
            await log.append(lease, 0, data, data.count(b"\n\n"))
            if outcome:
                await log.seal(lease, Seal(outcome, "some_detail", message))
            if gone:
                await log.purge(StreamId(stream), gone)

    anyio.run(write)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
