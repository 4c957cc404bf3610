"""The grammars of the providers: a call in each that breaks off, and what a failure looks like there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import reduce
from typing import Any

from resumestream.testing.provider import Script

from . import aws
from .answer import Members
from .paths import CHAT, GEMINI, MESSAGES, RESPONSES
from .sse import events
from .verdicts import Failed

BROKEN = Script(tokens=9, fault="fin", at_event=4)


def broken(begin: bytes, **headers: str) -> Script:
    """An answer that breaks off behind these bytes; it waits before, until its caller has the status line."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Script(body=begin, headers=named, framing="chunked", hold_at=1, fault="fin")


INTERACTION = (
    b'event: interaction.created\ndata: {"event_type":"interaction.created","interaction":{"id":"i"}}\n\n'
    b'event: step.delta\ndata: {"event_type":"step.delta","index":0,"delta":{"type":"text","text":"A"}}\n\n'
)
UI = b'data: {"type":"start","messageId":"m"}\n\ndata: {"type":"text-delta","id":"0","delta":"A"}\n\n'
RUN = b'event: metadata\ndata: {"run_id":"r"}\n\nevent: messages\ndata: [{"content":"A"}]\n\n'
LINES = b'{"model":"m","message":{"role":"assistant","content":"A"},"done":false}\n'
MESSAGE = aws.message(
    {":event-type": "messageStart", ":content-type": "application/json", ":message-type": "event"},
    b'{"role":"assistant"}',
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a call in it is made and breaks off, and where its failure frame has what happened."""

    path: str
    script: Script
    code: tuple[str | int, ...]
    message: tuple[str | int, ...]


DIALECTS = {
    "openai-chat": Dialect(CHAT, BROKEN, ("error", "code"), ("error", "message")),
    "openai-responses": Dialect(RESPONSES, BROKEN, ("error", "code"), ("error", "message")),
    "anthropic": Dialect(MESSAGES, BROKEN, ("error", "code"), ("error", "message")),
    "gemini": Dialect(GEMINI, BROKEN, ("error", "details", 0, "reason"), ("error", "message")),
    "gemini-interactions": Dialect("/v1/interactions", broken(INTERACTION), ("error", "code"), ("error", "message")),
    "ui-message-stream": Dialect("/api/ui", broken(UI, x_vercel_ai_ui_message_stream="v1"), (), ("errorText",)),
    "langgraph": Dialect("/runs/stream", broken(RUN), ("error",), ("message",)),
    "ollama": Dialect("/api/chat", broken(LINES, content_type="application/x-ndjson"), ("code",), ("error",)),
    "bedrock": Dialect(
        "/model/m/converse-stream",
        broken(MESSAGE, content_type="application/vnd.amazon.eventstream"),
        ("code",),
        ("message",),
    ),
}


def told(name: str, frame: bytes) -> Any:
    """The JSON object in a failure frame of that dialect. Raises Failed."""
    try:
        match name:
            case "bedrock":
                data = aws.read(frame)[1].decode()
            case "ollama":
                data = frame.decode()
            case _:
                data = events(frame)[0].data
        found = json.loads(data, object_hook=lambda members: Members(members, request=name))
    except (ValueError, IndexError):
        found = None
    if not isinstance(found, Members):
        raise Failed(f"a JSON object in the failure frame of {name}", repr(frame))
    return found


def member(found: Any, steps: tuple[str | int, ...]) -> Any:
    """What is there, that many members deep. Raises Failed."""
    try:
        return reduce(lambda value, step: value[step], steps, found)
    except (LookupError, TypeError):
        raise Failed(f"a member {'.'.join(map(str, steps))}", str(found)) from None
