"""SCOPE: one key for all requests of an agent's turn."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT, request_body
from ..registry import check


def ask(ctx: Context, step: str, *scripts: Script, occurrence: str | None = None) -> Answer:
    """One step of the turn."""
    fields = {"stream-scope": ctx.key, "stream-occurrence": occurrence}
    return ctx.post(*scripts, key=None, body=request_body(CHAT, user=step), headers=fields)


@check("RS-SCOPE-01")
def each_request_its_own(ctx: Context) -> None:
    """Each distinct request of a scope is a stream of its own, and the same steps again attach to each."""
    first = [ask(ctx, step, Script(tokens=5)).has_status(200).ends_framed() for step in ("one", "two")]
    ctx.expect(first[0].stream != first[1].stream, "two streams", first[0].stream)
    for step, before in zip(("one", "two"), first, strict=True):
        again = ask(ctx, step).has_header("stream-id", before.stream).has_header("idempotent-replayed", "true")
        again.has_payload(before.payload)
    ctx.upstream.count_is(2)


@check("RS-SCOPE-02")
def occurrences(ctx: Context) -> None:
    """Equal requests of a scope are told apart by `Stream-Occurrence`."""
    one, two = (ask(ctx, "step", Script(tokens=5), occurrence=occurrence).ends_framed() for occurrence in ("1", "2"))
    two.expect(one.stream != two.stream, "another stream", two.stream)
    ask(ctx, "step", occurrence="1").has_header("stream-id", one.stream).ends_framed()
    ctx.upstream.count_is(2)


@check("RS-SCOPE-03")
def occurrence_needs_a_scope(ctx: Context) -> None:
    """`Stream-Occurrence` without a scope is refused."""
    ctx.post(headers={"stream-occurrence": "1"}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)


@check("RS-SCOPE-04")
def of_a_principal(ctx: Context) -> None:
    """Another principal's equal scope is another one."""
    mine = ask(ctx, "step", Script(tokens=5)).ends_framed()
    fields = {"stream-scope": ctx.key, **ctx.stranger}
    theirs = ctx.post(key=None, body=request_body(CHAT, user="step"), headers=fields).ends_framed()
    theirs.expect(theirs.stream != mine.stream, "another stream", theirs.stream)
    ctx.upstream.count_is(2)
