"""What is sent to a provider: the path of each grammar that the scripted upstream speaks, and a request for it."""

from __future__ import annotations

import json

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
GEMINI = "/v1beta/models/scripted:streamGenerateContent?alt=sse"

_ASKED: dict[str, dict[str, object]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    RESPONSES: {"input": "hello"},
    MESSAGES: {"max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]},
    GEMINI: {"contents": [{"parts": [{"text": "hello"}]}]},
}


def request_body(path: str, **more: object) -> bytes:
    """A request for a streamed answer at that path; `more` adds members, or replaces them."""
    chosen: dict[str, object] = {} if path == GEMINI else {"model": "scripted", "stream": True}
    return json.dumps({**chosen, **_ASKED.get(path, {}), **more}).encode()
