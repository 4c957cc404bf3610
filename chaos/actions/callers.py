"""What callers do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..dialects import PATHS, Dialect
from ..provider import TURN
from ..reader import Request
from ..stage import PROMPT, UPSTREAM, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A caller posts the turn's request."""

    turn: str
    label: str = "caller"
    worker: int = 1
    key: str = ""
    """Empty: the turn's name."""
    prompt: str = PROMPT
    dialect: Dialect | None = None
    """None: the cell's."""
    upstream: str = UPSTREAM
    headers: Mapping[str, str] = field(default_factory=dict)
    resumes: str = ""
    """A reader: go on from where that one got to."""
    direct: bool = False
    """By another way than the worker's link."""
    consents: str = ""
    """A reader: pay again for the stream that it had."""

    def act(self, stage: Stage) -> None:
        headers = {"idempotency-key": stage.key(self.key or self.turn), **stage.ours, **self.headers}
        if self.resumes:
            headers["stream-offset"] = str(stage.readers[self.resumes].read().reached)
        if self.consents:
            headers["stream-retry"] = stage.readers[self.consents].stream
        stage.begin(self.label, self.worker, self.request(self.dialect or stage.dialect, headers), direct=self.direct)

    def request(self, dialect: Dialect, headers: Mapping[str, str]) -> Request:
        asked = self.prompt
        body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": asked}], "input": asked}
        own = {
            "content-type": "application/json",
            "stream-exact": "true",
            TURN: self.turn,
        }
        return Request(
            turn=self.turn,
            method="POST",
            path=f"/{self.upstream}{PATHS[dialect]}",
            body=json.dumps(body).encode(),
            headers={**own, **headers},
        )
