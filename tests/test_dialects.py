"""Each grammar against whole transcripts, its corner cases and garbage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumestream.dialects import DIALECTS, expected, named, spoken
from resumestream.errors import ConfigError
from resumestream.framing import LINES, MESSAGES, SSE, Framing
from resumestream.model import Head
from resumestream.ports import Mark, Scanner
from resumestream.usage import MOST_CHARS

CHECKOUT = Path(__file__).parents[1]
FIXTURES = CHECKOUT / "fixtures"
RECORDINGS = CHECKOUT.parent / "shared" / "recordings"


@dataclass(frozen=True)
class Expected:
    """How a transcript reads. Its terminal mark, if any, is on its last event, or on the rest after it."""

    dialect: str
    events: int = 0
    terminal: Mark | None = None
    framed: bool = False
    """Whether a framed end after it all is an end; never before its first event unless there is no grammar."""
    error: str = ""
    configured: str | None = None
    after: int = 0
    """Events behind the terminal one."""


TRANSCRIPTS = {
    "anthropic": Expected("anthropic", 44, Mark.END),
    "anthropic-error": Expected("anthropic", 15, Mark.ERROR, error="overloaded_error"),
    "bedrock": Expected("bedrock", 40, Mark.END, framed=True),
    "bedrock-error": Expected("bedrock", 10, Mark.ERROR, error="throttlingException"),
    "bedrock-invoke": Expected("bedrock", 23, Mark.END),
    "gemini": Expected("gemini", 11, framed=True),
    "gemini-error": Expected("gemini", 4, Mark.ERROR, error="UNAVAILABLE"),
    "gemini-interactions": Expected("gemini-interactions", 24, Mark.END, after=1),
    "gemini-interactions-error": Expected("gemini-interactions", 10, Mark.ERROR, error="resource_exhausted"),
    "langgraph": Expected("langgraph", 21, Mark.END, framed=True),
    "langgraph-error": Expected("langgraph", 11, Mark.ERROR, framed=True, error="ValueError"),
    "ollama": Expected("ollama", 38, Mark.END),
    "ollama-error": Expected("ollama", 13, Mark.ERROR, error="an error was encountered while running the model"),
    "openai-chat": Expected("openai-chat", 41, Mark.END, framed=True),
    "openai-chat-comments": Expected("openai-chat", 40, Mark.END, framed=True),
    "openai-chat-error": Expected("openai-chat", 11, Mark.ERROR, error="tool_use_failed"),
    "openai-chat-json": Expected("plain", framed=True),
    "openai-chat-two-choices": Expected("openai-chat", 25, framed=True),
    "openai-responses": Expected("openai-responses", 45, Mark.END),
    "openai-responses-failed": Expected("openai-responses", 13, Mark.ERROR, error="server_error"),
    "ui-message-stream": Expected("ui-message-stream", 29, Mark.END, framed=True),
    "ui-message-stream-error": Expected("ui-message-stream", 13, Mark.ERROR, error="An error occurred."),
    "unknown-cr": Expected("unknown", 13, framed=True),
    # Recorded from real providers.
    "anthropic-text-editor-code-execution.1": Expected("anthropic", 62, Mark.END),
    "anthropic-thinking.1": Expected("anthropic", 118, Mark.END),
    "anthropic-web-search-pause-turn.1": Expected("anthropic", 168, Mark.END),
    "bedrock-converse.1": Expected("bedrock", 33, Mark.END, framed=True),
    "deepseek-reasoning.1": Expected("openai-chat", 212, Mark.END, framed=True),
    "gemini-text.1": Expected("gemini", 1, framed=True),
    "gemini-text.3": Expected("gemini", 2, framed=True),
    "gemini-web-search.1": Expected("gemini", 10, framed=True),
    "groq-midstream-error.1": Expected("openai-chat", 86, Mark.ERROR, error="tool_use_failed"),
    "openai-chat-real.1": Expected("openai-chat", 9, Mark.END, framed=True),
    "openai-responses-background-resume.1": Expected("openai-responses", 17, Mark.END),
    "openai-responses-background-resume.2": Expected(
        "openai-responses", 16, Mark.END, configured="openai-responses"
    ),  # a GET of an answer by its id
    "openai-responses-text.1": Expected("openai-responses", 11, Mark.END),
    "openai-responses-web-search.1": Expected("openai-responses", 61, Mark.END),
    "openrouter-reasoning.1": Expected("openai-chat", 103, Mark.END, framed=True),
    "zai-thinking.1": Expected("openai-chat", 94, Mark.END, framed=True),
}
METAS = sorted([*FIXTURES.glob("*.json"), *RECORDINGS.glob("*.json")])


def body_of(meta: Path) -> bytes:
    """The body beside a transcript's description."""
    (body,) = (path for path in meta.parent.glob(f"{meta.stem}.*") if path != meta)
    return body.read_bytes()


