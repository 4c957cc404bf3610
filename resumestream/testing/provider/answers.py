"""Answers synthesised in four providers' grammars, shaped so that the official SDKs parse them. Pure."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from .script import Script, token

CREATED = 1_763_000_000
"""When every answer says it was made: the same bytes on every run."""

Json = dict[str, Any]


class Event(NamedTuple):
    """One block of the wire, its blank line included, and the output tokens it carries."""

    data: bytes
    tokens: int = 0


def sse(data: Json | str, *, name: str | None = None, tokens: int = 0) -> Event:
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return Event((f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode(), tokens)


@dataclass(frozen=True, slots=True)
class Grammar(ABC):
    """One call's answer: as events, as one JSON document, or as the provider's error."""

    request_id_header: ClassVar[str] = "x-request-id"

    script: Script
    number: int
    """The call's: ids are made of it, so that no two answers have the same bytes."""
    request: Mapping[str, Any] = field(default_factory=dict)
    model: str = "scripted"
    streams: bool = False

    @abstractmethod
    def events(self) -> Iterator[Event]: ...

    @abstractmethod
    def document(self) -> Json: ...

    @abstractmethod
    def error(self) -> Json:
        """The body of an error status."""

    def error_event(self) -> Event:
        """The same, within a stream."""
        return sse(self.error())

    def id(self, prefix: str) -> str:
        return f"{prefix}{self.number:06d}"

    def padded(self, padding: str) -> Grammar:
        """The same answer, as another connection gets it."""
        return replace(self, script=replace(self.script, padding=padding))

    @property
    def tool(self) -> tuple[str, Json] | None:
        tool = self.script.tool
        return (str(tool["name"]), dict(tool.get("arguments", {}))) if tool else None


class OpenAI(Grammar):
    def error(self) -> Json:
        return {"error": {"message": "scripted error", "type": "server_error", "param": None, "code": "scripted"}}


class Chat(OpenAI):
    """OpenAI chat completions."""

    def events(self) -> Iterator[Event]:
        yield self._chunk({"role": "assistant", "content": ""})
        for k in range(self.script.tokens):
            yield self._chunk({"content": token(k)}, tokens=1)
        if self.tool:
            yield self._chunk({"tool_calls": [{"index": 0, **self._call()}]})
        yield self._chunk({}, finish=self._finish)
        if (self.request.get("stream_options") or {}).get("include_usage"):
            yield sse({**self._envelope("chat.completion.chunk"), "choices": [], "usage": self._usage()})
        yield sse("[DONE]")

    def document(self) -> Json:
        message: Json = {"role": "assistant", "content": self.script.text, "refusal": None}
        if self.tool:
            message["tool_calls"] = [self._call()]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish}
        return {**self._envelope("chat.completion"), "choices": [choice], "usage": self._usage()}

    @property
    def _finish(self) -> str:
        return "tool_calls" if self.tool else "stop"

    def _call(self) -> Json:
        name, arguments = self.tool or ("", {})
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"id": self.id("call_"), "type": "function", "function": function}

    def _envelope(self, kind: str) -> Json:
        return {"id": self.id("chatcmpl-"), "object": kind, "created": CREATED, "model": self.model}

    def _chunk(self, delta: Json, *, finish: str | None = None, tokens: int = 0) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({**self._envelope("chat.completion.chunk"), "choices": [choice]}, tokens=tokens)

    def _usage(self) -> Json:
        prompt, output = self.script.prompt_tokens, self.script.tokens
        return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


