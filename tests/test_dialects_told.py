"""What an answer tells of itself beside its text: usage, model, and the event that nobody but us asked for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from resumestream.dialects import DIALECTS, expected, named, spoken
from resumestream.framing import data_of
from resumestream.model import Head
from resumestream.policy import Policy
from resumestream.ports import Mark
from resumestream.reading import Reading
from resumestream.usage import Usage

from .test_dialects import METAS, body_of, event

RIVER = ("river-1", 12, 37, 49)
TOLD: dict[str, tuple[str, int | None, int | None, int | None]] = {
    "anthropic": RIVER,
    "anthropic-error": ("river-1", 12, 1, 13),  # of what was written only the first token is known
    "bedrock": ("", 12, 37, 49),
    "bedrock-error": ("", None, None, None),
    "bedrock-invoke": ("", 12, 37, 49),
    "gemini": ("river-1", 12, None, 12),
    "gemini-error": ("river-1", 12, None, 12),
    "gemini-interactions": ("river-1", 12, 45, 57),
    "gemini-interactions-error": ("river-1", None, None, None),
    "langgraph": ("", None, None, None),
    "langgraph-error": ("", None, None, None),
    "ollama": RIVER,
    "ollama-error": ("river-1", None, None, None),
    "openai-chat": RIVER,
    "openai-chat-comments": RIVER,
    "openai-chat-error": ("river-1", None, None, None),
    "openai-chat-json": RIVER,
    "openai-chat-two-choices": ("river-1", None, None, None),
    "openai-responses": RIVER,
    "openai-responses-failed": ("river-1", None, None, None),
    "ui-message-stream": RIVER,
    "ui-message-stream-error": ("", None, None, None),
    "unknown-cr": ("", None, None, None),
    # Recorded from real providers.
    "anthropic-text-editor-code-execution.1": ("claude-sonnet-4-6", 7621, 384, 8005),
    "anthropic-thinking.1": ("claude-sonnet-4-20250514", 43, 282, 325),
    "anthropic-web-search-pause-turn.1": ("claude-sonnet-4-5-20250929", 404500, 943, 405443),
    "bedrock-converse.1": ("", 13, 82, 95),
    "deepseek-reasoning.1": ("deepseek-reasoner", 6, 212, 218),
    "gemini-text.1": ("gemini-2.0-flash", 52, 5, 57),
    "gemini-text.3": ("gemini-2.0-flash", 79, 12, 91),
    "gemini-web-search.1": ("gemini-2.5-pro", 119, 653, 772),
    "groq-midstream-error.1": ("openai/gpt-oss-120b", None, None, None),
    "openai-chat-real.1": ("gpt-4o-mini-2024-07-18", 53, 15, 68),
    "openai-responses-background-resume.1": ("gpt-4o-2024-08-06", 15, 9, 24),
    "openai-responses-background-resume.2": ("gpt-4o-2024-08-06", 15, 9, 24),
    "openai-responses-text.1": ("gpt-4o-2024-08-06", 255, 16, 271),
    "openai-responses-web-search.1": ("gpt-5-2025-08-07", 9463, 582, 10045),
    "openrouter-reasoning.1": ("openai/o3", 9, 104, 113),
    "zai-thinking.1": ("glm-4.7", 13, 564, 577),
}


def read(meta: Path) -> Reading:
    """A transcript, read to its end."""
    call = json.loads(meta.read_text(encoding="utf-8"))
    path = call["request"].get("path") or call["request"]["uri"]
    head = Head(call["response"]["status"], tuple(call["response"]["headers"].items()))
    configured = "openai-responses" if meta.stem == "openai-responses-background-resume.2" else None
    return feed(spoken(expected(configured, path), head).name, body_of(meta))


def feed(dialect: str, *pieces: bytes, ours: bool = False) -> Reading:
    reading = Reading(named(dialect), policy=Policy(), where="the provider", usage_is_ours=ours)
    for piece in pieces:
        reading.feed(piece)
    return reading


def counts(usage: Usage | None) -> tuple[int | None, int | None, int | None]:
    return (usage.input_tokens, usage.output_tokens, usage.total_tokens) if usage else (None, None, None)


@pytest.mark.parametrize("meta", METAS, ids=lambda meta: meta.stem)
def test_every_transcript_tells(meta: Path) -> None:
    """Model and tokens, as far as the provider tells them."""
    reading = read(meta)
    assert (reading.model, *counts(reading.usage)) == TOLD[meta.stem]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_told_is_nothing_known(dialect: str) -> None:
    """Before the first byte, and after one that says nothing."""
    for reading in (feed(dialect), feed(dialect, b"\n")):
        assert (reading.usage, reading.model) == (None, "")


CHAT = {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}
ASKED = {"id": "1", "model": "m", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}


def gemini(tokens: int) -> dict[str, Any]:
    return {"candidates": [], "modelVersion": "m", "usageMetadata": {"candidatesTokenCount": tokens}}


def chat(tokens: int) -> dict[str, Any]:
    return {**CHAT, "usage": {"completion_tokens": tokens}}


@pytest.mark.parametrize(("dialect", "body"), [("gemini", gemini), ("openai-chat", chat)])
def test_what_every_event_tells_is_read_once(dialect: str, body: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one counts, and one in eight is looked at. Asked in between, it is the last one so far; large events are
    not kept for it."""
    parsed: list[bytes] = []

    def counting(block: bytes) -> bytes:
        parsed.append(block)
        return data_of(block)

    monkeypatch.setattr("resumestream.dialects.scanning.data_of", counting)
    reading = feed(dialect, *(event(body(tokens)) for tokens in range(1, 1000)))
    assert counts(reading.usage)[1] == 999
    assert reading.model == "m"
    assert len(parsed) == 125
    reading.feed(event(body(1000)))
    assert counts(reading.usage)[1] == 1000
    reading.feed(event({**body(1001), "picture": "x" * 100_000}))
    assert len(parsed) == 127
    assert counts(reading.usage)[1] == 1001