def blocks_of(stream: bytes, framing: Framing = SSE) -> list[bytes]:
    """Blocks, and the rest as a last one."""
    if framing.splitter is None:
        return [stream]
    splitter = framing.splitter()
    blocks = splitter.feed(stream)
    return [*blocks, splitter.rest()] if splitter.held else blocks


def event(body: object, name: str = "") -> bytes:
    """One event of JSON."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(body).encode() + b"\n\n"


def scanned(dialect: str, *bodies: object) -> tuple[Scanner, list[Mark]]:
    """The marks of events with these JSON bodies."""
    scanner = named(dialect).scanner()
    return scanner, [scanner.scan(event(body)) for body in bodies]


@pytest.mark.parametrize("meta", METAS, ids=lambda meta: meta.stem)
def test_transcripts(meta: Path) -> None:
    """The dialect is chosen from path and head, and the terminal mark is found where it is and nowhere else."""
    call, told = json.loads(meta.read_text(encoding="utf-8")), TRANSCRIPTS[meta.stem]
    path = call["request"].get("path") or call["request"]["uri"]
    head = Head(call["response"]["status"], tuple(call["response"]["headers"].items()))
    dialect = spoken(expected(told.configured, path), head)
    scanner = dialect.scanner()
    assert dialect.name == told.dialect
    marks, framed = [], [scanner.ends_at_framed_end()]
    for block in blocks_of(body_of(meta), dialect.framing):
        mark = scanner.scan(block)
        if mark is not Mark.BLANK:
            marks.append(mark)
            framed.append(scanner.ends_at_framed_end())
    terminal = [told.terminal] if told.terminal else []
    extra = 1 if meta.stem == "gemini-error" else 0  # its error is no event
    assert len(marks) == told.events + extra
    seen = [mark for mark in marks[: len(marks) - told.after] if mark in (Mark.END, Mark.ERROR)]
    assert seen == terminal
    assert marks[len(marks) - told.after - len(terminal) :][: len(terminal)] == terminal
    assert (framed[-1] or dialect.ends_as_framed) is told.framed
    assert framed[0] is False
    assert scanner.error == told.error


def test_every_transcript_of_our_own_is_expected() -> None:
    """Each fixture has its line in the table and its call beside it, and each dialect has a fixture."""
    ours = {path.stem for path in FIXTURES.iterdir() if path.suffix in (".sse", ".bin")}
    assert ours == {path.stem for path in FIXTURES.glob("*.json")}
    assert ours <= TRANSCRIPTS.keys()
    assert {TRANSCRIPTS[name].dialect for name in ours} == DIALECTS.keys()


def test_a_framed_end_is_no_end_before_the_last_finish() -> None:
    """Cut anywhere before its last finish reason, a stream without terminal event is not whole."""
    for name, dialect in (("gemini", "gemini"), ("openai-chat-two-choices", "openai-chat")):
        scanner = named(dialect).scanner()
        ends = []
        for block in blocks_of((FIXTURES / f"{name}.sse").read_bytes()):
            assert scanner.scan(block) is Mark.EVENT
            ends.append(scanner.ends_at_framed_end())
        assert ends == [False] * (len(ends) - 1) + [True]


# --- choosing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "openai-chat"),
        ("/openai/deployments/x/chat/completions?api-version=2026-01-01", "openai-chat"),
        ("/v1/completions", "openai-chat"),
        ("/v1/responses", "openai-responses"),
        ("/v1/responses/", "openai-responses"),
        ("/v1/messages?beta=true", "anthropic"),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", "gemini"),
        ("/v1beta/models/gemini-2.5-pro:generateContent", "unknown"),
        ("/v1/messages/count_tokens", "unknown"),
        ("/x?next=/v1/messages", "unknown"),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/river-1:streamRawPredict", "anthropic"),
        ("/v1/projects/p/locations/l/publishers/mistralai/models/river-1:streamRawPredict", "unknown"),
        ("/v1/interactions", "gemini-interactions"),
        ("/v1/interactions/int_1/cancel", "unknown"),
        ("/runs/stream", "langgraph"),
        ("/threads/t/runs/stream", "langgraph"),
        ("/api/chat", "ollama"),
        ("/api/generate", "ollama"),
        ("/model/us.amazon.nova-micro-v1%3A0/converse-stream", "bedrock"),
        ("/model/river-1/invoke-with-response-stream", "bedrock"),
        ("/model/river-1/converse", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_endpoint_tells_the_dialect(path: str, name: str) -> None:
    """By the end of the path, without its query."""
    assert expected(None, path) == name


def head(content_type: str, *more: tuple[str, str]) -> Head:
    return Head(200, (("content-type", content_type), *more))


MEDIA = {
    SSE: "text/event-stream; charset=utf-8",
    LINES: "application/x-ndjson",
    MESSAGES: "application/vnd.amazon.eventstream",
}


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/json", "audio/mpeg", "Text/Event-Stream", *MEDIA.values()]
)
def test_a_wrong_guess_costs_nothing(name: str, content_type: str) -> None:
    """The configured dialect, or the guessed one, is spoken where the answer is of its media type; else the answer is
    events, or bytes, that nobody adds anything to."""
    assert expected(name, "/v1/chat/completions") == name
    answer = head(content_type)
    fits = MEDIA.get(named(name).framing, "").partition(";")[0] == content_type.lower().partition(";")[0] != ""
    other = "unknown" if answer.is_sse else "plain"
    assert spoken(name, answer).name == (name if fits else other)
    packed = head(content_type, ("content-encoding", "gzip"))
    assert spoken(name, packed).name == "plain"


def test_headers_tell_what_path_and_configuration_do_not() -> None:
    """Ollama's path is the AI SDK's as well; an event stream with its header is the latter, and so is any other that
    nothing else is expected of."""
    header = ("x-vercel-ai-ui-message-stream", "v1")
    for name in ("ollama", "unknown", "bedrock", "plain", "ui-message-stream", "of a later version"):
        assert spoken(name, head("text/event-stream", header)).name == "ui-message-stream"
    assert spoken("openai-chat", head("text/event-stream", header)).name == "openai-chat"
    assert spoken("unknown", head("application/json", header)).name == "plain"
    assert spoken("ollama", head("text/event-stream")).name == "unknown"


def test_an_unknown_name_is_refused() -> None:
    """With the names there are, also where the answer would not be read."""
    with pytest.raises(ConfigError, match=r"openai-chat, openai-responses, anthropic, gemini, .*, unknown, plain"):
        named("openia")
    with pytest.raises(ConfigError, match="'openia'"):
        expected("openia", "/")


# --- the grammars' corners --------------------------------------------------------------------------------------


def choice(index: int | None, finish: str | None = None) -> dict[str, Any]:
    """A chat choice."""
    return {**({} if index is None else {"index": index}), "delta": {"content": "x"}, "finish_reason": finish}


@pytest.mark.parametrize(
    ("chunks", "ends"),
    [
        ([], False),
        ([[]], False),
        ([[choice(0)]], False),
        ([[choice(0, "stop")]], True),
        ([[choice(0, "stop")], [choice(0)], []], True),
        ([[choice(None, "stop")]], True),
        ([[choice(0), choice(1)], [choice(0, "stop")]], False),
        ([[choice(0), choice(1)], [choice(1, "stop")]], False),
        ([[choice(0), choice(10)], [choice(0, "stop")], [choice(10, "length")]], True),
        ([[choice(0, "stop"), choice(1)]], False),
        ([[choice(0, "stop")], [choice(1, "stop")], [choice(1)]], True),
        ([[choice(0, "stop"), choice(1, "tool_calls")]], True),
    ],
)
def test_chat_is_whole_once_every_choice_finished(chunks: list[list[dict[str, Any]]], ends: bool) -> None:
    """Without `[DONE]` a framed end is the end after a finish_reason on every choice, in any spacing of the JSON."""
    for separators in ((",", ":"), (", ", ": "), (" ,\t", " :  ")):
        scanner = named("openai-chat").scanner()
        for choices in chunks:
            text = json.dumps({"object": "chat.completion.chunk", "choices": choices}, separators=separators)
            assert scanner.scan(f"data:{text}\r\n\r\n".encode()) is Mark.EVENT
        assert scanner.ends_at_framed_end() is ends


def test_chat_ends_with_done_only() -> None:
    """`[DONE]` as the data, in any line end, spaced or not; in a text it is a text."""
    scanner = named("openai-chat").scanner()
    for end in (b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"event: x\rdata: [DONE]\r\r", b"data: [DONE]"):
        assert scanner.scan(end) is Mark.END
    for text in (b'data: {"x":"[DONE]"}\n\n', b": [DONE]\n\n", b"data: x[DONE]\n\n"):
        assert scanner.scan(text) is not Mark.END


def test_vllm_has_its_own_errors() -> None:
    """An object that says to be one, in place of a chunk; the client sees it as it came."""
    scanner, marks = scanned("openai-chat", {"object": "error", "message": "m", "type": "BadRequestError", "code": 400})
    assert (marks, scanner.error) == ([Mark.ERROR], "BadRequestError")


@pytest.mark.parametrize(
    ("error", "described"),
    [
        ({"message": "m", "type": "t", "code": "c"}, "c"),
        ({"message": "m", "type": "t", "code": None}, "t"),
        ({"message": "Provider  returned\n\x1b[31merror", "code": 502}, "Provider returned [31merror"),
        ({"code": 502}, "502"),
        ({"x": 1}, "unspecified"),
        ("boom", "boom"),
        (["boom"], "unspecified"),
        (True, "True"),
        ({"message": "\ud800" + "y" * 1000}, "y" * 200),
    ],
)
def test_chat_errors_are_top_level(error: object, described: str) -> None:
    """Any truthy top-level `error` is one, described in a short printable line, code first."""
    scanner, marks = scanned("openai-chat", {"id": 1, "error": error})
    assert marks == [Mark.ERROR]
    assert scanner.error == described
    assert len(scanner.error.encode()) <= 200


@pytest.mark.parametrize(
    "body", [{"error": None}, {"error": {}}, {"choices": [{"error": {"code": 1}}]}, [{"error": 1}], "error"]
)
def test_other_errors_are_no_chat_error(body: object) -> None:
    """Empty ones, and those further down."""
    assert scanned("openai-chat", body)[1] == [Mark.EVENT]


RESPONSES = [
    ({"type": "response.completed", "response": {"error": None}}, Mark.END, ""),
    ({"type": "response.incomplete", "response": {"error": None}}, Mark.END, ""),
    (
        {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "m"}}},
        Mark.ERROR,
        "rate_limit_exceeded",
    ),
    ({"type": "response.failed", "response": None}, Mark.ERROR, "response.failed"),
    ({"type": "response.cancelled", "response": {"error": None}}, Mark.ERROR, "response.cancelled"),
    ({"type": "response.completed"}, Mark.END, ""),
    ({"type": "response.incomplete"}, Mark.END, ""),
    ({"type": "response.failed"}, Mark.ERROR, "response.failed"),
    ({"type": "response.cancelled"}, Mark.ERROR, "response.cancelled"),
    ({"type": "error", "code": "server_error", "message": "m", "param": None}, Mark.ERROR, "server_error"),
    ({"type": "error", "code": None, "message": "m"}, Mark.ERROR, "m"),
    ({"type": "error", "error": {"type": "t", "message": "m"}}, Mark.ERROR, "t"),
    ({"error": {"message": "m"}}, Mark.ERROR, "m"),
    ({"type": 7, "error": {"message": "m"}}, Mark.ERROR, "m"),
    ({"type": ["response.completed"], "error": None}, Mark.EVENT, ""),
    ({"type": "response.in_progress", "error": {"message": "m"}}, Mark.EVENT, ""),
    ({"type": "response.in_progress", "response": {"error": None}}, Mark.EVENT, ""),
    ({"type": "response.output_text.delta", "delta": 'say response.completed and "error"'}, Mark.EVENT, ""),
]


@pytest.mark.parametrize(("body", "mark", "error"), RESPONSES)
def test_responses(body: object, mark: Mark, error: str) -> None:
    """The type decides; an `error` is one at the top only, and nothing but the final events ends the stream."""
    scanner, marks = scanned("openai-responses", body)
    assert (marks, scanner.error) == ([mark], error)
    assert not scanner.ends_at_framed_end()


def test_responses_by_event_name() -> None:
    """Where the JSON has no type, the event's name is it."""
    scanner = named("openai-responses").scanner()
    assert scanner.scan(event({"response": {}}, "response.completed")) is Mark.END
    assert scanner.scan(event({"type": "response.created"}, "response.completed")) is Mark.EVENT
    assert scanner.scan(event({"message": "m"}, "error")) is Mark.EVENT  # no sign of an error in what the SDK reads


