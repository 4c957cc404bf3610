"""LIFE: states, outcomes and seals."""

from __future__ import annotations

import json
import re

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT, GEMINI, MESSAGES, RESPONSES
from ..registry import check

GRAMMARS = (CHAT, RESPONSES, MESSAGES, GEMINI)
BROKEN = Script(tokens=9, fault="rst", at_event=4)


def sealed(ctx: Context, script: Script, path: str = CHAT) -> Answer:
    """HEAD of the stream of a call with this script, once it is sealed."""
    return ctx.sealed(ctx.post(script, path=path, key=None).end().stream)


def of(*data: object, done: bool = False) -> bytes:
    """Events with these data."""
    body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in data)
    return body + (b"data: [DONE]\n\n" if done else b"")


def chunk(index: int, text: str = "", finish: str | None = None) -> object:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


@check("RS-LIFE-01")
def states_in_order(ctx: Context) -> None:
    """A stream is pending, streaming, sealed and expired, and never goes back."""
    script = Script(tokens=9, hold_at=3, fault="stall", before_head=True)
    made = ctx.post(script, headers={"prefer": "respond-async", "stream-retain": "1"}).has_status(202)
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held before its head")
    ctx.head(made.stream).has_header("stream-state", "pending")
    ctx.upstream.release()
    reader = ctx.post().until_events(3)
    ctx.head(made.stream).has_header("stream-state", "streaming")
    ctx.upstream.release()
    reader.ends_framed()
    ctx.sealed(made.stream)
    ctx.eventually(lambda: ctx.head(made.stream), lambda seen: seen.status == 410, "410: an expired stream")
    state = ctx.info(made.stream)["state"]
    ctx.expect(state == "expired", "the state expired", state)


@check("RS-LIFE-02")
def pending_until_the_first_byte(ctx: Context) -> None:
    """A stream whose upstream has answered without a byte is pending, with a byte it is streaming."""
    live = ctx.post(Script(tokens=9, hold_at=0)).has_status(200)
    ctx.head(live.stream).has_header("stream-state", "pending")
    ctx.upstream.release()
    live.ends_framed()
    other = ctx.post(Script(tokens=9, hold_at=1), key=None).until_events(1)
    ctx.head(other.stream).has_header("stream-state", "streaming")
    ctx.upstream.release()
    other.ends_framed()


OUTCOMES = {"completed", "provider_error", "truncated", "stalled", "cancelled", "overflow", "interrupted"}


@check("RS-LIFE-03")
def one_outcome_for_all(ctx: Context) -> None:
    """Every way to read a stream tells the same outcome of the table."""
    for script, outcome in ((BROKEN, "truncated"), (Script(tokens=9, error_at=4), "provider_error")):
        key = f"{ctx.key}-{outcome}"
        first = ctx.post(script, key=key).end()
        ctx.sealed(first.stream).has_header("stream-outcome", outcome)
        reads = [ctx.read(first.stream, query) for query in ("", "live=tail", "live=events")]
        for answer in (ctx.post(key=key), *reads):
            answer.has_header("stream-outcome", outcome).end()
        told = ctx.info(first.stream)["outcome"], reads[-1].events[-1].json()["outcome"]
        ctx.expect(told == (outcome, outcome), f"{outcome}, twice", told)
        ctx.expect(outcome in OUTCOMES, "an outcome of the table", outcome)


@check("RS-LIFE-04")
def the_first_seal_wins(ctx: Context) -> None:
    """A stop, a read and another request after the seal leave the outcome as it is."""
    for script, outcome in ((Script(tokens=5), "completed"), (BROKEN, "truncated")):
        key = f"{ctx.key}-{outcome}"
        first = ctx.post(script, key=key).end()
        ctx.sealed(first.stream)
        page = ctx.read(first.stream).end().body
        ctx.ask("POST", f"/streams/{first.stream}/cancel").has_status(202).end()
        ctx.post(key=key).end()
        ctx.head(first.stream).has_header("stream-outcome", outcome)
        ctx.read(first.stream).has_body(page)


@check("RS-LIFE-05")
def terminal_event(ctx: Context) -> None:
    """In each dialect an answer with its end is `completed`."""
    for path in GRAMMARS:
        sealed(ctx, Script(tokens=5), path).has_header("stream-outcome", "completed")


@check("RS-LIFE-06")
def no_terminal_event(ctx: Context) -> None:
    """In each dialect a body that ends as framed, without the answer's end, is `truncated`."""
    for path in GRAMMARS:
        sealed(ctx, Script(tokens=9, fault="clean", at_event=3), path).has_header("stream-outcome", "truncated")


@check("RS-LIFE-07")
def no_dialect(ctx: Context) -> None:
    """In no known dialect a body that ends as framed is `completed`."""
    for kind in ("text/event-stream", "application/json", "audio/mpeg"):
        script = Script(body=b'data: {"a": 1}\n\ndata: half', headers={"content-type": kind})
        sealed(ctx, script, "/v1/anything").has_header("stream-outcome", "completed")


