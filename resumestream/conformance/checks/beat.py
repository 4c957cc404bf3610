"""BEAT: what the gateway sends to a reader that waits."""

from __future__ import annotations

import time

from resumestream.testing.provider import Script

from ..context import Context
from ..paths import CHAT, GEMINI, MESSAGES, RESPONSES
from ..registry import check

SSE = {"content-type": "text/event-stream"}

COMMENTED = {
    CHAT: Script(tokens=5, hold_at=2),
    RESPONSES: Script(tokens=5, hold_at=2),
    MESSAGES: Script(tokens=5, hold_at=2),
    "/v1beta/interactions": Script(
        body=b'event: interaction.created\ndata: {"event_type":"interaction.created"}\n\n'
        b'event: interaction.completed\ndata: {"event_type":"interaction.completed"}\n\n',
        hold_at=1,
    ),
    "/api/chat": Script(
        body=b'data: {"type":"start"}\n\ndata: {"type":"finish"}\n\ndata: [DONE]\n\n',
        headers={**SSE, "x-vercel-ai-ui-message-stream": "v1"},
        hold_at=1,
    ),
    "/threads/1/runs/stream": Script(
        body=b'event: metadata\ndata: {"run_id":"1"}\n\nevent: values\ndata: {}\n\nevent: end\ndata: null\n\n',
        hold_at=1,
    ),
}
"""Path → an answer that waits behind its first events, in each dialect whose keep-alive is a comment."""

NO_KEEPALIVE = {
    "/api/generate": Script(
        body=b'{"response":"a","done":false}\n{"response":"","done":true}\n',
        headers={"content-type": "application/x-ndjson"},
        fault="stall",
        at_byte=30,
    ),
    "/model/scripted/converse-stream": Script(
        body=b"\0" * 64, headers={"content-type": "application/vnd.amazon.eventstream"}, hold_at=0
    ),
    "/v1/unheard-of": Script(body=b'data: {"a":1}\n\ndata: {"a":2}\n\n', hold_at=1),
    CHAT: Script(body=b'{"choices":[]}', headers={"content-type": "application/json"}, fault="stall", at_byte=1),
}
"""Path → an answer that waits, in a grammar that has none."""


@check("RS-BEAT-01", needs=("keepalive_s",))
def in_silence(ctx: Context) -> None:
    """A caller gets keep-alives, none of them early, before the first event and between two."""
    for hold_at in (0, 3):
        answer = ctx.post(Script(tokens=5, hold_at=hold_at), key=None).has_status(200).until_events(hold_at)
        held_s, sent = time.monotonic(), len(answer.body)
        answer.until(sent + 6).expect(b":" in answer.body[sent:], "keep-alives", answer.body[sent:])
        waited_s, least_s = time.monotonic() - held_s, ctx.limit("keepalive_s") * 1.5
        answer.expect(waited_s > least_s, f"three of them after {least_s:g} s at the earliest", f"{waited_s:.2f} s")
        ctx.upstream.release()
        answer.ends_framed()


@check("RS-BEAT-02", needs=("keepalive_s",))
def comments(ctx: Context) -> None:
    """In each of these dialects a caller that waits gets the bytes `:` LF, one after the other."""
    answers = {path: ctx.post(script, path=path, key=None) for path, script in COMMENTED.items()}
    for path, answer in answers.items():
        answer.until_events(COMMENTED[path].hold_at or 0)
        sent = sum(len(event.raw) for event in answer.events)
        seen = answer.until(sent + 4).body[sent:][:4]
        answer.expect(seen == b":\n:\n", r"':\n:\n'", seen)


@check("RS-BEAT-03", needs=("keepalive_s",))
def empty_lines(ctx: Context) -> None:
    """In `gemini` a caller that waits gets CR LF and nothing else."""
    answer = ctx.post(Script(tokens=5, hold_at=2), path=GEMINI).until_events(2)
    sent = len(answer.events[0].raw) + len(answer.events[1].raw)
    seen = answer.until(sent + 4).body[sent:]
    answer.expect(seen.startswith(b"\r\n\r\n"), r"'\r\n\r\n'", seen)
    ctx.upstream.release()
    answer.ends_framed()


@check("RS-BEAT-04", needs=("keepalive_s",))
def elsewhere_none(ctx: Context) -> None:
    """In a grammar that has no keep-alive a caller that waits gets nothing."""
    answers = [ctx.post(script, path=path, key=None).has_status(200) for path, script in NO_KEEPALIVE.items()]
    ctx.upstream.wait_for(lambda calls: len(calls) == 4 and all(call.held for call in calls), "four held calls")
    answers[0].silent_for(ctx.limit("keepalive_s") * 3)
    sent = {call.path: ctx.upstream.sent(call) for call in ctx.upstream.calls()}
    for path, answer in zip(NO_KEEPALIVE, answers, strict=True):
        seen = answer.silent_for(0.05).body
        answer.expect(sent[path].startswith(seen), f"no more than {sent[path]!r}", seen)


@check("RS-BEAT-05", needs=("keepalive_s",))
def between_events(ctx: Context) -> None:
    """Where the upstream falls silent within an event, the keep-alives come before that event."""
    answer = ctx.post(Script(tokens=5, fault="stall", at_byte=400)).until_events(1)
    (call,) = ctx.upstream.wait_for(lambda calls: calls[0].held, "a call that is held")
    begun = ctx.upstream.sent(call)
    whole = begun[: begun.rindex(b"\n\n") + 2]
    answer.expect(begun != whole, "a call that is held within an event", begun)
    answer.until(len(whole) + 4)
    answer.expect(answer.body.startswith(whole + b":\n"), f"a keep-alive behind {whole[-20:]!r}", answer.body[-40:])
    ctx.upstream.release()
    (call,) = ctx.upstream.wait_for(lambda calls: calls[0].ended, "the end of the call")
    answer.has_payload(ctx.upstream.sent(call))


@check("RS-BEAT-06", needs=("keepalive_s",))
def no_payload(ctx: Context) -> None:
    """What a caller got as a keep-alive is in no page, tail or later answer, and no offset counts it."""
    answer = ctx.post(Script(tokens=5, hold_at=2)).until_events(2)
    sent = len(answer.body)
    answer.until(sent + 4)
    ctx.upstream.release()
    answer.ends_framed()
    (call,) = ctx.upstream.count_is(1)
    payload = ctx.upstream.sent(call)
    answer.expect(len(answer.body) > len(payload), "keep-alives in the body", answer.body[sent:])
    ctx.sealed(answer.stream).has_header("stream-next-offset", f"{len(payload):016}")
    for again in (ctx.read(answer.stream), ctx.read(answer.stream, "offset=0&live=tail"), ctx.post()):
        again.ends_framed().has_body(payload)


@check("RS-BEAT-07", needs=("keepalive_s",))
def behind_an_offset(ctx: Context) -> None:
    """A caller that goes on at an offset above 0, and waits, gets nothing."""
    first = ctx.post(Script(tokens=5, hold_at=2)).until_events(2)
    at = len(first.events[0].raw)
    rest = ctx.post(headers={"stream-offset": f"{at:016}"}).has_status(200).until_events(1)
    rest.silent_for(ctx.limit("keepalive_s") * 3)
    rest.expect(rest.body == first.events[1].raw, "the second event and nothing else", rest.body)
    ctx.upstream.release()
    rest.ends_framed()
