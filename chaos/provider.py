"""The scripted provider as a process: the meter of truth, asked over its control endpoints."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from .dialects import BLOCK, error_in
from .exchange import Cut, Silent, ask
from .history import Call
from .process import DEADLINE_S, Failed, Process

TURN = "x-chaos-turn"
"""The request header that a turn's calls carry; servers hand it on."""


def said(tokens: int) -> str:
    """What the user of an SDK reads of an answer of so many tokens."""
    return "".join(f"w{number:04d} " for number in range(tokens))


Entry = Mapping[str, Any]
"""One call as the ledger has it."""


class Provider:
    """`with Provider(directory) as provider:`. Its clock is the machine's monotonic clock, as ours is."""

    def __init__(self, directory: Path, fixtures: Path | None = None) -> None:
        named = ["--fixtures", str(fixtures)] if fixtures else []
        command = [sys.executable, "-m", "resumestream.testing.provider", *named]
        self._process = Process(command, directory / "provider.log")
        self.url = self._process.wait_for(r"^provider: serving (\S+)$")[0][1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()

    def script(self, *queue: Mapping[str, Any], default: Mapping[str, Any] | None = None) -> None:
        """What the next calls get, in order, and all after them."""
        values = {"queue": list(queue), **({"default": default} if default is not None else {})}
        self._control("POST", "/_script", json.dumps(values).encode())

    def release(self, call: int | None = None) -> None:
        """Let a held answer go on, or all of them."""
        self._control("POST", f"/_release?call={call}" if call else "/_release")

    def ledger(self) -> list[Entry]:
        return list(json.loads(self._control("GET", "/_ledger"))["calls"])

    def wait_for(self, met: Callable[[list[Entry]], bool], *, within_s: float = DEADLINE_S) -> list[Entry]:
        """The ledger as soon as it is so. Raises Failed."""
        deadline = time.monotonic() + within_s
        while not met(entries := self.ledger()):
            if time.monotonic() > deadline:
                raise Failed(f"the provider saw, after {within_s:g} s: {entries}")
            time.sleep(0.01)
        return entries

    def calls(self) -> list[Call]:
        """The ledger, for a history."""
        return [self._call(entry) for entry in self.ledger()]

    def _call(self, entry: Entry) -> Call:
        status = entry["status"]
        sent = self._control("GET", f"/_sent?call={entry['number']}")
        first = BLOCK.match(sent)
        return Call(
            number=entry["number"],
            turn=dict(entry["headers"]).get(TURN, ""),
            sent=sent,
            status=status,
            refused=status is not None and (status >= 300 or (first is not None and error_in(first[0]))),
            disconnected=entry["disconnected"],
            tokens_billed=entry["tokens_billed"],
            began_s=entry["started_at"],
            ended_s=entry["ended_at"],
        )

    def _control(self, method: str, path: str, body: bytes = b"") -> bytes:
        try:
            reply = ask(self.url, method, path, body)
        except (Cut, Silent, OSError) as error:
            raise Failed(f"the provider does not answer {path}: {error!r}") from error
        if reply.status != 200:
            raise Failed(f"the provider answers {reply.status} to {path}: {reply.body.decode()}")
        return reply.body
