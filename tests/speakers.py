"""A provider in every dialect: its whole answer as events, and its own error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from resumestream.dialects import DIALECTS
from resumestream.testing.provider import Script
from resumestream.testing.provider.plan import plan

from .clients.sdks import SDKS

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOKENS = 10


@dataclass(frozen=True)
class Speaker:
    """A provider in one dialect."""

    name: str
    path: str
    content_type: str
    events: tuple[bytes, ...]
    first: int
    """So many of them come before whatever happens."""
    error: bytes
    """Its own error event; empty where the dialect has none."""
    terminal: bool
    """Its last event says that it is the last."""
    ends_anywhere: bool
    """Any end is a good one that the framing tells."""
    more_headers: str = ""

    @property
    def sdk(self) -> bool:
        return self.name in SDKS

    @property
    def sse(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    @property
    def has_frame(self) -> bool:
        """Whether its dialect has an error that we may add."""
        return DIALECTS[self.name].error_frame("x", "x") is not None

    @property
    def begun(self) -> bytes:
        return b"".join(self.events[: self.first])

    @property
    def half(self) -> bytes:
        following = self.events[self.first]
        return following[: len(following) // 2]

    @property
    def whole(self) -> bytes:
        return b"".join(self.events)

    @property
    def cut(self) -> bytes:
        """What is kept of an answer that is cut after `half`."""
        return self.begun + (self.half if self.name == "plain" else b"")

    def text(self, events: int) -> str:
        """What the SDK's caller has read of so many events."""
        return Script(tokens=max(0, min(events - SDKS[self.name].events_before_text, TOKENS))).text


def _synthesised(name: str) -> Speaker:
    """One that an SDK reads: the scripted provider's answer, as bytes."""
    sdk = SDKS[name]
    made = plan(Script(tokens=TOKENS), 1, "POST", sdk.path, b'{"stream": true}', None, {})
    failed = plan(Script(tokens=TOKENS, error_at=1), 1, "POST", sdk.path, b'{"stream": true}', None, {})
    return Speaker(
        name=name,
        path=sdk.path,
        content_type="text/event-stream",
        events=tuple(made.body[begin:end] for begin, end in zip([0, *made.ends], made.ends, strict=False)),
        first=sdk.events_before_text + 4,
        error=failed.body[failed.ends[0] :],
        terminal=name != "gemini",
        ends_anywhere=False,
    )


def _blocks(body: bytes, content_type: str) -> tuple[bytes, ...]:
    """Told apart by other means than the package's own."""
    if "event-stream" in content_type and "amazon" not in content_type:
        return tuple(re.findall(rb"(?s).+?(?:\r\n\r\n|\n\n)", body))
    if "ndjson" in content_type:
        return tuple(body.splitlines(keepends=True))
    blocks: list[bytes] = []
    while body:
        size = int.from_bytes(body[:4])
        blocks.append(body[:size])
        body = body[size:]
    return tuple(blocks)


def _recorded(name: str, path: str, content_type: str, suffix: str = "sse", headers: str = "") -> Speaker:
    """One that only a plain client reads: what lies in fixtures/."""
    body = (FIXTURES / f"{name}.{suffix}").read_bytes()
    failed = (FIXTURES / f"{name}-error.{suffix}").read_bytes()
    return Speaker(
        name=name,
        path=f"/provider{path}",
        content_type=content_type,
        events=_blocks(body, content_type),
        first=5,
        error=_blocks(failed, content_type)[-1],
        terminal=True,
        ends_anywhere=name == "langgraph",
        more_headers=headers,
    )


def _grammarless(name: str, content_type: str, event: bytes) -> Speaker:
    return Speaker(
        name=name,
        path="/provider/v1/whatever",
        content_type=content_type,
        events=tuple(event % number for number in range(12)),
        first=5,
        error=b"",
        terminal=False,
        ends_anywhere=True,
    )


SSE = "text/event-stream"
SPEAKERS = [
    *map(_synthesised, SDKS),
    _recorded("gemini-interactions", "/v1/interactions", SSE),
    _recorded("ui-message-stream", "/api/ui", SSE, headers="x-vercel-ai-ui-message-stream: v1\r\n"),
    _recorded("langgraph", "/threads/t/runs/stream", SSE),
    _recorded("ollama", "/api/chat", "application/x-ndjson", "bin"),
    _recorded("bedrock", "/model/m/converse-stream", "application/vnd.amazon.eventstream", "bin"),
    _grammarless("unknown", SSE, b"event: tick\ndata: %d\n\n"),
    _grammarless("plain", "text/plain; charset=utf-8", b"line %d\n"),
]
