"""A caller as a process of its own: `python -m chaos.callers DIALECT URL CREDENTIAL PROMPT HEADERS`.

It asks with the official SDK, as that one's documentation shows it, and writes a line of JSON for each piece of text it
is handed (`{"text": ...}`), and one for the end (`{"finished": true}` or `{"error": ...}`). SDKs are imported where
they are used: the harness itself needs none of them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .history import Heard
from .process import Failed, Process

MODEL = "scripted"
TIMEOUT_S = 20
JSON_LINE = re.compile(r'\{".*\}')
"""One that is whole, and no warning of an SDK's."""


def chat(url: str, credential: str, prompt: str, headers: Mapping[str, str]) -> Iterator[str]:
    import openai

    client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key=credential, default_headers=headers, timeout=TIMEOUT_S)
    with client:
        messages = [{"role": "user", "content": prompt}]
        for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True):
            yield from (choice.delta.content or "" for choice in chunk.choices)


def responses(url: str, credential: str, prompt: str, headers: Mapping[str, str]) -> Iterator[str]:
    import openai

    client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key=credential, default_headers=headers, timeout=TIMEOUT_S)
    with client:
        for event in client.responses.create(model=MODEL, input=prompt, stream=True):
            yield event.delta if event.type == "response.output_text.delta" else ""


def anthropic(url: str, credential: str, prompt: str, headers: Mapping[str, str]) -> Iterator[str]:
    from anthropic import Anthropic

    client: Any = Anthropic(base_url=url, auth_token=credential, default_headers=headers, timeout=TIMEOUT_S)
    with client:
        messages = [{"role": "user", "content": prompt}]
        for event in client.messages.create(model=MODEL, messages=messages, max_tokens=1000, stream=True):
            yield event.delta.text if event.type == "content_block_delta" else ""


def gemini(url: str, credential: str, prompt: str, headers: Mapping[str, str]) -> Iterator[str]:
    from google import genai
    from google.genai.types import HttpOptions

    options = HttpOptions(base_url=url, api_version="v1beta", headers=dict(headers), timeout=TIMEOUT_S * 1000)
    with genai.Client(api_key=credential, http_options=options) as client:
        for chunk in client.models.generate_content_stream(model=MODEL, contents=prompt):
            yield chunk.text or ""


SDKS = {"openai-chat": chat, "openai-responses": responses, "anthropic": anthropic, "gemini": gemini}


def main(dialect: str, url: str, credential: str, prompt: str, headers: str) -> None:
    try:
        for text in SDKS[dialect](url, credential, prompt, json.loads(headers)):
            if text:
                _say(text=text)
    except Exception as error:  # whatever an SDK raises is what its user gets
        _say(error=f"{type(error).__name__}: {error}")
    else:
        _say(finished=True)


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Caller:
    """Such a process, from the outside. What it writes is its user's, not the server's: it may tell secrets."""

    def __init__(
        self, label: str, turn: str, log: Path, dialect: str, url: str, credential: str, prompt: str, headers: str
    ) -> None:
        self.label, self.turn = label, turn
        self._process = Process([sys.executable, "-m", __name__, dialect, url, credential, prompt, headers], log)

    def until(self, texts: int) -> None:
        """Wait until it was handed so many pieces of text. Raises Failed."""
        if texts:
            self._process.wait_for(r'^\{"text": .*\}$', texts)

    def join(self, *, within_s: float) -> None:
        """Wait for its end. Raises Failed."""
        if self._process.end(within_s=within_s) > 0:
            raise Failed(f"{self.label} broke: {self._process.written[-2000:]}")

    def kill(self) -> None:
        """SIGKILL. Dead on return."""
        self._process.kill()

    def heard(self) -> Heard:
        said = [json.loads(line) for line in self._process.written.splitlines() if JSON_LINE.fullmatch(line)]
        return Heard(
            reader=self.label,
            turn=self.turn,
            text="".join(each.get("text", "") for each in said),
            finished=any(each.get("finished") for each in said),
            error="".join(each.get("error", "") for each in said),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
