"""ERR: refusals and failures of the server's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT, request_body
from ..registry import check

PLAIN = {"content-type": "application/json"}
OTHER = request_body(CHAT, seed=1)


class Refusal(NamedTuple):
    """A problem that was provoked, and what it must be."""

    answer: Answer
    status: int
    code: str
    gateway: bool


def refusals(ctx: Context) -> Iterator[Refusal]:
    """One of each code that requests alone lead to. All of them say that a retry is useless."""
    whole = ctx.post(Script(tokens=3)).ends_framed()
    ctx.sealed(whole.stream)
    plain = ctx.post(Script(body=b"{}", headers=PLAIN), key=None).ends_framed()
    gone = ctx.post(Script(tokens=3), key=f"{ctx.key}-gone").ends_framed()
    ctx.ask("DELETE", f"/streams/{gone.stream}").has_status(204).end()
    redirect, lost = Script(status=307, headers={"location": "/elsewhere"}), Script(fault="fin", before_head=True)

    def on_gateway(status: int, code: str, *scripts: Script, key: str | None = None, **headers: str) -> Refusal:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Refusal(ctx.post(*scripts, key=key, headers=named), status, code, True)

    def on_stream(status: int, code: str, path: str, method: str = "GET") -> Refusal:
        return Refusal(ctx.ask(method, f"/streams{path}"), status, code, False)

    yield on_gateway(400, "invalid-header", key="no key")
    yield on_gateway(412, "nothing-to-resume", key=f"{ctx.key}-new", stream_offset="0")
    yield on_gateway(422, "retry-mismatch", key=f"{ctx.key}-new", stream_retry="no-such-stream")
    yield on_gateway(410, "key-expired", key=f"{ctx.key}-gone")
    yield on_gateway(501, "upgrade-unsupported", connection="upgrade", upgrade="example/1")
    yield on_gateway(502, "upstream-redirect", redirect)
    yield on_gateway(502, "truncated", lost, key=f"{ctx.key}-lost")
    yield Refusal(ctx.post(body=OTHER), 422, "key-reused", True)
    yield Refusal(ctx.post(path="/v1/../../admin"), 400, "invalid-query", True)
    yield Refusal(ctx.post(upstream="conformance-nowhere"), 404, "unknown-upstream", True)
    yield Refusal(ctx.ask("TRACE", f"/main{CHAT}"), 405, "method-not-allowed", True)
    yield on_stream(404, "stream-not-found", "/conformance-no-such-stream")
    yield on_stream(404, "not-found", f"/{whole.stream}/nothing")
    yield on_stream(405, "method-not-allowed", f"/{whole.stream}", "PUT")
    yield on_stream(400, "offset-malformed", f"/{whole.stream}?offset=abc")
    yield on_stream(400, "invalid-query", f"/{whole.stream}?live=later")
    yield on_stream(406, "no-events", f"/{plain.stream}?live=events")
    yield on_stream(410, "stream-gone", f"/{gone.stream}")
    yield on_stream(416, "offset-beyond-tail", f"/{whole.stream}?offset=999999")


@check("RS-ERR-01")
def problems(ctx: Context) -> None:
    """Each refusal that requests lead to is `application/problem+json` and has the four members."""
    for answer, *_ in refusals(ctx):
        answer.has_header("content-type", "application/problem+json")
        problem = answer.json()
        told = [problem.get(name) for name in ("type", "title", "detail")]
        answer.expect(all(isinstance(text, str) and text for text in told), "type, title and detail as text", problem)
        answer.expect(problem.get("status") == answer.status, f"status {answer.status} in the body", problem)


@check("RS-ERR-02")
def codes(ctx: Context) -> None:
    """Each refusal that requests lead to has its code as `type`, and the status that goes with it."""
    for refusal in refusals(ctx):
        refusal.answer.is_problem(refusal.status, refusal.code)


@check("RS-ERR-03")
def for_sdks(ctx: Context) -> None:
    """Each refusal on the gateway has `error` with message, type and code."""
    for refusal in refusals(ctx):
        if refusal.gateway:
            error = refusal.answer.json().get("error")
            met = isinstance(error, dict) and all(error.get(name) for name in ("message", "type", "code"))
            refusal.answer.expect(met, "error with message, type and code", error)


@check("RS-ERR-04", needs=("receive_s",))
def useless_retries(ctx: Context) -> None:
    """Refusals that a retry cannot help have `x-should-retry: false`, and the one of a slow request has it not."""
    who = f"authorization: {ctx.caller['authorization']}"
    begun = [f"POST {ctx.root}/main{CHAT} HTTP/1.1", f"host: {ctx.authority}", who, "content-length: 99", "", ""]
    slow = ctx.ask("POST", f"/main{CHAT}", wire="\r\n".join(begun).encode())
    for answer, *_ in refusals(ctx):
        answer.has_header("x-should-retry", "false")
    slow.lacks_header("x-should-retry").is_problem(408, "request-timeout")


@check("RS-ERR-05")
def how_it_ended(ctx: Context) -> None:
    """Refusals about a sealed stream, gone, read beyond its tail or asked for otherwise, tell its end."""
    whole = ctx.post(Script(tokens=3, fault="rst", at_event=2)).end()
    sealed = ctx.sealed(whole.stream)
    expected = (whole.stream, "truncated", sealed.value("stream-next-offset"))
    beyond = ctx.read(whole.stream, "offset=999999").has_status(416)
    other = ctx.post(body=OTHER).has_status(422)
    ctx.ask("DELETE", f"/streams/{whole.stream}").has_status(204).end()
    for answer in (beyond, other, ctx.read(whole.stream).has_status(410), ctx.post().has_status(410)):
        told = tuple(answer.json().get(name) for name in ("stream_id", "outcome", "next_offset"))
        answer.expect(told == expected, str(expected), told)


@check("RS-ERR-06")
def not_stored(ctx: Context) -> None:
    """Each refusal that requests lead to has `Cache-Control: no-store`."""
    for answer, *_ in refusals(ctx):
        said = answer.value("cache-control")
        answer.expect("no-store" in said, "no-store", said)


@check("RS-ERR-07")
def order(ctx: Context) -> None:
    """Where several refusals fit, a foreign stream is 404 first, then a gone one 410, then the offset counts."""
    plain = ctx.post(Script(body=b"{}", headers=PLAIN)).ends_framed()
    asked = "live=events&offset=abc"
    ctx.read(plain.stream, asked).is_problem(400, "offset-malformed")
    ctx.read(plain.stream, asked, headers=ctx.stranger).is_problem(404, "stream-not-found")
    ctx.ask("DELETE", f"/streams/{plain.stream}").has_status(204).end()
    for query in (asked, "live=later", "offset=999999"):
        ctx.read(plain.stream, query).is_problem(410, "stream-gone")
        ctx.read(plain.stream, query, headers=ctx.stranger).is_problem(404, "stream-not-found")


@check("RS-ERR-08")
def never_409(ctx: Context) -> None:
    """No refusal that requests lead to is 409, also not of a key whose call is going on; an upstream's own 409 is."""
    for answer, *_ in refusals(ctx):
        answer.expect(answer.status != 409, "another status than 409", answer.status)
    live = ctx.post(Script(tokens=5, hold_at=2), key=f"{ctx.key}-live").until_events(2)
    ctx.post(key=f"{ctx.key}-live", body=OTHER).has_status(422).end()
    live.leave()
    ctx.post(Script(status=409), key=None).has_status(409).end()


