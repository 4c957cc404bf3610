"""A provider's own error that was cut anywhere: its readers are told of a failure, by whatever they believe in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from resumestream.dialects import DIALECTS, expected, spoken
from resumestream.endings import Ending
from resumestream.framing import SSE
from resumestream.http.forms import Payload, Provider
from resumestream.model import Head, NewStream, Page, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.ports import Dialect
from resumestream.reading import Reading

from .clients.sdks import SDK_WARNINGS
from .test_dialects_sdk import (
    Sdk,
    read_anthropic,
    read_chat,
    read_gemini,
    read_interactions,
    read_ollama,
    read_responses,
)

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)

FIXTURES = Path(__file__).parents[1] / "fixtures"
FAILED = sorted([*FIXTURES.glob("*-error.json"), *FIXTURES.glob("*-failed.json")])
CUT = Ending.of("connection_closed", where="the provider")
CLEAN = None
LINE = re.compile(rb"(.*?)(?:\r\n|\n|\r)", re.DOTALL)


def dialect_of(meta: Path) -> Dialect:
    call = json.loads(meta.read_text(encoding="utf-8"))
    path = call["request"].get("path") or call["request"]["uri"]
    return spoken(expected(None, path), Head(200, tuple(call["response"]["headers"].items())))


def body_of(meta: Path) -> bytes:
    (path,) = (path for path in FIXTURES.glob(f"{meta.stem}.*") if path != meta)
    return path.read_bytes()


def ended(dialect: Dialect, body: bytes, cut: Ending | None) -> tuple[StreamInfo, bytes]:
    """The record and the payload of a body that ends there."""
    reading = Reading(dialect, policy=Policy(), where="the provider")
    payload = reading.feed(body).data
    last, ending = reading.finish(cut, framed=cut is None)
    head = Head(200, (("content-type", "text/event-stream"),))
    new = NewStream(StreamId("s"), "p", "u", "w", 0, 60, 60, dialect=dialect.name)
    return StreamInfo(new, head=head, tail=reading.tail, events=reading.events, seal=ending.seal), payload + last.data


def answered(form: Payload, info: StreamInfo, payload: bytes) -> bytes | None:
    """A reader's whole body; None: it is cut."""
    body, end = form.body(Page(0, payload, info)), form.end(info)
    return None if end is None else body + end


def dispatched(body: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Name and data of each event of a body, by the letter of the standard: without its blank line there is none. And
    what is behind the last one."""
    events, name, data, behind = [], b"", list[bytes](), 0
    for line in LINE.finditer(body):
        field, _, value = line[1].partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
        elif not line[1]:
            behind = line.end()
            if data:
                events.append((name, b"\n".join(data)))
            name, data = b"", []
    return events, body[behind:]


@pytest.mark.parametrize("cut", [CUT, CLEAN], ids=["cut", "clean"])
@pytest.mark.parametrize("meta", FAILED, ids=lambda meta: meta.stem)
def test_an_error_that_ends_at_any_byte_is_told(meta: Path, cut: Ending | None) -> None:
    """Who believes in blank lines gets whole events only, the last of which is the failure: the provider's own where
    all of it came, else ours. Who takes bytes as they came is cut wherever they do not end with that."""
    dialect, whole = dialect_of(meta), body_of(meta)
    for at in range(1, len(whole) + 1):
        info, payload = ended(dialect, whole[:at], cut)
        assert info.seal is not None
        assert whole.startswith(payload)
        body = answered(Provider(dialect, exact=False), info, payload)
        assert body is not None
        if info.completed:
            assert dialect.name == "langgraph", at
            assert (cut, body) == (CLEAN, payload)
            continue
        exact = [answered(form, info, payload) for form in (Provider(dialect, exact=True), Payload())]
        assert exact in ([None] * 2, [payload] * 2)
        if dialect.framing is SSE:
            events, rest = dispatched(body)
            bare_json = dialect.name == "gemini" and json.loads(rest or b"{}")
            assert b"error" in (rest if bare_json else events[-1][0] + events[-1][1]), at
            assert bare_json or not rest, at
            assert exact == [None] * 2 or not dispatched(payload)[1] or bare_json, at
            for _, data in events:
                json.loads(data)
        elif dialect.framing.splitter:
            blocks = dialect.framing.splitter().feed(body if dialect.name == "bedrock" else body.rstrip(b"\n") + b"\n")
            assert b"rror" in blocks[-1] or b"xception" in blocks[-1]


READERS = [
    Sdk("openai-chat", read_chat, "APIError", "openai-chat-error.sse"),
    Sdk("openai-responses", read_responses, "", "openai-responses-failed.sse"),
    Sdk("anthropic", read_anthropic, "APIStatusError", "anthropic-error.sse"),
    Sdk("gemini", read_gemini, "ServerError", "gemini-error.sse"),
    Sdk("gemini-interactions", read_interactions, "", "gemini-interactions-error.sse"),
    Sdk("ollama", read_ollama, "ResponseError", "ollama-error.bin"),
]


@pytest.mark.parametrize("sdk", READERS, ids=str)
def test_the_sdk_knows_an_error_that_ends_at_any_byte(sdk: Sdk) -> None:
    """At a sample of places, and at all around the end of its data."""
    dialect, whole = DIALECTS[sdk.dialect], (FIXTURES / sdk.fixture).read_bytes()
    last = whole.rstrip(b"\r\n").rfind(
        b"event:" if b"event: " in whole else b"{" if sdk.dialect == "ollama" else b"data:"
    )
    data = len(whole.rstrip(b"\r\n"))
    for at in (*range(last, data - 1, 50), data - 1, data, data + 1, len(whole)):
        info, payload = ended(dialect, whole[:at], CUT)
        body = answered(Provider(dialect, exact=False), info, payload)
        assert body is not None
        raises = "APIError" if sdk.dialect == "openai-responses" and at < data else sdk.raises  # which is ours
        if raises:
            with pytest.raises(Exception, match=r"\w") as caught:
                sdk.read(body)
            assert raises in [kind.__name__ for kind in type(caught.value).__mro__], at
        else:
            last_seen = str(sdk.read(body)[-1])
            assert "error" in last_seen or "failed" in last_seen, at
