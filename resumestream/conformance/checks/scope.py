"""SCOPE: one key for all requests of an agent's turn."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT, request_body
from ..registry import check
from .key import WRONG


def ask(ctx: Context, step: str, *scripts: Script, **fields: str) -> Answer:
    """One step of the turn."""
    headers = {"stream-scope": ctx.key, **{name.replace("_", "-"): value for name, value in fields.items()}}
    return (
        ctx.post(*scripts, key=None, body=request_body(CHAT, user=step), headers=headers).has_status(200).ends_framed()
    )


@check("RS-SCOPE-01")
def the_same_again(ctx: Context) -> None:
    """The same request again in a scope attaches."""
    first = ask(ctx, "one", Script(tokens=5))
    again = ask(ctx, "one").has_header("stream-id", first.stream).has_header("idempotent-replayed", "true")
    again.has_payload(first.payload)
    ctx.upstream.count_is(1)


@check("RS-SCOPE-02")
def each_its_own(ctx: Context) -> None:
    """Each distinct request of a scope has a stream of its own, which a turn that is repeated finds again."""
    steps = "one", "two", "three"
    first = [ask(ctx, step, Script(tokens=5)) for step in steps]
    ctx.expect(len({answer.stream for answer in first}) == 3, "three streams", [answer.stream for answer in first])
    for step, before in zip(steps, first, strict=True):
        ask(ctx, step).has_header("stream-id", before.stream)
    ctx.upstream.count_is(3)


@check("RS-SCOPE-03")
def occurrences(ctx: Context) -> None:
    """Equal requests of a scope are told apart by `Stream-Occurrence`."""
    occurrences: list[dict[str, str]] = [{}, {"stream_occurrence": "1"}, {"stream_occurrence": "2"}]
    first = [ask(ctx, "step", Script(tokens=5), **fields) for fields in occurrences]
    ctx.expect(len({answer.stream for answer in first}) == 3, "three streams", [answer.stream for answer in first])
    for fields, before in zip(occurrences, first, strict=True):
        ask(ctx, "step", **fields).has_header("stream-id", before.stream)
    ctx.upstream.count_is(3)


@check("RS-SCOPE-04")
def occurrence_needs_a_scope(ctx: Context) -> None:
    """`Stream-Occurrence` without a scope, beside a key or alone, is 400 and makes no call."""
    for key in (None, ctx.key):
        ctx.post(key=key, headers={"stream-occurrence": "1"}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)


@check("RS-SCOPE-05")
def scope_and_key(ctx: Context) -> None:
    """A scope together with a key is 400 and makes no call."""
    ctx.post(headers={"stream-scope": "turn"}).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)


@check("RS-SCOPE-06")
def of_a_principal(ctx: Context) -> None:
    """Another principal's equal scope does not join."""
    mine = ask(ctx, "step", Script(tokens=5))
    theirs = ask(ctx, "step", **ctx.stranger).lacks_header("idempotent-replayed")
    theirs.expect(theirs.stream != mine.stream, "another stream", theirs.stream)
    ctx.upstream.count_is(2)


@check("RS-SCOPE-07")
def form(ctx: Context) -> None:
    """A scope or an occurrence that has not the form of a key is 400 and makes no call."""
    for wrong in ("", *WRONG):
        ctx.post(key=None, headers={"stream-scope": wrong}).is_problem(400, "invalid-header")
        fields = {"stream-scope": ctx.key, "stream-occurrence": wrong}
        ctx.post(key=None, headers=fields).is_problem(400, "invalid-header")
    ctx.upstream.count_is(0)