@check("RS-ERR-09", needs=("first_byte_s", "max_stream_bytes"))
def outcomes(ctx: Context) -> None:
    """A stream that ended without a status to give is 502, 504 or 410 by its outcome, and one that is too large 507."""
    silence = Script(fault="stall", before_head=True)
    waits = ctx.post(silence)
    ctx.upstream.wait_for(lambda calls: bool(calls) and calls[0].held, "a call that is held before its head")
    (stopped,) = ctx.get("/streams").json()["streams"]
    ctx.ask("POST", f"/streams/{stopped['id']}/cancel").has_status(202).end()
    silent = ctx.post(silence, key=f"{ctx.key}-silent")
    waits.is_problem(410, "cancelled")
    ctx.post(Script(fault="rst", before_head=True), key=f"{ctx.key}-lost").is_problem(502, "truncated")
    large = Script(body=b" " * (ctx.limit_bytes("max_stream_bytes") + 1), headers=PLAIN)
    ctx.sealed(ctx.post(large, key=f"{ctx.key}-large").ends_cut().stream)
    ctx.post(key=f"{ctx.key}-large").is_problem(507, "overflow")
    silent.is_problem(504, "stalled")


@check("RS-ERR-10")
def no_such_path(ctx: Context) -> None:
    """Below `/streams` other paths are 404 `not-found` and other methods 405 `method-not-allowed`."""
    whole = ctx.post(Script(tokens=3)).ends_framed()
    for path in ("/nothing", "/info/more", "/cancel/now"):
        ctx.get(f"/streams/{whole.stream}{path}").is_problem(404, "not-found")
    for method, path in (("PUT", ""), ("PATCH", ""), ("POST", ""), ("POST", "/info"), ("GET", "/cancel")):
        ctx.ask(method, f"/streams/{whole.stream}{path}").is_problem(405, "method-not-allowed")
    ctx.ask("POST", "/streams").is_problem(405, "method-not-allowed")
    ctx.ask("OPTIONS", f"/streams/{whole.stream}").has_status(204).end()


@check("RS-ERR-11")
def never_given(ctx: Context) -> None:
    """An id that was never given is 404 `stream-not-found` by every method and on every path."""
    for stream in ("conformance-no-such-stream", "A" * 24, "%00", "%2e%2e"):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/info"), ("POST", "/cancel"), ("GET", "?live=tail")):
            ctx.ask(method, f"/streams/{stream}{path}").is_problem(404, "stream-not-found")
        ctx.head(stream).has_status(404)


@check("RS-ERR-12")
def what_else_there_is(ctx: Context) -> None:
    """A 405 lists the methods in `Allow`; a 401 to who is nobody has a challenge."""
    whole = ctx.post(Script(tokens=3)).ends_framed()
    refused = ctx.ask("PUT", f"/streams/{whole.stream}").has_status(405)
    allowed = {method.strip() for method in refused.value("allow").split(",")}
    refused.expect(allowed >= {"GET", "HEAD", "DELETE"}, "GET, HEAD and DELETE in Allow", allowed)
    nobody = ctx.get("/streams", headers={"authorization": None})
    if nobody.has_status(200, 401, 403).status == 401:
        nobody.value("www-authenticate")
