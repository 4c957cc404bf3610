"""OpenAI chat completions, legacy completions, and everything that speaks like them."""

from __future__ import annotations

import json
import re
from typing import Any

from ..framing import SSE, data_of, has_data
from ..ports import Dialect, Mark, Scanner
from .payload import COMMENT, LATER_INDEX, describe, openai_error, parse, parts
from .scanning import Finished, Telling

_FINISH = re.compile(rb'"finish_reason"\s*:\s*(?!null|\s)')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')

_MOST_ASKING_BYTES = 4 * 1024 * 1024
"""A larger request is sent as it came: reading it would hold up everybody else."""


class OpenAIChat(Dialect):
    """Ends with `[DONE]`, or with a framed end after a `finish_reason` on every choice."""

    name = "openai-chat"
    framing = SSE
    endpoint = re.compile(r"/completions$")
    known = re.compile(rb'"choices"\s*:|"object"\s*:\s*"(?:chat\.completion|text_completion)|data: ?\[DONE\]')
    keepalive = COMMENT

    def scanner(self) -> Scanner:
        return _Scanner()

    def error_frame(self, code: str, message: str) -> bytes | None:
        """The SDK raises APIError."""
        return openai_error(code, message)

    def asking_usage(self, body: bytes) -> bytes | None:
        """Byte for byte what came but for its `stream_options`: whoever writes JSON anew changes numbers."""
        request = parse(body) if len(body) <= _MOST_ASKING_BYTES else {}
        options = request.get("stream_options")
        if request.get("stream") is not True or not isinstance(options, dict | None):
            return None
        if options and options.get("include_usage"):
            return None
        asking = json.dumps({**(options or {}), "include_usage": True}, separators=(",", ":"))
        encoding = json.detect_encoding(body)
        text = body.decode(encoding, "surrogatepass")
        if "stream_options" in request:
            begin, end = _span(text, "stream_options")
            text = text[:begin] + asking + text[end:]
        else:
            begin = text.index("{") + 1
            text = f'{text[:begin]}"stream_options":{asking},{text[begin:]}'
        return text.encode(encoding, "surrogatepass")


def _span(text: str, name: str) -> tuple[int, int]:
    """Where the value of that name is in a JSON object that has it; of several, the last, which is what counts."""
    read, found, at = json.JSONDecoder().raw_decode, (0, 0), _after(text, text.index("{"))
    while text[at] != "}":
        key, at = read(text, at)
        begin = _after(text, text.index(":", at))
        _, end = read(text, begin)
        if key == name:
            found = begin, end
        at = _after(text, end - 1)
        at = _after(text, at) if text[at] == "," else at
    return found


def _after(text: str, at: int) -> int:
    """Of what is no blank, the next place behind that one."""
    at += 1
    while text[at] in " \t\r\n":
        at += 1
    return at


class _Scanner(Telling):
    def __init__(self) -> None:
        super().__init__()
        self._begun = False
        self._finished = Finished()

    def scan(self, block: bytes) -> Mark:
        if not has_data(block):
            return Mark.BLANK
        if b"[DONE]" in block and data_of(block).startswith(b"[DONE]"):
            return Mark.END
        mark = Mark.EVENT
        if not self._begun or b'"error"' in block or _FINISH.search(block) or LATER_INDEX.search(block):
            mark = self._read(parse(data_of(block)))
        if _tells_usage(block):
            self._tell_later(block)
            if mark is Mark.EVENT and _NO_CHOICES.search(block) and _only_usage(parse(data_of(block))):
                return Mark.USAGE
        return mark

    def _read(self, body: dict[str, Any]) -> Mark:
        if not self._begun:
            self._begun = True
            self._tell(body)
        if body.get("error") or body.get("object") == "error":  # the latter is vLLM's
            self.error = describe(body.get("error") or body)
            return Mark.ERROR
        for index, choice in parts(body, "choices"):
            self._finished.saw(index, choice.get("finish_reason"))
        return Mark.EVENT

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        groq = body.get("x_groq")
        return body.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None), body.get("model")

    def ends_at_framed_end(self) -> bool:
        return self._finished.all


def _tells_usage(block: bytes) -> bool:
    """Many tell `null` in every event: looking at these places only is much cheaper than a search."""
    place = block.rfind(b'"usage"')
    while place >= 0 and not _USAGE.match(block, place):
        place = block.rfind(b'"usage"', 0, place)
    return place >= 0


def _only_usage(body: dict[str, Any]) -> bool:
    """The last event of those who asked for usage, as OpenAI sends it. Others add it to an event with a choice."""
    return body.get("choices") == [] and isinstance(body.get("usage"), dict)
