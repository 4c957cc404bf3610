"""RES: calls that go on at the upstream when their connection is lost."""

from __future__ import annotations

import json

from resumestream.testing.provider import Call, Calls, Script

from ..answer import Answer
from ..context import Context
from ..paths import RESPONSES, request_body
from ..registry import check, exempt

BACKGROUND = request_body(RESPONSES, background=True)
LOST = Script(tokens=9, fault="rst", at_event=6)
"""It is lost behind the event with the number 5."""


def ask(ctx: Context, script: Script, body: bytes = BACKGROUND, **options: object) -> Answer:
    """A call of OpenAI Responses with this script; what else is asked about its answer has the default one."""
    # `post` has types for its options; here they only pass through.
    return ctx.post(script, upstream="responses", path=RESPONSES, body=body, **options)  # type: ignore[arg-type]


def numbers(answer: Answer) -> list[int]:
    """Of the events that the caller got."""
    return [event.json()["sequence_number"] for event in answer.events]


def asked_about(ctx: Context, answer: Answer) -> Calls:
    """The upstream's requests about that answer, of whomever, after the call that made it."""
    named = f"/responses/{answer.events[0].json()['response']['id']}"
    return [call for call in ctx.upstream.everything() if named in call.path]


def event(number: int, kind: str = "response.output_text.delta") -> bytes:
    """An event of an answer that is made by hand."""
    data = {"type": kind, "sequence_number": number, "response": {"id": "resp_conformance"}}
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def by_hand(ctx: Context, *again: int) -> Answer:
    """A call that is lost behind the event with the number 2; who asks for the rest gets events with these numbers."""
    begun = b"".join(map(event, range(3)))
    rest = b"".join(map(event, again[:-1])) + event(again[-1], "response.completed")
    ctx.upstream.otherwise(Script(body=rest))
    return ask(ctx, Script(body=begun + event(3), fault="rst", at_event=3))


def read_on(ctx: Context, answer: Answer) -> Call:
    """The one request that read on from it."""
    found = asked_about(ctx, answer)
    ctx.expect(len(found) == 1, "one request to read on", [(call.method, call.path) for call in found])
    return found[0]


@check("RS-RES-01")
def in_one_piece(ctx: Context) -> None:
    """A caller whose call was lost gets one answer, each event once and in order, of one call in one segment."""
    answer = ask(ctx, LOST).ends_framed()
    expected = list(range(len(answer.events)))
    answer.expect(numbers(answer) == expected and len(expected) > 9, "all events, each once", numbers(answer))
    (call,) = ctx.upstream.count_is(1)
    answer.expect(answer.payload.startswith(ctx.upstream.sent(call)), "what the first connection gave", answer.payload)
    ctx.sealed(answer.stream).has_header("stream-outcome", "completed")
    ctx.read(answer.stream).has_header("stream-offset", "0" * 16).has_body(answer.payload)


@check("RS-RES-02")
def only_in_background(ctx: Context) -> None:
    """A call without `"background": true` that is lost is `truncated`, and nobody asks for the rest."""
    for more in ({}, {"background": False}):
        answer = ask(ctx, LOST, request_body(RESPONSES, **more), key=None).end()
        ctx.sealed(answer.stream).has_header("stream-outcome", "truncated")
        found = [call.path for call in asked_about(ctx, answer)]
        answer.expect(not found, "no request to read on", found)


@check("RS-RES-03")
def behind_the_last(ctx: Context) -> None:
    """The rest is asked for behind the last whole event, also where a part of the next one had come."""
    for cut in (LOST, Script(tokens=9, fault="rst", at_byte=3000)):
        answer = ask(ctx, cut, key=None).ends_framed()
        last = ctx.upstream.sent(ctx.upstream.calls()[-1]).count(b"\n\n") - 1
        call = read_on(ctx, answer)
        expected = f"?stream=true&starting_after={last}"
        ctx.expect(call.method == "GET" and call.path.endswith(expected), f"GET ...{expected}", call.path)


@check("RS-RES-04", alone=True)
def again(ctx: Context) -> None:
    """Events that come a second time are in the answer once."""
    answer = by_hand(ctx, 0, 1, 2, 3, 4).ends_framed()
    answer.expect(numbers(answer) == [0, 1, 2, 3, 4], "each event once", numbers(answer))
    ctx.sealed(answer.stream).has_header("stream-outcome", "completed")


@check("RS-RES-05", alone=True)
def gap(ctx: Context) -> None:
    """Where an event is missing, what follows is not in the answer, and the stream ends `truncated`, `resume_gap`."""
    answer = by_hand(ctx, 4, 5).end()
    ctx.sealed(answer.stream).has_header("stream-outcome", "truncated")
    code = ctx.info(answer.stream)["detail"]["code"]
    answer.expect(code == "resume_gap", "detail resume_gap", code)
    ctx.read(answer.stream).has_body(b"".join(map(event, range(3))))


@check("RS-RES-06")
def stop(ctx: Context) -> None:
    """A stop of the stream is told to the upstream."""
    live = ask(ctx, Script(tokens=9, hold_at=6)).until_events(6)
    ctx.ask("POST", f"/streams/{live.stream}/cancel").has_status(202).end()

    def told(_: Answer) -> bool:
        return [call.method for call in asked_about(ctx, live) if call.path.endswith("/cancel")] == ["POST"]

    ctx.eventually(lambda: ctx.head(live.stream), told, "POST .../responses/{id}/cancel at the upstream")
    ctx.sealed(live.stream).has_header("stream-outcome", "cancelled")


@check("RS-RES-07")
def one_attempt(ctx: Context) -> None:
    """A call that took two connections is one attempt."""
    answer = ask(ctx, LOST).ends_framed()
    ctx.sealed(answer.stream)
    read_on(ctx, answer)
    attempts = [(attempt["status"], attempt["outcome"]) for attempt in ctx.info(answer.stream)["attempts"]]
    answer.expect(attempts == [(200, "completed")], "one attempt, completed", attempts)


@check("RS-RES-08", alone=True)
def in_vain(ctx: Context) -> None:
    """Where no try brings anything, the tries end, and the stream is `truncated` with what had come."""
    ctx.upstream.otherwise(Script(status=503))
    answer = ask(ctx, LOST, headers={"stream-exact": "true"}).ends_cut()
    ctx.sealed(answer.stream).has_header("stream-outcome", "truncated")
    (call,) = ctx.upstream.count_is(1)
    answer.has_body(ctx.upstream.sent(call))
    tries = asked_about(ctx, answer)
    answer.expect(bool(tries), "tries to read on", "none")


@check("RS-RES-09")
def who_asks(ctx: Context) -> None:
    """The request to read on has the caller's credential, and neither its body nor its other headers."""
    more = {"x-anything": "a", "user-agent": "conformance/1", "openai-project": "p", "stream-label": "one"}
    call = read_on(ctx, ask(ctx, LOST, headers=more).ends_framed())
    seen = dict(call.headers)
    shown = seen.get("authorization")
    ctx.expect(shown == ctx.caller["authorization"], "the caller's credential", shown)
    kept = {"x-anything", "x-script", "content-type", "idempotency-key", "stream-label"} & seen.keys()
    ctx.expect(not kept and seen.get("user-agent") != "conformance/1", "none of its other headers", call.headers)
    ctx.expect(call.request_bytes == 0, "no body", f"{call.request_bytes} bytes")


exempt("RS-RES-10", "It takes a second process, and the death of the first.")
exempt("RS-RES-11", "The scripted upstream speaks for a provider, and is no server of this document.")