class Responses(OpenAI):
    """OpenAI Responses."""

    def events(self) -> Iterator[Event]:
        for number, (kind, values, tokens) in enumerate(self._steps()):
            yield sse({"type": kind, "sequence_number": number, **values}, name=kind, tokens=tokens)

    def document(self) -> Json:
        return self._response("completed", [self._message(), *([self._call()] if self.tool else [])])

    def error_event(self) -> Event:
        error = {
            "type": "error",
            "sequence_number": 0,
            "code": "server_error",
            "message": "scripted error",
            "param": None,
        }
        return sse(error, name="error")

    def _steps(self) -> Iterator[tuple[str, Json, int]]:
        yield "response.created", {"response": self._response("in_progress", [])}, 0
        yield "response.in_progress", {"response": self._response("in_progress", [])}, 0
        empty = {**self._message(), "status": "in_progress", "content": []}
        yield "response.output_item.added", {"output_index": 0, "item": empty}, 0
        place = {"item_id": self.id("msg_"), "output_index": 0, "content_index": 0}
        yield "response.content_part.added", {**place, "part": self._part("")}, 0
        padding = {"obfuscation": self.script.padding} if self.script.padding else {}
        for k in range(self.script.tokens):
            yield "response.output_text.delta", {**place, "delta": token(k), "logprobs": [], **padding}, 1
        yield "response.output_text.done", {**place, "text": self.script.text, "logprobs": []}, 0
        yield "response.content_part.done", {**place, "part": self._part(self.script.text)}, 0
        yield "response.output_item.done", {"output_index": 0, "item": self._message()}, 0
        if self.tool:
            call, place = self._call(), {"item_id": self.id("fc_"), "output_index": 1}
            yield "response.output_item.added", {"output_index": 1, "item": {**call, "arguments": ""}}, 0
            yield "response.function_call_arguments.delta", {**place, "delta": call["arguments"]}, 0
            done = {**place, "name": call["name"], "arguments": call["arguments"]}
            yield "response.function_call_arguments.done", done, 0
            yield "response.output_item.done", {"output_index": 1, "item": call}, 0
        yield "response.completed", {"response": self.document()}, 0

    def _part(self, text: str) -> Json:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _message(self) -> Json:
        shape = {"id": self.id("msg_"), "type": "message", "status": "completed", "role": "assistant"}
        return {**shape, "content": [self._part(self.script.text)]}

    def _call(self) -> Json:
        name, arguments = self.tool or ("", {})
        ids = {"id": self.id("fc_"), "type": "function_call", "status": "completed", "call_id": self.id("call_")}
        return {**ids, "name": name, "arguments": json.dumps(arguments)}

    def _response(self, status: str, output: list[Json]) -> Json:
        prompt, tokens = self.script.prompt_tokens, self.script.tokens
        usage = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + tokens,
        }
        return {
            "id": self.id("resp_"),
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self.model,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": self.request.get("tools", []),
            "top_p": 1.0,
            "usage": usage if status == "completed" else None,
        }


class Messages(Grammar):
    """Anthropic messages."""

    request_id_header = "request-id"

    def events(self) -> Iterator[Event]:
        for values, tokens in self._steps():
            yield sse(values, name=values["type"], tokens=tokens)

    def document(self) -> Json:
        content: list[Json] = [{"type": "text", "text": self.script.text}, *([self._use()] if self.tool else [])]
        return {
            **self._message(),
            "content": content,
            "stop_reason": self._stop,
            "usage": self._usage(self.script.tokens),
        }

    def error(self) -> Json:
        error = {"type": "overloaded_error", "message": "scripted error"}
        return {"type": "error", "error": error, "request_id": self.id("req_")}

    def error_event(self) -> Event:
        return sse(self.error(), name="error")

    @property
    def _stop(self) -> str:
        return "tool_use" if self.tool else "end_turn"

    def _steps(self) -> Iterator[tuple[Json, int]]:
        yield {"type": "message_start", "message": self._message()}, 0
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, 0
        yield {"type": "ping"}, 0
        for k in range(self.script.tokens):
            delta = {"type": "text_delta", "text": token(k)}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}, 1
        yield {"type": "content_block_stop", "index": 0}, 0
        if self.tool:
            yield {"type": "content_block_start", "index": 1, "content_block": {**self._use(), "input": {}}}, 0
            delta = {"type": "input_json_delta", "partial_json": json.dumps(self.tool[1])}
            yield {"type": "content_block_delta", "index": 1, "delta": delta}, 0
            yield {"type": "content_block_stop", "index": 1}, 0
        stop = {"stop_reason": self._stop, "stop_sequence": None}
        yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": self.script.tokens}}, 0
        yield {"type": "message_stop"}, 0

    def _use(self) -> Json:
        name, arguments = self.tool or ("", {})
        return {"type": "tool_use", "id": self.id("toolu_"), "name": name, "input": arguments}

    def _usage(self, output: int) -> Json:
        return {"input_tokens": self.script.prompt_tokens, "output_tokens": output}

    def _message(self) -> Json:
        stop = {"stop_reason": None, "stop_sequence": None}
        shape = {"id": self.id("msg_"), "type": "message", "role": "assistant", "model": self.model, "content": []}
        return {**shape, **stop, "usage": self._usage(1)}


