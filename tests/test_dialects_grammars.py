"""The corners of the younger grammars: Interactions, UI message stream, LangGraph, Ollama, Bedrock."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from resumestream.dialects import named
from resumestream.framing.messages import message_of
from resumestream.model import Outcome
from resumestream.policy import Policy
from resumestream.ports import Mark
from resumestream.reading import Reading

from .test_dialects import event


def line(body: object) -> bytes:
    return json.dumps(body).encode() + b"\n"


def message(kind: str, payload: object, message_type: str = "event") -> bytes:
    """A Bedrock event."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": message_type}
    return message_of(headers, json.dumps(payload).encode())


def failure(payload: object = None, **headers: str) -> bytes:
    """A Bedrock message that tells a failure."""
    named = {":" + name.replace("_", "-"): value for name, value in headers.items()}
    return message_of(named, b"" if payload is None else json.dumps(payload).encode())


def chunk(body: object) -> bytes:
    """A Bedrock event of an invoked model."""
    return message("chunk", {"bytes": b64encode(json.dumps(body).encode()).decode()})


METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 1, "outputTokenCount": 2}}
COMPLETED = "interaction.completed"

BLOCKS: list[tuple[str, bytes, Mark, str]] = [
    # Interactions
    ("gemini-interactions", event({"event_type": COMPLETED, "interaction": {"status": "completed"}}), Mark.END, ""),
    (
        "gemini-interactions",
        event({"event_type": COMPLETED, "interaction": {"status": "requires_action"}}),
        Mark.END,
        "",
    ),
    ("gemini-interactions", event({"event_type": COMPLETED}), Mark.END, ""),
    ("gemini-interactions", event({}, COMPLETED), Mark.END, ""),
    (
        "gemini-interactions",
        event({"event_type": COMPLETED, "interaction": {"status": "failed"}}),
        Mark.ERROR,
        "failed",
    ),
    (
        "gemini-interactions",
        event({"event_type": COMPLETED, "interaction": {"status": "cancelled"}}),
        Mark.ERROR,
        "cancelled",
    ),
    ("gemini-interactions", b"event: done\ndata: [DONE]\n\n", Mark.END, ""),
    ("gemini-interactions", b"data:[DONE]\r\n\r\n", Mark.END, ""),
    ("gemini-interactions", event({"event_type": "error", "error": {"code": "c", "message": "m"}}), Mark.ERROR, "c"),
    ("gemini-interactions", event({"message": "m"}, "error"), Mark.ERROR, "error"),
    ("gemini-interactions", event({"error": {"code": 503, "status": "UNAVAILABLE"}}), Mark.ERROR, "UNAVAILABLE"),
    ("gemini-interactions", event({"event_type": "interaction.created", "interaction": {}}), Mark.EVENT, ""),
    ("gemini-interactions", event({"event_type": "interaction.status_update", "status": "failed"}), Mark.EVENT, ""),
    ("gemini-interactions", event({"event_type": "step.delta", "delta": f"{COMPLETED} [DONE] error"}), Mark.EVENT, ""),
    ("gemini-interactions", b": error\n\n", Mark.BLANK, ""),
    # AI SDK UI
    ("ui-message-stream", b"data: [DONE]\n\n", Mark.END, ""),
    ("ui-message-stream", event({"type": "finish"}), Mark.EVENT, ""),
    ("ui-message-stream", event({"type": "abort", "reason": "user"}), Mark.EVENT, ""),
    (
        "ui-message-stream",
        event({"type": "error", "errorText": "An error occurred."}),
        Mark.ERROR,
        "An error occurred.",
    ),
    ("ui-message-stream", event({"type": "error"}), Mark.ERROR, "unspecified"),
    ("ui-message-stream", event({"type": "tool-output-error", "errorText": "x"}), Mark.EVENT, ""),
    ("ui-message-stream", event({"type": "data-x", "data": {"type": "error", "errorText": "x"}}), Mark.EVENT, ""),
    ("ui-message-stream", event({"type": "text-delta", "delta": "[DONE]"}), Mark.EVENT, ""),
    ("ui-message-stream", b": keep-alive\n\n", Mark.BLANK, ""),
    # LangGraph
    ("langgraph", b"event: end\ndata: null\n\n", Mark.END, ""),
    ("langgraph", b"event:end\r\ndata\r\nid: 7\r\n\r\n", Mark.END, ""),
    ("langgraph", event({"error": "ValueError", "message": "m"}, "error"), Mark.ERROR, "ValueError"),
    ("langgraph", event({"message": "m"}, "error"), Mark.ERROR, "m"),
    ("langgraph", b"event: error\ndata: x\n\n", Mark.ERROR, "unspecified"),
    ("langgraph", event({"text": "event: end"}, "messages/partial"), Mark.EVENT, ""),
    ("langgraph", event([], "events"), Mark.EVENT, ""),
    ("langgraph", event({}, "endless"), Mark.EVENT, ""),
    ("langgraph", b"event: end\n\n", Mark.BLANK, ""),
    # Ollama
    ("ollama", line({"done": True, "done_reason": "stop"}), Mark.END, ""),
    ("ollama", b'{"done" :\ttrue}\r\n', Mark.END, ""),
    ("ollama", line({"done": False}), Mark.EVENT, ""),
    ("ollama", line({"error": "boom"}), Mark.ERROR, "boom"),
    ("ollama", line({"error": {"code": "c"}}), Mark.ERROR, "c"),
    ("ollama", line({"error": ""}), Mark.EVENT, ""),
    ("ollama", line({"message": {"done": True, "content": '"done":true "error"'}, "done": False}), Mark.EVENT, ""),
    ("ollama", line({"message": {"tool_calls": [{"error": "x"}]}}), Mark.EVENT, ""),
    ("ollama", b"\r\n", Mark.BLANK, ""),
    ("ollama", b"<html>\n", Mark.EVENT, ""),
    # Bedrock
    ("bedrock", message("messageStop", {"stopReason": "end_turn"}), Mark.EVENT, ""),
    ("bedrock", message("metadata", {"usage": {}}), Mark.END, ""),
    ("bedrock", message("metadata", "x"), Mark.END, ""),
    ("bedrock", message("contentBlockDelta", {"delta": {"text": "metadata messageStop"}}), Mark.EVENT, ""),
    (
        "bedrock",
        failure({"message": "m"}, message_type="exception", exception_type="throttlingException"),
        Mark.ERROR,
        "throttlingException",
    ),
    ("bedrock", failure(message_type="error", error_code="c", error_message="m"), Mark.ERROR, "c"),
    ("bedrock", failure(message_type="error", error_message="m"), Mark.ERROR, "m"),
    ("bedrock", failure({"message": "m"}, message_type="exception"), Mark.ERROR, "m"),
    ("bedrock", failure(message_type="error"), Mark.ERROR, "unspecified"),
    ("bedrock", chunk({"type": "message_delta"}), Mark.EVENT, ""),
    ("bedrock", chunk({"text": "amazon-bedrock-invocationMetrics"}), Mark.EVENT, ""),
    *(("bedrock", chunk({"x": "y" * pad, **METRICS}), Mark.END, "") for pad in range(3)),
    ("bedrock", message("chunk", {"bytes": "YW1hem9uLWJlZHJvY2staW52b2NhdGlvbk1ldHJpY3=!"}), Mark.EVENT, ""),
    ("bedrock", message("chunk", {"bytes": 7}), Mark.EVENT, ""),
    ("bedrock", b":message-type\x07\x00\x09exception", Mark.EVENT, ""),
]


