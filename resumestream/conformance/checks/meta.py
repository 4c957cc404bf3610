"""META: HEAD and info."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check

BROKEN = Script(tokens=9, fault="rst", at_event=4)
SSE = "text/event-stream; charset=utf-8"


def pending(ctx: Context) -> str:
    """The id of a stream whose upstream has not answered; release it."""
    made = ctx.post(Script(tokens=5, fault="stall", before_head=True), headers={"prefer": "respond-async"})
    made.has_status(202)
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held before its head")
    return made.stream


def live(ctx: Context) -> Answer:
    return ctx.post(Script(tokens=9, hold_at=3), key=f"{ctx.key}-live").until_events(3)


@check("RS-META-01")
def state(ctx: Context) -> None:
    """HEAD is 200 with the state, whatever it is, and has no body."""
    waiting, streaming = pending(ctx), live(ctx)
    ctx.head(waiting).has_status(200).has_header("stream-state", "pending").has_body(b"")
    ctx.head(streaming.stream).has_status(200).has_header("stream-state", "streaming").has_body(b"")
    ctx.upstream.release()
    streaming.ends_framed()
    for stream in (waiting, streaming.stream):
        ctx.sealed(stream).has_status(200).has_body(b"")


@check("RS-META-02")
def tail_and_end(ctx: Context) -> None:
    """HEAD tells the tail, and that the stream is closed if and only if it is sealed, also where it failed."""
    answer = live(ctx)
    head = ctx.head(answer.stream).lacks_header("stream-closed")
    head.has_header("stream-next-offset", f"{len(answer.payload):016}")
    ctx.upstream.release()
    answer.ends_framed()
    head = ctx.sealed(answer.stream).has_header("stream-closed", "true")
    head.has_header("stream-next-offset", f"{len(answer.payload):016}")
    ctx.sealed(ctx.post(BROKEN).end().stream).has_header("stream-closed", "true")


@check("RS-META-03")
def expiry(ctx: Context) -> None:
    """HEAD tells when a sealed stream expires, in UTC, and nothing of the kind before."""
    answer = live(ctx)
    ctx.head(answer.stream).lacks_header("stream-expires-at")
    ctx.upstream.release()
    answer.ends_framed()
    head = ctx.sealed(answer.stream)
    text = head.value("stream-expires-at")
    form = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", text)
    head.expect(form is not None, "an RFC 3339 time in UTC", text)
    later = datetime.fromisoformat(text.replace("Z", "+00:00")) > datetime(2025, 1, 1, tzinfo=UTC)
    head.expect(later, "a time to come", text)


@check("RS-META-04")
def upstream(ctx: Context) -> None:
    """HEAD tells content type and status of the upstream's answer once it is there, and not before."""
    waiting = pending(ctx)
    ctx.head(waiting).lacks_header("stream-content-type").lacks_header("stream-upstream-status")
    ctx.upstream.release()
    ctx.sealed(waiting).has_header("stream-content-type", SSE).has_header("stream-upstream-status", "200")
    refused = ctx.post(Script(status=418), key=None).has_status(418).end()
    head = ctx.sealed(refused.stream).has_header("stream-upstream-status", "418")
    head.has_header("stream-content-type", "application/json")


MEMBERS = (
    *("summary", "id", "state", "outcome", "detail", "upstream", "dialect", "content_type", "upstream_status"),
    *("bytes", "events", "next_offset", "closed", "labels", "previous", "cancel_requested", "durability", "node"),
    *("segments", "attempts", "created_at", "sealed_at", "expires_at", "gone"),
)
PARTS = {
    "segments": {"segment", "bytes", "events", "upstream_status", "outcome", "detail"},
    "attempts": {"upstream", "status", "request_id", "started_at", "ended_at", "bytes", "outcome", "model", "usage"},
}


