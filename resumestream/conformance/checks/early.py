"""EARLY: calls that fail before the first byte of an answer."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..registry import check

WHOLE = Script(tokens=5)
UNANSWERED = Script(fault="rst", before_head=True)
SILENT = Script(fault="stall", before_head=True)
EMPTY = Script(fault="fin", at_byte=0)
SILENT_BODY = Script(fault="stall", at_byte=0)


def useless_to_repeat(answer: Answer, status: int, code: str) -> str:
    """It is this problem, after which an SDK does not ask again; gives its message."""
    told = answer.is_problem(status, code)
    answer.has_header("x-should-retry", "false")
    return str(told["detail"])


def key_is_released(ctx: Context, before: Answer) -> None:
    """The same POST makes a new call, with a stream of its own."""
    ctx.sealed(before.stream)
    after = ctx.post().has_status(200).lacks_header("idempotent-replayed").ends_framed()
    after.expect(after.stream != before.stream, "a new stream", after.stream)
    ctx.upstream.count_is(2)


def key_is_kept(ctx: Context, before: Answer, status: int) -> Answer:
    """The same POST gets the same stream with its failure, without a call."""
    ctx.sealed(before.stream)
    after = ctx.post().has_status(status).has_header("stream-id", before.stream)
    ctx.upstream.count_is(1)
    return after


@check("RS-EARLY-01")
def refusals(ctx: Context) -> None:
    """A refusal reaches two who wait for it, with its status and its body."""
    for status in (400, 401, 404, 429, 500, 529):
        body = b'{"error": {"message": "no: %d"}}' % status
        held = Script(status=status, body=body, fault="stall", before_head=True)
        first = ctx.post(held, Script(status=status, body=body), key=f"{ctx.key}-{status}")
        ctx.upstream.wait_for(lambda calls: bool(calls) and calls[-1].held, "a call that waits")
        second = ctx.post(key=f"{ctx.key}-{status}")
        ctx.upstream.release()
        for answer in (first, second):
            answer.has_status(status).has_body(body)


@check("RS-EARLY-02")
def a_refusal_releases(ctx: Context) -> None:
    """The POST after a refusal makes a new call and gets a new stream."""
    key_is_released(ctx, ctx.post(Script(status=500), WHOLE).has_status(500).end())


@check("RS-EARLY-03")
def a_refusal_is_kept(ctx: Context) -> None:
    """The refusal's body and status can be read by the id of its stream, also after the key has another."""
    refused = ctx.post(Script(status=400), WHOLE).has_status(400).end()
    ctx.post().has_status(200).ends_framed()
    ctx.sealed(refused.stream).has_header("stream-upstream-status", "400")
    ctx.read(refused.stream, "offset=-1").has_status(200).has_body(refused.body)


A_MINUTE = (
    {"retry-after": "60"},
    {"retry-after-ms": "60000", "retry-after": "0"},
    {"date": "Fri, 01 Jan 2038 00:00:00 GMT", "retry-after": "Fri, 01 Jan 2038 00:01:00 GMT"},
)
"""The ways in which a refusal asks for it."""


@check("RS-EARLY-04")
def retry_after(ctx: Context) -> None:
    """Within the time that a refusal asked for, in whichever way, a POST gets it again, also with another body, without
    a call; after that a POST makes one."""
    for number, asked in enumerate(A_MINUTE, 1):
        key = f"{ctx.key}-{number}"
        refused = ctx.post(Script(status=429, headers=asked), WHOLE, key=key).has_status(429).end()
        ctx.sealed(refused.stream)
        for body in (None, b'{"stream": true}'):
            again = ctx.post(key=key, body=body).has_status(429).has_header("stream-id", refused.stream)
            again.has_body(refused.body)
        ctx.upstream.count_is(number)
    ctx.post(Script(status=429, headers={"retry-after": "1"}), WHOLE).has_status(429).end()
    ctx.eventually(ctx.post, lambda again: again.status == 200, "status 200 after a second")
    ctx.upstream.count_is(len(A_MINUTE) + 2)


@check("RS-EARLY-05")
def error_events(ctx: Context) -> None:
    """An error as the first event of a 200 releases the key, and one behind another event does not."""
    key_is_released(ctx, ctx.post(Script(tokens=5, error_at=0), WHOLE, key=ctx.key).has_status(200).end())
    later = ctx.post(Script(tokens=5, error_at=2), WHOLE, key=f"{ctx.key}-later").has_status(200).end()
    ctx.sealed(later.stream)
    ctx.post(key=f"{ctx.key}-later").has_header("stream-id", later.stream).has_payload(later.payload)


@check("RS-EARLY-06")
def no_connection(ctx: Context) -> None:
    """An upstream that takes no connection is 502, which may be tried again: the next POST has a stream of its own."""
    first = ctx.post(upstream="closed").has_status(502).lacks_header("x-should-retry").end()
    ctx.sealed(first.stream).has_header("stream-outcome", "provider_error")
    again = ctx.post(upstream="closed").has_status(502).lacks_header("idempotent-replayed").end()
    again.expect(again.stream != first.stream, "a new stream", again.stream)


@check("RS-EARLY-07")
def no_status(ctx: Context) -> None:
    """A connection that ends, or breaks off, without a status is 502 `truncated`, and useless to repeat."""
    for fault in ("fin", "rst"):
        useless_to_repeat(ctx.post(Script(fault=fault, before_head=True), key=None), 502, "truncated")


@check("RS-EARLY-08", needs=("first_byte_s",))
def silence(ctx: Context) -> None:
    """A request that nothing answers is 504 `stalled`, and useless to repeat."""
    useless_to_repeat(ctx.post(SILENT), 504, "stalled")


@check("RS-EARLY-09", needs=("first_byte_s",))
def no_byte(ctx: Context) -> None:
    """A 200 that breaks off before its first byte is 502 for who comes later, and one that is silent 504."""
    for script, status, outcome in ((EMPTY, 502, "truncated"), (SILENT_BODY, 504, "stalled")):
        first = ctx.post(script, key=f"{ctx.key}-{outcome}").end()
        ctx.sealed(first.stream).has_header("stream-outcome", outcome)
        ctx.post(key=f"{ctx.key}-{outcome}").is_problem(status, outcome)


@check("RS-EARLY-10", needs=("first_byte_s",))
def the_key_is_kept(ctx: Context) -> None:
    """After each of these failures the same POST gets the same failure, and the upstream has seen one call."""
    for script, status in ((UNANSWERED, 502), (EMPTY, 502), (SILENT, 504), (SILENT_BODY, 504)):
        name = ctx.upstream.script(script, WHOLE)
        key, named = f"{ctx.key}-{name}", {"x-script": name}
        first = ctx.post(key=key, headers=named).end()
        ctx.sealed(first.stream)
        ctx.post(key=key, headers=named).has_status(status).has_header("stream-id", first.stream)
        ctx.expect(len(ctx.upstream.calls(name)) == 1, "one call", ctx.upstream.calls(name))


@check("RS-EARLY-11")
def what_to_do(ctx: Context) -> None:
    """The message names the stream, and with a key `Stream-Retry`; without one it does not."""
    for key in (ctx.key, None):
        answer = ctx.post(UNANSWERED, key=key)
        message = useless_to_repeat(answer, 502, "truncated")
        named = answer.stream in message, "Stream-Retry" in message
        answer.expect(named == (True, key is not None), f"a message that names {answer.stream}", message)
