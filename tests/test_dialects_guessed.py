"""A dialect that only the path speaks for: right, it is believed at its first event; wrong, it costs not a byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resumestream.dialects import DIALECTS, expected, named, spoken
from resumestream.endings import Ending
from resumestream.framing.messages import message_of
from resumestream.model import Head, Outcome
from resumestream.policy import Policy
from resumestream.ports import Dialect, Mark
from resumestream.reading import Reading

from .speakers import SPEAKERS, Speaker
from .test_dialects import METAS, TRANSCRIPTS, blocks_of, body_of

GUESSED = {name: dialect for name, dialect in DIALECTS.items() if dialect.endpoint}
SPEAKER = {speaker.name: speaker for speaker in SPEAKERS}
UI_HEADER = ("x-vercel-ai-ui-message-stream", "v1")
CUT = Ending.of("connection_closed", where="the provider")

TEXT = b'data: {"text":"hello, \\"choices\\":"}\n\ndata: {"type":"ping-pong","text":"world"}\n\n'
STEPS = b"event: token\ndata: hello\n\nevent: finished\ndata: {}\n\n"
LLAMA = b'data: {"index":0,"content":"w","stop":false}\n\ndata: {"index":0,"content":"","stop":true}\n\n'
TOLD = b'data: {"message_type":"assistant_message"}\n\ndata: {"message_type":"stop_reason"}\n\ndata: [DONE]\n\n'
ENDS = b"event: step\ndata: 1\n\nevent: end\ndata: step 1\n\nevent: step\ndata: 2\n\n"
ERRS = b'data: {"step":1}\n\nevent: error\ndata: {"error":"a tool failed","type":"retry"}\n\ndata: {"step":2}\n\n'
RECORDS = b'{"tok":"a"}\n{"tok":"b","error":"none that counts"}\n{"tok":"c","finished":true}\n'
FRAMES = b"".join(message_of({":event-type": kind, ":message-type": "event"}, b"{}") for kind in ("Audio", "Text"))

FOREIGN = [
    *((name, body) for name in ("openai-chat", "openai-responses", "anthropic") for body in (TEXT, STEPS, LLAMA, ERRS)),
    *((name, body) for name in ("gemini", "gemini-interactions", "langgraph") for body in (TEXT, STEPS, LLAMA, ERRS)),
    ("anthropic", TOLD),
    ("anthropic", b'event: ping\ndata: {"type":"ping"}\n\ndata: {"type":"message_chunk"}\n\n'),
    ("gemini", b'data: {"n":1}\n\n{"error":{"code":500}}\n\ndata: {"n":2}\n\n'),
    ("langgraph", ENDS),
    ("ollama", RECORDS),
    ("bedrock", FRAMES),
]


def guess(name: str) -> Dialect:
    return spoken(name, Head(200, (("content-type", SPEAKER[name].content_type),)), guessed=True)


def reading(dialect: Dialect) -> Reading:
    return Reading(dialect, policy=Policy(), where="the provider")


def test_every_guess_can_be_proven() -> None:
    """Whatever a path can stand for knows its own events; the others are never guessed."""
    assert {name for name, dialect in DIALECTS.items() if dialect.known} == GUESSED.keys()
    assert {name for name, _ in FOREIGN} == GUESSED.keys()
    assert all(guess(name).guessed and not named(name).guessed for name in GUESSED)


@pytest.mark.parametrize(
    "meta", [meta for meta in METAS if TRANSCRIPTS[meta.stem].dialect in GUESSED], ids=lambda meta: meta.stem
)
def test_a_right_guess_is_believed_at_the_first_event(meta: Path) -> None:
    """Comments before it say nothing; from it on all is as if it had been configured."""
    call, told = json.loads(meta.read_text(encoding="utf-8")), TRANSCRIPTS[meta.stem]
    path = call["request"].get("path") or call["request"]["uri"]
    head = Head(call["response"]["status"], tuple(call["response"]["headers"].items()))
    dialect = spoken(expected(told.configured, path), head, guessed=True)
    assert (dialect.name, dialect.guessed) == (told.dialect, True)
    one, sure = dialect.scanner(), named(told.dialect).scanner()
    for block in blocks_of(body_of(meta), dialect.framing):
        assert one.scan(block) is sure.scan(block)
        assert one.ends_at_framed_end() is sure.ends_at_framed_end()
        assert not one.foreign
    assert (one.error, one.usage, one.model) == (sure.error, sure.usage, sure.model)


@pytest.mark.parametrize("name", sorted(GUESSED))
def test_each_event_alone_is_enough(name: str) -> None:
    """But for a ping, which anybody sends."""
    for event in SPEAKER[name].events:
        scanner = guess(name).scanner()
        scanner.scan(event)
        assert scanner.foreign is (b'"type":"ping"' in event)


@pytest.mark.parametrize("name", sorted(GUESSED))
def test_an_error_at_once_is_believed(name: str) -> None:
    scanner = guess(name).scanner()
    assert scanner.scan(SPEAKER[name].error) is Mark.ERROR
    assert not scanner.foreign


@pytest.mark.parametrize("end", [b"", None], ids=["framed", "cut"])
@pytest.mark.parametrize(("name", "body"), FOREIGN)
def test_a_wrong_guess_is_as_good_as_none(name: str, body: bytes, end: bytes | None) -> None:
    """Ends and errors of a grammar that nothing was seen of mean nothing; any end that is framed is one."""
    one = reading(guess(name))
    payload = one.feed(body).data
    assert (payload, one.ended, one.foreign) == (body, None, True)
    last, ending = one.finish(CUT if end is None else None, framed=end is not None)
    assert (last.data, ending.completed) == (b"", end is not None)
    assert ending.detail == ("connection_closed" if end is None else "framed_end")
    assert one.telling(ending.seal).foreign


@pytest.mark.parametrize("rest", [b"data: 3", b'data: {"n":3}\n', b"data: not JSO"])
def test_its_last_event_needs_no_blank_line(rest: bytes) -> None:
    """As nobody's does whose grammar is unknown; of a cut one it is dropped."""
    for cut, kept in ((None, rest), (CUT, b"")):
        one = reading(guess("anthropic"))
        one.feed(STEPS + rest)
        last, ending = one.finish(cut, framed=True)
        assert (last.data, ending.completed) == (kept, cut is None)