ANTHROPIC = [
    (event({"type": "message_stop"}, "message_stop"), Mark.END, ""),
    (event({"type": "message_stop"}), Mark.END, ""),
    (event({}, "message_stop"), Mark.END, ""),
    (event({"type": "ping"}, "ping"), Mark.EVENT, ""),
    (event({"type": "error", "error": {"type": "api_error", "message": "m"}}, "error"), Mark.ERROR, "api_error"),
    (event({"type": "error"}), Mark.ERROR, '{"type": "error"}'),
    (b"event: error\r\ndata: gateway\r\ndata: timeout\r\n\r\n", Mark.ERROR, "gateway timeout"),
    (b"event: error\n\n", Mark.BLANK, ""),
    (event({"type": "content_block_start", "content_block": {"type": "web_search_tool_result_error"}}), Mark.EVENT, ""),
    (
        event({"type": "content_block_delta", "delta": {"text": "message_stop error"}}, "content_block_delta"),
        Mark.EVENT,
        "",
    ),
    (event({"type": ["error"], "x": "message_stop"}), Mark.EVENT, ""),
]


@pytest.mark.parametrize(("block", "mark", "error"), ANTHROPIC)
def test_anthropic(block: bytes, mark: Mark, error: str) -> None:
    """Event name or type decide; a ping is an event; only `message_stop` ends the stream."""
    scanner = named("anthropic").scanner()
    assert (scanner.scan(block), scanner.error) == (mark, error)
    assert not scanner.ends_at_framed_end()


