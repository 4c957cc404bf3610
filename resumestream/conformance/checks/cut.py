"""CUT: answers that break off in the middle, and how each grammar tells it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resumestream.testing.provider import Script

from .. import aws
from ..answer import Answer
from ..context import Context
from ..dialects import DIALECTS, broken, member, told
from ..paths import CHAT, GEMINI, MESSAGES, RESPONSES
from ..registry import check
from ..sse import Event, blocks, events

MID_EVENT = Script(tokens=9, fault="fin", at_byte=1000)


def failed(ctx: Context, name: str) -> tuple[Answer, bytes]:
    """A call in that dialect that breaks off, its answer read to a clean end, and what stands there behind the
    payload."""
    dialect = DIALECTS[name]
    answer = ctx.post(dialect.script, path=dialect.path, key=f"{ctx.key}-{name}").has_status(200)
    ctx.upstream.release()
    answer.ends_framed()
    kept = ctx.read(answer.stream, "offset=-1").has_status(200).end().body
    given = answer.body if name in ("ollama", "bedrock") else answer.payload  # no keep-alive is in these two
    answer.expect(kept != b"" and given.startswith(kept), "the payload first", given[: len(kept)])
    return answer, given[len(kept) :]


def frame(ctx: Context, name: str) -> tuple[Event, Any]:
    """The failure frame of that dialect, which is one event, and its data."""
    answer, rest = failed(ctx, name)
    found = events(rest)
    answer.expect([event.raw for event in found] == [rest], "one event behind the payload", rest)
    return found[0], told(name, rest)


def has_text(ctx: Context, found: Any, *names: str) -> None:
    """These members are there, each a text that says something."""
    seen = {name: found.get(name) for name in names} if isinstance(found, dict) else found
    right = isinstance(found, dict) and all(value and isinstance(value, str) for value in seen.values())
    ctx.expect(right, f"text in {', '.join(names)}", seen)


@check("RS-CUT-01")
def truncated(ctx: Context) -> None:
    """FIN, RST, a body shorter than its length, and a chunk that is none, are each `truncated`."""
    broken = Script(tokens=9, fault="fin", at_event=4)
    ways = broken, replace(broken, fault="rst"), replace(broken, fault="garbage"), replace(broken, framing="length")
    for script in ways:
        answer = ctx.post(script, key=None).end()
        ctx.sealed(answer.stream).has_header("stream-outcome", "truncated")


@check("RS-CUT-02", needs=("stall_s",))
def stalled(ctx: Context) -> None:
    """An upstream that falls silent in the middle is `stalled`, and its connection is closed."""
    answer = ctx.post(Script(tokens=9, fault="stall", at_event=4)).end()
    ctx.sealed(answer.stream).has_header("stream-outcome", "stalled")
    ctx.upstream.wait_for(lambda calls: any(call.disconnected for call in calls), "a call whose client left")


@check("RS-CUT-03")
def whole_events(ctx: Context) -> None:
    """Every reader, along and late, gets the events that came whole, and no byte of the one that did not."""
    answer = ctx.post(MID_EVENT, headers={"stream-exact": "true"}).ends_cut()
    whole = blocks(b"".join(map(ctx.upstream.sent, ctx.upstream.calls())))
    kept = b"".join(whole)
    ctx.expect(0 < len(kept) < 1000, "whole events and a part of one", whole)
    ctx.sealed(answer.stream).has_header("stream-next-offset", f"{len(kept):016}")
    for reader in (answer, ctx.read(answer.stream, "offset=-1"), ctx.read(answer.stream, "live=tail")):
        reader.has_body(kept)
    last = ctx.read(answer.stream, "live=events").ends_framed().events[len(whole) :]
    ctx.expect([event.name for event in last] == ["resumestream.end"], "the end event behind them", last)


@check("RS-CUT-04")
def payload_then_frame(ctx: Context) -> None:
    """In each dialect the answer has what came, something behind it, and a clean end."""
    for name, dialect in DIALECTS.items():
        answer, rest = failed(ctx, name)
        answer.expect(rest != b"", f"a failure frame of {name}", "none")
        sent = b"".join(ctx.upstream.sent(call) for call in ctx.upstream.calls() if call.path == dialect.path)
        answer.expect(answer.payload.startswith(sent), "all that came", answer.body)


@check("RS-CUT-05")
def in_chat(ctx: Context) -> None:
    """The data has `error` with `message`, `type` and `code`."""
    has_text(ctx, frame(ctx, "openai-chat")[1].get("error"), "message", "type", "code")


@check("RS-CUT-06")
def in_responses(ctx: Context) -> None:
    """The data has `type`, `sequence_number`, and `error` with `type`, `code`, `message` and `param`."""
    _, found = frame(ctx, "openai-responses")
    ctx.expect(found.get("type") == "error" and isinstance(found.get("sequence_number"), int), "its members", found)
    has_text(ctx, found.get("error"), "type", "code", "message")
    ctx.expect("param" in found["error"], "error.param", found)


@check("RS-CUT-07")
def in_messages(ctx: Context) -> None:
    """The event is named `error`; its data has `type`, and `error` with `type`, `message` and `code`."""
    event, found = frame(ctx, "anthropic")
    ctx.expect(event.name == "error" and found.get("type") == "error", "an event error of type error", event.raw)
    has_text(ctx, found.get("error"), "message", "code")
    ctx.expect(found["error"].get("type") == "api_error", "error.type api_error", found)


@check("RS-CUT-08")
def in_gemini(ctx: Context) -> None:
    """The event has CRLF for line ends; its data has `error` alone, with `code` 503, `status` and `details`."""
    event, found = frame(ctx, "gemini")
    crlf = event.raw.count(b"\r\n") == event.raw.count(b"\n") == event.raw.count(b"\r")
    ctx.expect(crlf and list(found) == ["error"], "error alone, and CRLF", event.raw)
    has_text(ctx, found["error"], "message")
    seen = found["error"].get("code"), found["error"].get("status"), type(found["error"].get("details"))
    ctx.expect(seen == (503, "UNAVAILABLE", list), "503, UNAVAILABLE and details", found)


@check("RS-CUT-09")
def in_interactions(ctx: Context) -> None:
    """The event is named `error`; its data has `event_type`, and `error` with `code` and `message`."""
    event, found = frame(ctx, "gemini-interactions")
    ctx.expect((event.name, found.get("event_type")) == ("error", "error"), "an event error of that type", event.raw)
    has_text(ctx, found.get("error"), "code", "message")


@check("RS-CUT-10")
def in_ui_messages(ctx: Context) -> None:
    """The data has `type` and `errorText`, and nothing else."""
    _, found = frame(ctx, "ui-message-stream")
    ctx.expect(set(found) == {"type", "errorText"} and found["type"] == "error", "type and errorText", found)
    has_text(ctx, found, "errorText")


@check("RS-CUT-11")
def in_langgraph(ctx: Context) -> None:
    """The event is named `error`; its data has `error` and `message`."""
    event, found = frame(ctx, "langgraph")
    ctx.expect(event.name == "error", "an event error", event.raw)
    has_text(ctx, found, "error", "message")


@check("RS-CUT-12")
def in_ollama(ctx: Context) -> None:
    """One line more, a JSON object with `error` and `code`."""
    answer, rest = failed(ctx, "ollama")
    answer.expect(rest.endswith(b"\n") and rest.count(b"\n") == 1, "one line", rest)
    has_text(ctx, told("ollama", rest), "error", "code")


@check("RS-CUT-13")
def in_bedrock(ctx: Context) -> None:
    """One message more, of type `exception`, with its length and checksums right."""
    _, rest = failed(ctx, "bedrock")
    told("bedrock", rest)
    headers, _ = aws.read(rest)
    seen = headers.get(":message-type"), headers.get(":exception-type")
    ctx.expect(seen == ("exception", "internalServerException"), "exception, internalServerException", headers)


@check("RS-CUT-14")
def code_and_message(ctx: Context) -> None:
    """In each dialect the frame's code is the stream's outcome, and its message has the stream's id in it."""
    for name, dialect in DIALECTS.items():
        answer, rest = failed(ctx, name)
        found = told(name, rest)
        message = member(found, dialect.message)
        answer.expect(
            isinstance(message, str) and answer.stream in message, f"a message that names {answer.stream}", found
        )
        if dialect.code:
            code = member(found, dialect.code)
            answer.expect(code == ctx.sealed(answer.stream).value("stream-outcome"), "the outcome as code", found)


