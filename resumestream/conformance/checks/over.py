"""OVER: retries and fallbacks before the first byte."""

from __future__ import annotations

from resumestream.testing.provider import Script

from ..context import Context
from ..levels import SPARE_CREDENTIAL
from ..paths import CHAT
from ..registry import check, exempt

SPARE = f"/spare{CHAT}"
UP = "retrying"


def paths(ctx: Context) -> list[str]:
    """Where the check's calls went, in their order."""
    return [call.path for call in ctx.upstream.calls()]


@check("RS-OVER-01")
def followed(ctx: Context) -> None:
    """Behind early failures come the retry and the fallback, and the caller gets the last call's answer alone."""
    for status in (408, 429, 500, 503, 529):
        before = len(paths(ctx))
        answer = ctx.post(Script(status=status), Script(tokens=3), upstream=UP, key=None)
        answer.has_status(200).ends_framed().has_payload(ctx.upstream.sent(ctx.upstream.calls()[-1]))
        made = paths(ctx)[before:]
        ctx.expect(made == [CHAT, CHAT], f"two calls of {CHAT} after {status}", made)
    before = len(paths(ctx))
    refusals = (Script(status=503, body=b'{"n":1}'), Script(status=429, body=b'{"n":2}'))
    ctx.post(*refusals, Script(tokens=3), upstream=UP, key=None).has_status(200).ends_framed()
    ctx.post(*refusals, Script(status=500, body=b'{"n":3}'), upstream=UP, key=None).has_status(500).has_body(b'{"n":3}')
    made = paths(ctx)[before:]
    ctx.expect(made == [CHAT, CHAT, SPARE] * 2, "the upstream twice, then the fallback, two times", made)


@check("RS-OVER-02")
def final_refusals(ctx: Context) -> None:
    """A refusal that would be the same again is the answer of the one call."""
    for status in (400, 401, 403, 404, 422):
        ctx.post(Script(status=status), Script(tokens=3), upstream=UP, key=None).has_status(status).end()
    ctx.upstream.count_is(5)


@check("RS-OVER-03", needs=("first_byte_s",))
def may_have_been_billed(ctx: Context) -> None:
    """A call that was sent and not answered is not followed by another, however its connection ended."""
    silent = ctx.post(Script(fault="stall", before_head=True), Script(tokens=3), upstream=UP, key=None)
    ctx.upstream.wait_for(lambda calls: len(calls) == 1, "one call")
    for fault in ("fin", "rst"):
        lost = ctx.post(Script(fault=fault, before_head=True), Script(tokens=3), upstream=UP, key=None)
        lost.is_problem(502, "truncated")
    silent.is_problem(504, "stalled")
    ctx.upstream.count_is(3)


@check("RS-OVER-04")
def listed(ctx: Context) -> None:
    """`attempts` has the calls in their order, each with its upstream and its status."""
    answer = ctx.post(Script(status=503), Script(status=429), Script(tokens=3), upstream=UP).ends_framed()
    ctx.sealed(answer.stream)
    seen = [(attempt["upstream"], attempt["status"]) for attempt in ctx.info(answer.stream)["attempts"]]
    expected = [(UP, 503), (UP, 429), ("spare", 200)]
    ctx.expect(seen == expected, str(expected), seen)


@check("RS-OVER-05")
def own_credential(ctx: Context) -> None:
    """The fallback is shown its own credential, and neither header nor query of the caller's has one there."""
    secret = ctx.caller["authorization"].removeprefix("Bearer ")
    more = {"x-api-key": secret, "api-key": secret, "x-auth-token": secret}
    path = f"{CHAT}?api_key={secret}"
    ctx.post(Script(status=503), Script(status=503), Script(tokens=3), upstream=UP, path=path, headers=more).end()
    first, _, spare = ctx.upstream.count_is(3)
    ctx.expect(secret in first.path, "the caller's credential at the upstream it named", first.path)
    shown = dict(spare.headers).get("authorization")
    ctx.expect(shown == SPARE_CREDENTIAL, f"authorization: {SPARE_CREDENTIAL} at the fallback", shown)
    found = secret in spare.path or any(secret in value for _, value in spare.headers)
    ctx.expect(not found, "no credential of the caller's at the fallback", (spare.path, spare.headers))


@check("RS-OVER-06")
def retry_after(ctx: Context) -> None:
    """A retry waits as long as `Retry-After` says, and where that is very long, none is made."""
    asked = Script(status=429, headers={"retry-after": "2"})
    ctx.post(asked, Script(tokens=3), upstream=UP, key=None).has_status(200).end()
    first, second = ctx.upstream.count_is(2)
    waited_s = second.started_at - (first.ended_at or 0)
    ctx.expect(waited_s > 1.9, "a retry after 2 s", f"{waited_s:.2f} s")
    later = Script(status=429, headers={"retry-after": "86400"})
    ctx.post(later, Script(tokens=3), upstream=UP, key=None).has_status(200).end()
    ctx.expect(paths(ctx)[2:] == [CHAT, SPARE], "the upstream, then the fallback", paths(ctx)[2:])


@check("RS-OVER-07")
def released(ctx: Context) -> None:
    """The key is released after refusals alone, and not where one of the calls may have been billed."""
    refused = ctx.post(Script(status=503), upstream=UP).has_status(503).end()
    again = ctx.post(Script(tokens=3), upstream=UP).has_status(200).ends_framed()
    again.expect(again.stream != refused.stream, "a new stream", again.stream)
    ctx.upstream.count_is(4)
    key, doubt = f"{ctx.key}-doubt", (Script(status=503), Script(fault="fin", before_head=True))
    lost = ctx.post(*doubt, Script(tokens=3), upstream=UP, key=key)
    lost.is_problem(502, "truncated")
    ctx.post(Script(tokens=3), upstream=UP, key=key).has_header("stream-id", lost.stream).is_problem(502, "truncated")
    ctx.upstream.count_is(6)


exempt("RS-OVER-08", "It is about what an operator may configure, which a run does not touch.")
exempt("RS-OVER-09", "It permits and demands nothing of an upstream that honours no key, as the scripted one.")