@pytest.mark.parametrize(
    ("bodies", "ends"),
    [
        ([], False),
        ([{"candidates": [{"content": {}}]}], False),
        ([{"candidates": [{"finishReason": "STOP"}]}], True),
        ([{"candidates": [{"finishReason": "STOP", "index": 0}, {"index": 1}]}], False),
        ([{"candidates": [{"index": 1}]}, {"candidates": [{"finishReason": "STOP"}]}], False),
        ([{"candidates": [{"index": 1, "finishReason": "STOP"}]}, {"candidates": [{"finishReason": "STOP"}]}], True),
        (
            [{"candidates": [{"index": n, "finishReason": "STOP"}]} for n in (0, 1)] + [{"candidates": [{"index": 1}]}],
            True,
        ),
        ([{"promptFeedback": {"blockReason": "SAFETY"}}], True),
        ([{"promptFeedback": "blockReason"}], False),
        ([{"usageMetadata": {}}], False),
    ],
)
def test_gemini_is_whole_once_every_candidate_finished(bodies: list[object], ends: bool) -> None:
    """Or once the prompt was blocked."""
    scanner, marks = scanned("gemini", *bodies)
    assert marks == [Mark.EVENT] * len(bodies)
    assert scanner.ends_at_framed_end() is ends


def test_gemini_errors() -> None:
    """As an event, or as bare JSON over several lines with or without a blank line after it."""
    error = {"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}
    bare = json.dumps(error, indent=2).replace("\n", "\r\n").encode()
    for block in (event(error), bare, bare + b"\r\n", bare + b"\r\n\r\n", json.dumps(error).encode()):
        scanner = named("gemini").scanner()
        assert (scanner.scan(block), scanner.error) == (Mark.ERROR, "UNAVAILABLE")
    for block in (b"\r\n", b': "error"\r\n\r\n', b'{"error": null}\n\n', b'[{"error": 1}]\n\n', b'"error"\n\n'):
        assert named("gemini").scanner().scan(block) is Mark.BLANK


def test_unknown_knows_no_end() -> None:
    """Other people's terminal events mean nothing to it."""
    scanner = named("unknown").scanner()
    for block in (b"data: [DONE]\n\n", event({"error": 1}, "error"), event({}, "message_stop")):
        assert scanner.scan(block) is Mark.EVENT
    assert scanner.scan(b": c\n\n") is Mark.BLANK
    assert not scanner.ends_at_framed_end()
    assert scanner.error == ""


def test_only_what_has_no_grammar_ends_anywhere() -> None:
    """Whatever a body ends with, its framing tells the end."""
    assert {dialect.name for dialect in DIALECTS.values() if dialect.ends_as_framed} == {"unknown", "plain"}


# --- garbage ----------------------------------------------------------------------------------------------------

KEYS = ["error", "type", "choices", "candidates", "index", "finish_reason", "finishReason", "promptFeedback"]
KEYS += ["blockReason", "response", "code", "message"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["error", "message_stop", "response.failed"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)
garbage = st.binary(max_size=200) | st.builds(
    lambda value, name, bare: json.dumps(value).encode() if bare else event(value, name),
    values,
    st.sampled_from(["", "error", "message_stop", "response.failed"]),
    st.booleans(),
)


@given(st.sampled_from(sorted(DIALECTS)), st.lists(garbage, max_size=5))
def test_garbage_never_raises(name: str, blocks: list[bytes]) -> None:
    """Whatever a provider sends, it gets a mark, and what is said about an error is short and printable."""
    scanner = named(name).scanner()
    for block in blocks:
        assert isinstance(scanner.scan(block), Mark)
        assert isinstance(scanner.ends_at_framed_end(), bool)
        assert scanner.usage is None or len(scanner.usage.verbatim) <= MOST_CHARS
        assert len(scanner.model) <= 200
        assert len(scanner.error) <= 200
        assert scanner.error.isprintable()


@pytest.mark.parametrize(
    "items", [5, "x", {"x": 1}, [5, "x", None, [1]], [{"index": [1]}], [{"index": "1"}, {"index": {}}]]
)
def test_misshapen_parts_are_skipped(items: object) -> None:
    """Choices that are no list, and choices that are no choices; an index that is no number is none."""
    for name, part, reason in (("openai-chat", "choices", "finish_reason"), ("gemini", "candidates", "finishReason")):
        scanner, marks = scanned(name, {part: items, "x": {reason: "stop", "index": 1}}, {part: [{reason: "stop"}]})
        assert marks == [Mark.EVENT] * 2
        assert scanner.ends_at_framed_end()


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_hostile_json_never_raises(name: str) -> None:
    """Nesting beyond the recursion limit, numbers beyond the digit limit, other encodings."""
    harmless = Mark.BLANK if name == "plain" else Mark.EVENT
    for data in (
        b"[" * 200_000,
        b'{"error":' * 100_000,
        b'{"error":' + b"9" * 10_000 + b"}",
        '{"error"'.encode("utf-16"),
    ):
        block = b'data: "error" "finish_reason":"x" message_stop response.failed\ndata: ' + data + b"\n\n"
        assert named(name).scanner().scan(block) is harmless
        assert named(name).scanner().scan(b"data: " + data + b"\n\n") is harmless