UNTOLD = {
    "events of nobody's": broken(b"data: {}\n\ndata: {}\n\n"),
    "a document": broken(b'{"choices": [', content_type="application/json"),
    "text": broken(b"a text of some", content_type="text/plain"),
}
"""Broken answers that no grammar has a failure for."""


def cut(ctx: Context, script: Script, **options: Any) -> Answer:
    """A call that is answered so, cut for its caller as well, with what came."""
    answer = ctx.post(script, **options).has_status(200)
    ctx.upstream.release()
    return answer.ends_cut().has_body(script.body or b"")


@check("RS-CUT-15")
def other_grammars(ctx: Context) -> None:
    """Events of no dialect, a JSON document and text break off, with what came."""
    for what, script in UNTOLD.items():
        cut(ctx, script, path=f"/v1/{what.split()[-1]}", key=None)


@check("RS-CUT-16")
def who_attaches(ctx: Context) -> None:
    """The second caller of a broken event stream gets the bytes that the first got, in each such dialect."""
    for name, dialect in DIALECTS.items():
        if name not in ("ollama", "bedrock"):
            first, _ = failed(ctx, name)
            second = ctx.post(path=dialect.path, key=f"{ctx.key}-{name}").has_header("stream-id", first.stream)
            second.has_status(200).has_payload(first.payload).ends_framed()