@pytest.mark.parametrize("often", [1, 7, 8, 9, 30])
def test_what_tells_nothing_hides_nothing(often: int) -> None:
    """However much comes of it, and whatever it looks like; a model is taken from the last that has one."""
    silent = [{"choices": [], "meta": {"usage": {}}, "model": "n"}, {"choices": [], "usage": {"prompt_tokens": None}}]
    for each in (*silent, {"choices": [], "meta": {"usage": {"prompt_tokens": 9}}}):
        reading = feed(
            "openai-chat", event(CHAT), event({**CHAT, "usage": {"prompt_tokens": 5}}), *[event(each)] * often
        )
        assert counts(reading.usage)[0] == 5
        assert reading.model == each.get("model", "m")


def test_a_null_behind_the_usage_does_not_hide_it() -> None:
    """Which is no usage, only of the same name."""
    told = {**CHAT, "usage": {"prompt_tokens": 5}, "meta": {"usage": None}}
    assert counts(feed("openai-chat", event(CHAT), event(told)).usage)[0] == 5


def test_what_a_provider_makes_up_takes_no_memory() -> None:
    """More names than any usage has are dropped; more choices than any answer has are never all finished."""
    many = feed("openai-chat", *(event({**CHAT, "usage": {f"n{index}": 1}}) for index in range(2000)))
    assert many.usage
    assert len(json.loads(many.usage.verbatim)) == 64
    for name, part, reason in (("openai-chat", "choices", "finish_reason"), ("gemini", "candidates", "finishReason")):
        for indexes, ends in ((128, True), (129, False)):
            scanner = named(name).scanner()
            for index in range(indexes):
                scanner.scan(event({part: [{"index": index, reason: "stop"}]}))
            assert scanner.ends_at_framed_end() is ends


def test_a_long_blank_takes_linear_time() -> None:
    """What may still become JSON is not looked at again with every byte."""
    reading, begun = feed("plain"), time.process_time()
    for _ in range(100_000):
        reading.feed(b" ")
    reading.feed(b'{"usage":{"prompt_tokens":1}}')
    assert counts(reading.usage)[0] == 1
    assert time.process_time() - begun < 3  # it was eight


def test_what_came_later_overwrites_and_null_says_nothing() -> None:
    """Anthropic counts on from its first event, and leaves out what did not change."""
    start = {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1}
    delta = {"output_tokens": 9, "cache_read_input_tokens": None}
    reading = feed(
        "anthropic",
        event({"type": "message_start", "message": {"model": "m", "usage": start}}, "message_start"),
        event({"type": "message_delta", "delta": {}, "usage": delta}, "message_delta"),
    )
    assert counts(reading.usage) == (12, 9, 21)
    assert json.loads(reading.usage.verbatim if reading.usage else "") == {**start, "output_tokens": 9}