@check("RS-META-05")
def members(ctx: Context) -> None:
    """Info is a JSON object with all members, live and sealed, and their values are those of the stream."""
    answer = ctx.post(Script(tokens=9, hold_at=3), headers={"stream-label": "one"}).until_events(3)
    told = ctx.info(answer.stream)
    ctx.expect(not set(MEMBERS) - told.keys(), "all members", sorted(set(MEMBERS) - told.keys()))
    so_far = told["id"], told["state"], told["outcome"], told["closed"], told["sealed_at"]
    ctx.expect(so_far == (answer.stream, "streaming", None, False, None), "a live stream", so_far)
    ctx.upstream.release()
    answer.ends_framed()
    ctx.sealed(answer.stream)
    told = ctx.info(answer.stream)
    expected = {
        "id": answer.stream,
        "state": "sealed",
        "outcome": "completed",
        "upstream": "main",
        "dialect": "openai-chat",
        "content_type": SSE,
        "upstream_status": 200,
        "next_offset": f"{len(answer.payload):016}",
        "closed": True,
        "labels": ["one"],
        "previous": None,
    }
    seen = {name: told.get(name) for name in expected}
    ctx.expect(seen == expected, str(expected), seen)
    for name, wanted in PARTS.items():
        (part,) = told[name]
        ctx.expect(wanted <= part.keys(), f"in {name} {sorted(wanted)}", sorted(part))


@check("RS-META-06")
def summary(ctx: Context) -> None:
    """The summary is a sentence that begins with the outcome, or before the seal with the state."""
    answer = live(ctx)
    said = [(ctx.info(answer.stream)["summary"], "streaming")]
    ctx.upstream.release()
    answer.ends_framed()
    ctx.sealed(answer.stream)
    said.append((ctx.info(answer.stream)["summary"], "completed"))
    broken = ctx.post(BROKEN).end()
    ctx.sealed(broken.stream)
    said.append((ctx.info(broken.stream)["summary"], "truncated"))
    for sentence, word in said:
        ctx.expect(sentence.startswith(word) and " " in sentence, f"a sentence that begins with {word}", sentence)


@check("RS-META-07")
def counts(ctx: Context) -> None:
    """`bytes` and `events` are those of the payload, live and sealed."""
    answer = live(ctx)
    told = ctx.info(answer.stream)
    seen, expected = (told["bytes"], told["events"]), (len(answer.payload), 3)
    ctx.expect(seen == expected, f"bytes and events {expected}", seen)
    ctx.upstream.release()
    answer.ends_framed()
    ctx.sealed(answer.stream)
    told = ctx.info(answer.stream)
    seen, expected = (told["bytes"], told["events"]), (len(answer.payload), len(answer.events))
    ctx.expect(seen == expected, f"bytes and events {expected}", seen)


@check("RS-META-08")
def attempts(ctx: Context) -> None:
    """The one call is told with its upstream, status, bytes and outcome, whether it went well or not."""
    for script, status, outcome in (
        (Script(tokens=9), 200, "completed"),
        (BROKEN, 200, "truncated"),
        (Script(status=400), 400, "provider_error"),
    ):
        answer = ctx.post(script, key=None).end()
        told = ctx.info(ctx.sealed(answer.stream).stream)
        seen = [(one["upstream"], one["status"], one["bytes"], one["outcome"]) for one in told["attempts"]]
        expected = [("main", status, told["bytes"], outcome)]
        ctx.expect(seen == expected, f"the attempts {expected}", seen)


@check("RS-META-09")
def detail(ctx: Context) -> None:
    """A sealed stream's detail has a code, and another one where it ended for another reason."""
    codes = []
    for script in (Script(tokens=9), BROKEN, Script(tokens=9, error_at=4), Script(status=400)):
        answer = ctx.post(script, key=None).end()
        code = ctx.info(ctx.sealed(answer.stream).stream)["detail"].get("code", "")
        ctx.expect(re.fullmatch(r"[a-z0-9_]+", code) is not None, "a code for programs", code)
        codes.append(code)
    ctx.expect(len(set(codes)) == len(codes), "a code for each reason", codes)


@check("RS-META-10")
def durability(ctx: Context) -> None:
    """The record says what a byte that was seen survives."""
    told = ctx.info(ctx.post(Script(tokens=1)).end().stream)["durability"]
    ctx.expect(told in ("none", "process", "disk"), "none, process or disk", told)