@pytest.mark.parametrize("name", sorted(GUESSED.keys() - {"langgraph"}))
def test_it_may_be_right_in_the_end(name: str) -> None:
    """What somebody put before it is forgotten: from its first event on, the grammar says what is whole."""
    speaker = SPEAKER[name]
    before = {"ollama": RECORDS, "bedrock": FRAMES}.get(name, STEPS)
    one = reading(guess(name))
    assert one.feed(before).data == before
    assert one.foreign
    one.feed(speaker.events[0])
    assert not one.foreign
    assert one.finish(None, framed=True)[1].detail == "no_terminal_event"
    whole = reading(guess(name))
    whole.feed(before + speaker.whole)
    assert whole.finish(None, framed=True)[1].completed


@pytest.mark.parametrize("name", sorted(GUESSED))
def test_nothing_at_all_is_a_cut(name: str) -> None:
    """No event, or none but comments: there is nothing that speaks against the guess."""
    for body in (b"", b": a comment\n\n") if SPEAKER[name].sse else (b"",):
        one = reading(guess(name))
        one.feed(body)
        assert not one.foreign
        assert one.finish(None, framed=True)[1].seal.outcome is Outcome.TRUNCATED


@pytest.mark.parametrize("name", sorted(GUESSED))
def test_what_was_configured_is_certain(name: str) -> None:
    """Whatever comes."""
    for dialect in (named(name), spoken(name, Head(200, (("content-type", SPEAKER[name].content_type),)))):
        one = reading(dialect)
        one.feed({"ollama": RECORDS, "bedrock": FRAMES}.get(name, STEPS))
        assert not one.foreign


@pytest.mark.parametrize("speaker", [SPEAKER[name] for name in sorted(GUESSED)], ids=lambda speaker: speaker.name)
def test_the_seal_says_what_came_of_it(speaker: Speaker) -> None:
    """Whoever reads after it need not guess."""
    head = Head(200, (("content-type", speaker.content_type),))
    right = CUT.seal
    wrong = reading(guess(speaker.name))
    wrong.feed({"ollama": RECORDS, "bedrock": FRAMES}.get(speaker.name, STEPS))
    assert spoken(speaker.name, head, guessed=True, seal=right) is named(speaker.name)
    other = spoken(speaker.name, head, guessed=True, seal=wrong.telling(CUT.seal))
    assert other is named("unknown" if speaker.sse else "plain")


@pytest.mark.parametrize("name", sorted(name for name in GUESSED if SPEAKER[name].sse))
def test_a_header_is_better_than_a_guess(name: str) -> None:
    """It says who speaks; a configured dialect stands all the same."""
    head = Head(200, (("content-type", "text/event-stream"), UI_HEADER))
    assert spoken(name, head, guessed=True) is named("ui-message-stream")
    assert spoken(name, head) is named(name)