@check("RS-CUT-17")
def who_attaches_to_none(ctx: Context) -> None:
    """The second caller of a broken document gets 502 `truncated`; a page still has what came."""
    first = cut(ctx, UNTOLD["a document"])
    ctx.sealed(first.stream)
    ctx.post().is_problem(502, "truncated")
    ctx.read(first.stream, "offset=-1").has_status(200).has_body(first.body)
    ctx.upstream.count_is(1)


@check("RS-CUT-18")
def the_providers_own(ctx: Context) -> None:
    """An error event of the provider's is the last thing in an answer that ends clean."""
    for path in (CHAT, RESPONSES, MESSAGES, GEMINI):
        answer = ctx.post(Script(tokens=9, error_at=4), path=path, key=None).ends_framed()
        answer.has_payload(b"".join(ctx.upstream.sent(call) for call in ctx.upstream.calls() if call.path == path))
        ctx.sealed(answer.stream).has_header("stream-outcome", "provider_error")


@check("RS-CUT-19")
def from_an_offset(ctx: Context) -> None:
    """Who resumes behind the first event, along and late, gets the rest of what came, cut."""
    live = ctx.post(Script(tokens=9, hold_at=3, fault="fin", at_event=5), headers={"stream-exact": "true"})
    at = len(live.until_events(3).events[0].raw)
    resume = {"stream-offset": f"{at:016}"}
    along = ctx.post(headers=resume).has_header("stream-offset", f"{at:016}").until_events(2)
    ctx.upstream.release()
    kept = live.ends_cut().body
    ctx.sealed(live.stream)
    for reader in (along, ctx.post(headers=resume).has_header("stream-offset", f"{at:016}")):
        reader.ends_cut().has_body(kept[at:])


@check("RS-CUT-20", needs=("keepalive_s",))
def exact(ctx: Context) -> None:
    """With `Stream-Exact: true` there is nothing in the silence, and a cut at the end; a second caller gets the
    same."""
    asked = {"stream-exact": "true"}
    live = ctx.post(Script(tokens=9, hold_at=4, fault="fin", at_event=6), headers=asked).until_events(4)
    live.silent_for(ctx.limit("keepalive_s") * 2 + 0.5)
    ctx.upstream.release()
    live.ends_cut().has_body(b"".join(map(ctx.upstream.sent, ctx.upstream.calls())))
    ctx.sealed(live.stream)
    ctx.post(headers=asked).ends_cut().has_body(live.body)


@check("RS-CUT-21")
def never_as_if_whole(ctx: Context) -> None:
    """However a call ends early, and whatever it was answering, its answer is cut or ends with an error."""
    ways: list[dict[str, Any]] = [{"fault": fault, "at_byte": 700} for fault in ("fin", "rst", "garbage", "clean")]
    for path in (CHAT, RESPONSES, MESSAGES, GEMINI):
        for way in (*ways, {"framing": "close", "fault": "fin", "at_event": 3}):
            answer = ctx.post(Script(tokens=9, **way), path=path, key=None).end()
            shown = answer.ended == "cut" or any('"error"' in event.data for event in answer.events[-1:])
            answer.expect(shown, f"a cut or an error after {way}", answer.body[-200:])
            ctx.expect(ctx.sealed(answer.stream).value("stream-outcome") == "truncated", "truncated", way)
    for script in UNTOLD.values():
        cut(ctx, script, path="/v1/other", key=None)