class GenerateContent(Grammar):
    """Gemini. Its events end with CRLF, and nothing but `finishReason` says that one is the last."""

    def events(self) -> Iterator[Event]:
        for k in range(self.script.tokens):
            last = k + 1 == self.script.tokens and not self.tool
            yield self._chunk([{"text": token(k)}], k + 1, last=last, tokens=1)
        if self.tool or not self.script.tokens:
            yield self._chunk([self._call()] if self.tool else [], self.script.tokens, last=True)

    def document(self) -> Json:
        parts: list[Json] = [{"text": self.script.text}, *([self._call()] if self.tool else [])]
        return self._content(parts, self.script.tokens, last=True)

    def error(self) -> Json:
        return {"error": {"code": self.script.status or 503, "message": "scripted error", "status": "UNAVAILABLE"}}

    def error_event(self) -> Event:
        return self._crlf(self.error())

    def _call(self) -> Json:
        name, arguments = self.tool or ("", {})
        return {"functionCall": {"name": name, "args": arguments}}

    def _chunk(self, parts: list[Json], output: int, *, last: bool, tokens: int = 0) -> Event:
        return self._crlf(self._content(parts, output, last=last), tokens)

    def _crlf(self, data: Json, tokens: int = 0) -> Event:
        return Event(f"data: {json.dumps(data)}\r\n\r\n".encode(), tokens)

    def _content(self, parts: list[Json], output: int, *, last: bool) -> Json:
        prompt = self.script.prompt_tokens
        usage = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}
        candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if last:
            candidate["finishReason"] = "STOP"
        ids = {"modelVersion": self.model, "responseId": self.id("gemini-")}
        return {"candidates": [candidate], "usageMetadata": usage, **ids}


_GRAMMARS: tuple[tuple[re.Pattern[str], type[Grammar]], ...] = (
    (re.compile(r"/chat/completions$"), Chat),
    (re.compile(r"/responses$"), Responses),
    (re.compile(r"/messages$"), Messages),
    (re.compile(r"/models/(?P<model>[^/:]+):(?P<method>generateContent|streamGenerateContent)$"), GenerateContent),
)


def grammar(script: Script, number: int, path: str, body: bytes) -> Grammar | None:
    """What speaks at this path, whatever stands before it; None where nothing does."""
    for pattern, kind in _GRAMMARS:
        if found := pattern.search(path.partition("?")[0]):
            request = _json(body)
            named = found.groupdict()
            model = str(named.get("model") or request.get("model") or "scripted")
            streams = named["method"] == "streamGenerateContent" if named else request.get("stream") is True
            return kind(script, number, request, model, streams)
    return None


def models() -> Json:
    """The model list, in a shape that OpenAI's, Anthropic's and Google's clients each find theirs in."""
    model = {"id": "scripted", "object": "model", "created": CREATED, "owned_by": "scripted", "type": "model"}
    model |= {"display_name": "Scripted", "created_at": "2025-11-13T00:00:00Z"}
    return {
        "object": "list",
        "data": [model],
        "has_more": False,
        "first_id": "scripted",
        "last_id": "scripted",
        "models": [{"name": "models/scripted", "displayName": "Scripted"}],
    }


def _json(body: bytes) -> Json:
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