@check("RS-LIFE-08")
def after_the_end(ctx: Context) -> None:
    """However the connection ends behind the terminal event, the stream is `completed`, and its answer ends clean."""
    for path in (CHAT, RESPONSES, MESSAGES):
        for fault in ("rst", "fin", "garbage"):
            answer = ctx.post(Script(tokens=5, fault=fault), path=path, key=None).ends_framed()
            ctx.sealed(answer.stream).has_header("stream-outcome", "completed")


@check("RS-LIFE-09", needs=("settle_s",))
def in_time(ctx: Context) -> None:
    """A stream whose upstream keeps the body open behind the terminal event is sealed all the same."""
    answer = ctx.post(Script(tokens=5, fault="stall")).has_status(200)
    ctx.sealed(answer.stream).has_header("stream-outcome", "completed")
    answer.ends_framed()


@check("RS-LIFE-10")
def error_event(ctx: Context) -> None:
    """In each dialect the provider's error event ends the stream `provider_error`."""
    for path in GRAMMARS:
        sealed(ctx, Script(tokens=9, error_at=4), path).has_header("stream-outcome", "provider_error")


@check("RS-LIFE-11")
def refusals(ctx: Context) -> None:
    """A status that is none of success ends the stream `provider_error`."""
    for status in (400, 401, 404, 422, 429, 500, 529):
        sealed(ctx, Script(status=status)).has_header("stream-outcome", "provider_error")


@check("RS-LIFE-12")
def finish_reasons(ctx: Context) -> None:
    """A chat whose every choice has a finish_reason is `completed` without `[DONE]`; one that lacks one is not."""
    both = of(chunk(0, "a"), chunk(1, "b"), chunk(0, finish="stop"), chunk(1, finish="length"))
    sealed(ctx, Script(body=both)).has_header("stream-outcome", "completed")
    one = of(chunk(0, "a"), chunk(1, "b"), chunk(0, finish="stop"))
    sealed(ctx, Script(body=one)).has_header("stream-outcome", "truncated")


@check("RS-LIFE-13")
def responses(ctx: Context) -> None:
    """`response.incomplete` is `completed`, `response.failed` is `provider_error`."""
    for kind, outcome in (("incomplete", "completed"), ("failed", "provider_error")):
        created = {"type": "response.created", "sequence_number": 0, "response": {"id": "r", "status": "in_progress"}}
        error = {"code": "server_error", "message": "x"} if kind == "failed" else None
        last: dict[str, object] = {"id": "r", "status": kind, "error": error, "output": []}
        body = of(created, {"type": f"response.{kind}", "sequence_number": 1, "response": last})
        sealed(ctx, Script(body=body), RESPONSES).has_header("stream-outcome", outcome)


@check("RS-LIFE-14")
def unframed(ctx: Context) -> None:
    """A body that only the connection's end ends is `truncated`, unless its terminal event came."""
    for body, kind in ((b"data: 1\n\n", "text/event-stream"), (b'{"a": 1}', "application/json")):
        script = Script(body=body, headers={"content-type": kind}, framing="close")
        sealed(ctx, script, "/v1/anything").has_header("stream-outcome", "truncated")
    sealed(ctx, Script(tokens=5, framing="close")).has_header("stream-outcome", "completed")


@check("RS-LIFE-15")
def byte_exact(ctx: Context) -> None:
    """What is kept of a completed stream is what the upstream sent, byte for byte."""
    behind = b"\r\n: and more\r\n\r\n"
    for path, script in (
        *((path, Script(tokens=20, chunking="random:1")) for path in GRAMMARS),
        (CHAT, Script(body=of(chunk(0, "é", "stop"), done=True).replace(b"\n", b"\r\n") + behind)),
        ("/v1/anything", Script(body=bytes(range(256)) * 99, headers={"content-type": "audio/mpeg"}, chunking=(7,))),
    ):
        head = sealed(ctx, script, path).has_header("stream-outcome", "completed")
        sent = ctx.upstream.sent(ctx.upstream.calls()[-1])
        ctx.read(head.stream).has_body(sent)


@check("RS-LIFE-16")
def guessed_wrongly(ctx: Context) -> None:
    """An event stream at a dialect's path, of which no event is of that dialect, is taken for one of no dialect."""
    for path in GRAMMARS:
        script = Script(body=b'event: tick\ndata: {"at": 1}\n\nevent: tick\ndata: {"at": 2}\n\n')
        sealed(ctx, script, path).has_header("stream-outcome", "completed")


@check("RS-LIFE-17")
def ids(ctx: Context) -> None:
    """Ids are of the alphabet, long enough for 128 random bits, and all different."""
    ids = [ctx.post(Script(tokens=1), key=None).end().stream for _ in range(9)]
    ctx.expect(len(set(ids)) == len(ids), "nine ids", ids)
    ctx.expect(
        all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", one) for one in ids), "22 characters A-Z a-z 0-9 _ - or more", ids
    )
    deleted = ctx.post(Script(tokens=1)).end().stream
    ctx.ask("DELETE", f"/streams/{deleted}?forget=true").has_status(204).end()
    ctx.expect(ctx.post().end().stream != deleted, "another id than that of a stream that was forgotten", deleted)