@pytest.mark.parametrize(("dialect", "block", "mark", "error"), BLOCKS)
def test_what_a_block_means(dialect: str, block: bytes, mark: Mark, error: str) -> None:
    """As the first one and behind another: what the grammar names at its place, and nothing in a text."""
    harmless = {"ollama": line({"done": False}), "bedrock": message("messageStart", {})}.get(dialect, event({}, "x"))
    for before in ((), (harmless,)):
        scanner = named(dialect).scanner()
        assert [scanner.scan(each) for each in before] == [Mark.EVENT for _ in before]
        assert (scanner.scan(block), scanner.error) == (mark, error)


@pytest.mark.parametrize(
    ("dialect", "blocks", "ends"),
    [
        ("gemini-interactions", [event({"event_type": "step.stop"})], False),
        ("ui-message-stream", [], False),
        ("ui-message-stream", [event({"type": "text-end"})], False),
        ("ui-message-stream", [event({"type": "finish"})], True),
        ("ui-message-stream", [event({"type": "abort"}), event({"type": "x"})], True),
        ("langgraph", [], False),
        ("langgraph", [b": heartbeat\r\n\r\n"], False),
        ("langgraph", [event({}, "values")], True),
        ("ollama", [line({"done": False})], False),
        ("bedrock", [], False),
        ("bedrock", [message("contentBlockStop", {})], False),
        ("bedrock", [message("messageStop", {})], True),
        ("bedrock", [chunk({"type": "message_stop"})], False),
    ],
)
def test_what_a_framed_end_means(dialect: str, blocks: list[bytes], ends: bool) -> None:
    """The end of the answer, where the wire has said that it is finished, or where it never says so."""
    scanner = named(dialect).scanner()
    for block in blocks:
        scanner.scan(block)
    assert scanner.ends_at_framed_end() is ends