@pytest.mark.parametrize("name", ["response.completed", "response.incomplete", "response.failed"])
def test_responses_tell_it_with_their_last_event(name: str) -> None:
    """However they ended."""
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    reading = feed("openai-responses", event({"type": name, "response": {"model": "m", "usage": usage}}, name))
    assert (reading.model, *counts(reading.usage)) == ("m", 1, 2, 3)


def test_groq_tells_it_in_a_place_of_its_own() -> None:
    """Beside the other extensions of the last event."""
    reading = feed("openai-chat", event(CHAT), event({**CHAT, "x_groq": {"usage": {"prompt_tokens": 4}}}))
    assert counts(reading.usage)[0] == 4


@pytest.mark.parametrize(
    ("body", "model", "tokens"),
    [
        ({"model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}, "m", (1, 2, 3)),
        ({"type": "message", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 2}}, "m", (1, 2, 3)),
        ({"modelVersion": "m", "usageMetadata": {"promptTokenCount": 1}}, "m", (1, None, None)),
        ([{"usageMetadata": {"promptTokenCount": 1}}, {"usageMetadata": {"promptTokenCount": 2}}], "", (2, None, None)),
        ({"model": "m", "done": True, "prompt_eval_count": 1, "eval_count": 2}, "m", (1, 2, 3)),
        ({"output": {}, "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}, "", (1, 2, 3)),
        ({"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 1}, "m", (1, None, None)),
        ({"usage": "x", "model": ["m"]}, "", (None, None, None)),
        ({"total_count": 7}, "", (None, None, None)),
        ("usage", "", (None, None, None)),
    ],
)
def test_json_answers_tell_it_whoever_sends_them(body: object, model: str, tokens: tuple[int | None, ...]) -> None:
    """In one piece or byte by byte; half a document tells nothing."""
    text = json.dumps(body).encode()
    for reading in (feed("plain", text), feed("plain", b"\n  ", *(text[at : at + 1] for at in range(len(text))))):
        assert (reading.model, *counts(reading.usage)) == (model, *tokens)
        assert (reading.model, *counts(reading.usage)) == (model, *tokens)
        assert (reading.usage is None) is (tokens == (None, None, None))
    half = feed("plain", text[:-1])
    assert (half.model, half.usage) == ("", None)


def test_only_small_documents_are_read() -> None:
    """Beyond 1 MiB, and where it is no JSON, nothing is kept; the payload is the same."""
    usage = b'{"usage":{"prompt_tokens":1},"x":"'
    assert counts(feed("plain", usage, b"x" * 900_000, b'"}').usage)[0] == 1
    for big in (feed("plain", usage, b"x" * 1_100_000, b'"}'), feed("plain", b"x", usage, b'"}')):
        assert big.usage is None
        assert big.tail > len(usage)


def test_a_model_is_one_short_line() -> None:
    """Whatever the provider says."""
    reading = feed("openai-chat", event({**CHAT, "model": "a\nb\x1b" + "c" * 1000}))
    assert reading.model == "a b " + "c" * 196
    assert feed("openai-chat", event({**CHAT, "model": {}})).model == ""


# --- the usage that only we asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "mark"),
    [
        (ASKED, Mark.USAGE),
        ({**ASKED, "choices": CHAT["choices"]}, Mark.EVENT),
        ({**ASKED, "usage": None}, Mark.EVENT),
        ({**ASKED, "choices": None}, Mark.EVENT),
        ({"choices": [], "prompt_filter_results": []}, Mark.EVENT),
        ({"x": ASKED}, Mark.EVENT),
        ({**ASKED, "error": {"code": "c"}}, Mark.ERROR),
    ],
)
def test_an_event_of_nothing_but_usage(body: object, mark: Mark) -> None:
    """No choices, and usage, at the top: what OpenAI adds for `include_usage`, first event or not."""
    for separators in ((",", ":"), (", ", ": ")):
        block = b"data: " + json.dumps(body, separators=separators).encode() + b"\n\n"
        scanner = named("openai-chat").scanner()
        assert scanner.scan(block) is mark
        assert scanner.scan(block) is mark


@pytest.mark.parametrize("ours", [True, False])
def test_what_only_we_asked_for_is_left_out(ours: bool) -> None:
    """The payload is what the provider sent without it, and the usage is known all the same."""
    finish = {**CHAT, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    sent = [event(CHAT), event(finish), event(ASKED), b"data: [DONE]\n\n"]
    kept = [block for block in sent if not ours or block != sent[2]]
    body = b"".join(sent)
    for size in (1, 7, len(body)):
        reading = Reading(named("openai-chat"), policy=Policy(), where="it", usage_is_ours=ours)
        portions = [reading.feed(body[at : at + size]) for at in range(0, len(body), size)]
        last, ending = reading.finish(None, framed=True)
        assert b"".join(portion.data for portion in portions) + last.data == b"".join(kept)
        assert sum(portion.events for portion in portions) == reading.events == len(kept)
        assert reading.tail == len(b"".join(kept))
        assert ending.detail == "end_seen"
        assert counts(reading.usage) == (1, 2, 3)


def test_what_only_we_asked_for_is_left_out_at_the_end_as_well() -> None:
    """Without its blank line, behind the last finish reason, or as the only thing that came."""
    finish = {**CHAT, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    half = event(ASKED).rstrip(b"\n")
    reading = feed("openai-chat", event(finish), half, ours=True)
    last, ending = reading.finish(None, framed=True)
    assert (last.data, last.events, ending.detail) == (b"", 0, "framed_end")
    assert counts(reading.usage) == (1, 2, 3)
    alone = feed("openai-chat", event(ASKED), ours=True)
    assert (alone.tail, alone.begun) == (0, True)
    assert alone.finish(None, framed=True)[1].detail == "no_terminal_event"


def test_what_is_left_out_takes_no_room() -> None:
    """A cap counts what the log gets."""
    kept = event(CHAT) + b"data: [DONE]\n\n"
    for body in (event(ASKED) + kept, kept + event(ASKED)):
        reading = Reading(
            named("openai-chat"), policy=Policy(max_stream_bytes=len(kept)), where="it", usage_is_ours=True
        )
        portion = reading.feed(body)
        assert (portion.data, portion.capped) == (kept, None)


STREAMING = b'{"model": "m", "stream": true, "n": 1.50, "x": 1}'
OPTIONS = b'"stream_options":{"include_usage":true},'


@pytest.mark.parametrize(
    ("body", "asking"),
    [
        (STREAMING, b"{" + OPTIONS + STREAMING[1:]),
        (b' \n{"stream":true}', b" \n{" + OPTIONS + b'"stream":true}'),
        (b"\xef\xbb\xbf" + STREAMING, b"\xef\xbb\xbf{" + OPTIONS + STREAMING[1:]),
        (b'{"stream":true,"stream_options":null}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (
            b'{"stream":true,"stream_options":{"include_usage":false,"include_obfuscation":false}}',
            b'{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}',
        ),
        (
            b'{ "x" : 1e999 , "y":[1.00000000000000000001,{"stream_options":0}],"stream_options" : {} ,"stream":true }',
            b'{ "x" : 1e999 , "y":[1.00000000000000000001,{"stream_options":0}],"stream_options" : '
            b'{"include_usage":true} ,"stream":true }',
        ),
        (
            b'{"stream_options":{"a":1},"s\\"t":"}","stream_options":null,"stream":true}',
            b'{"stream_options":{"a":1},"s\\"t":"}","stream_options":{"include_usage":true},"stream":true}',
        ),
        ('{"stream":true}'.encode("utf-16"), ("{" + OPTIONS[:-1].decode() + ',"stream":true}').encode("utf-16")),
        (b'{"stream":true,"stream_options":{"include_usage":true}}', None),
        (b'{"stream":true,"stream_options":[]}', None),
        (b'{"stream":true,"stream_options":"x"}', None),
        (b'{"stream":false}', None),
        (b'{"stream":1}', None),
        (b'{"stream":"true"}', None),
        (b"{}", None),
        (b"[true]", None),
        (b'{"stream":true', None),
        (b"", None),
        (b"\xff\xfe", None),
        (b'{"stream":true,"x":"' + b"x" * 5_000_000 + b'"}', None),
    ],
)
def test_usage_is_asked_for_where_it_may_be(body: bytes, asking: bytes | None) -> None:
    """In a streaming request that does not ask yet; all else of it stays as it came."""
    asked = named("openai-chat").asking_usage(body)
    assert asked == asking
    if asked is not None:
        changed, came = json.loads(asked), json.loads(body)
        assert changed.pop("stream_options")["include_usage"] is True
        came.pop("stream_options", None)
        assert changed == came
        assert named("openai-chat").asking_usage(asked) is None


@pytest.mark.parametrize("name", sorted(DIALECTS.keys() - {"openai-chat"}))
def test_nobody_else_needs_to_be_asked(name: str) -> None:
    """Where usage always comes, or never, the request is what it was."""
    assert named(name).asking_usage(STREAMING) is None
