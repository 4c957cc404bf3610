"""What the providers' grammars differ in, as far as somebody outside must know: where to ask, and what an error is."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Literal

Dialect = Literal["openai-chat", "openai-responses", "anthropic", "gemini"]

PATHS: dict[Dialect, str] = {
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/scripted:streamGenerateContent?alt=sse",
}
"""Where the scripted provider answers in it."""

BLOCK = re.compile(rb"(?s).+?(?:\r\n\r\n|\n\n)")
"""An event with its blank line."""


def error_in(block: bytes) -> bool:
    """Whether an event is a provider's own error: all of them then have an `error`, if in different company."""
    return any(isinstance(data, dict) and _is_error(data) for data in _data(block))


def _is_error(data: dict[str, object]) -> bool:
    return data.get("type") in ("error", "response.failed") or ("type" not in data and bool(data.get("error")))


def _data(block: bytes) -> Iterator[object]:
    for line in block.splitlines():
        if line.startswith(b"data:"):
            with contextlib.suppress(ValueError):  # `[DONE]`
                yield json.loads(line[5:])