# --- answers that are not event streams, read to their end --------------------------------------------------------

LINES = [line({"model": "m", "done": False}), line({"done": False}), line({"done": True, "eval_count": 2})]
MESSAGES = [
    message("messageStart", {}),
    message("contentBlockDelta", {"delta": {}}),
    message("messageStop", {}),
    message("metadata", {"usage": {"outputTokens": 2}}),
]
WIRES = {"ollama": LINES, "bedrock": MESSAGES}


def read(dialect: str, body: bytes, size: int, *, framed: bool) -> tuple[bytes, Reading, Outcome, str]:
    """The payload and the ending of a body in pieces of `size`."""
    reading = Reading(named(dialect), policy=Policy(), where="the provider")
    out = b"".join(reading.feed(body[at : at + size]).data for at in range(0, len(body), size))
    last, ending = reading.finish(None, framed=framed)
    return out + last.data, reading, ending.seal.outcome, ending.detail


@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize(("dialect", "blocks"), WIRES.items(), ids=WIRES)
def test_an_answer_that_ends_after_every_byte(dialect: str, blocks: list[bytes], framed: bool) -> None:
    """Whole records before it are kept, half ones never; it is complete only once its last one is. None is counted as
    an event: these bodies cannot be read as such."""
    body, ends = b"".join(blocks), [0]
    for block in blocks:
        ends.append(ends[-1] + len(block))
    for at in range(len(body) + 1):
        payload, reading, outcome, detail = read(dialect, body[:at], 7, framed=framed)
        # Right behind messageStop, and where the last line only lacks its line end, a framed end leaves nothing open.
        finished = at == len(body) or (framed and at == (ends[3] if dialect == "bedrock" else len(body) - 1))
        assert outcome is (Outcome.COMPLETED if finished else Outcome.TRUNCATED), (at, detail)
        assert payload == body[: at if finished else max(end for end in ends if end <= at)]
        assert reading.events == 0
    assert reading.usage is not None
    assert reading.usage.output_tokens == 2


@pytest.mark.parametrize(
    ("dialect", "before", "error"),
    [("ollama", LINES[0], line({"error": "boom"})), ("bedrock", MESSAGES[0], failure(message_type="error"))],
)
def test_a_reported_error_ends_it(dialect: str, before: bytes, error: bytes) -> None:
    """And releases the key if nothing was said before it."""
    for body, released in ((error, True), (before + error, False)):
        reading = Reading(named(dialect), policy=Policy(), where="the provider")
        assert reading.feed(body).data == body
        _, ending = reading.finish(None, framed=True)
        assert (ending.detail, ending.released) == ("error_event", released)


def test_lines_that_are_no_messages_are_held_back() -> None:
    """A gateway's page of HTML where messages should be: nothing of it is shown, and it is no answer."""
    payload, reading, outcome, detail = read("bedrock", MESSAGES[0] + b"<html>" * 100, 7, framed=True)
    assert (payload, outcome, detail) == (MESSAGES[0], Outcome.TRUNCATED, "no_terminal_event")
    assert reading.begun


def test_the_caps_count_records() -> None:
    """As they do events: no half one, and none that is too large."""
    body = b"".join(LINES)
    for policy, kept, detail in (
        (Policy(max_stream_bytes=len(LINES[0]) + 3), LINES[0], "max_stream_bytes"),
        (Policy(max_event_bytes=len(LINES[0])), LINES[0] + LINES[1], "max_event_bytes"),
    ):
        reading = Reading(named("ollama"), policy=policy, where="it")
        portion = reading.feed(body)
        assert portion.data == kept
        assert reading.finish(portion.capped)[1].detail == detail
