"""PRIV: what is not kept, not shown and not passed on."""

from __future__ import annotations

import json
import secrets

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..paths import CHAT, request_body
from ..registry import check, exempt


def everything_about(ctx: Context, stream: str) -> list[Answer]:
    """What the server tells of a stream and of itself, other than the payload."""
    paths = (f"/streams/{stream}/info", "/streams", "/usage", "/metrics", "/readyz", f"/streams/{stream}?offset=abc")
    return [ctx.head(stream).end(), *(ctx.get(path).end() for path in paths)]


def is_untold(secret: str, answers: list[Answer]) -> None:
    """It is in no header and no body of these answers."""
    for answer in answers:
        answer.expect(secret not in str(answer.headers), "headers without what is secret", answer.headers)
        answer.expect(secret.encode() not in answer.body, "a body without what is secret", answer.body)


@check("RS-PRIV-01")
def requests(ctx: Context) -> None:
    """What was asked is in no record, list, metric or error text, also where the request failed or was refused."""
    secret = f"conformance {secrets.token_hex(8)}"
    body = request_body(CHAT, messages=[{"role": "user", "content": secret}])
    for script in (Script(tokens=3), Script(status=400), Script(fault="fin", before_head=True)):
        ctx.post(script, key=None, body=body).end()
    kept = ctx.sealed(ctx.post(Script(tokens=3), body=body).end().stream)
    is_untold(secret, [*everything_about(ctx, kept.stream), ctx.post().end(), ctx.post(key="no key", body=body).end()])


@check("RS-PRIV-02")
def credentials(ctx: Context) -> None:
    """The caller's credential is in no record, list, metric or error text."""
    secret = ctx.caller["authorization"].removeprefix("Bearer ")
    for script in (Script(status=401), Script(fault="fin", before_head=True)):
        ctx.post(script, key=None).end()
    kept = ctx.sealed(ctx.post(Script(tokens=3)).end().stream)
    refused = (ctx.post(key=secret, headers={"stream-offset": "0"}), ctx.post(path=f"/v1/../x?key={secret}"))
    is_untold(secret, [*everything_about(ctx, kept.stream), *(answer.end() for answer in refused)])


@check("RS-PRIV-03")
def echoes(ctx: Context) -> None:
    """Where the upstream's refusal repeats the caller's credential, stars stand in its place, in headers and body."""
    secret = ctx.caller["authorization"].removeprefix("Bearer ")
    said = json.dumps({"error": {"message": f"no such key: {secret}, sorry", "type": "auth"}})
    script = Script(status=401, body=said.encode(), headers={"x-said": f"key {secret}"}, chunking=(7,))
    starred, stars = said.replace(secret, "*" * len(secret)).encode(), "*" * len(secret)
    answer = ctx.post(script).has_status(401).has_header("x-said", f"key {stars}").has_body(starred)
    ctx.sealed(answer.stream)
    ctx.read(answer.stream).has_body(starred)


exempt("RS-PRIV-04", "No answer shows in which form a server stores keys, scopes and principals.")


@check("RS-PRIV-05")
def problems(ctx: Context) -> None:
    """No refusal of a malformed or mismatched request repeats its key, scope, body or credential."""
    secret = secrets.token_hex(12)
    body, who = request_body(CHAT, user=secret), {"authorization": f"Bearer {secret}"}
    ctx.post(Script(tokens=3), key=secret, body=body, headers=who).ends_framed()
    is_untold(
        secret,
        [
            ctx.post(key=secret, headers=who).has_status(422).end(),
            ctx.post(key=f"{secret}!", headers=who, body=body).has_status(400).end(),
            ctx.post(key=secret, headers={**who, "stream-scope": secret}, body=body).has_status(400).end(),
            ctx.post(key=None, headers={**who, "stream-scope": f"{secret} x"}, body=body).has_status(400).end(),
            ctx.post(key=secret, headers={**who, "x-idempotency-key": f"{secret}2"}, body=body).has_status(400).end(),
            ctx.post(key=f"{secret}3", headers={**who, "stream-offset": "0"}, body=body).has_status(412).end(),
            ctx.post(key=f"{secret}3", headers={**who, "stream-retry": "none"}, body=body).has_status(422).end(),
        ],
    )


@check("RS-PRIV-06")
def no_permission_for_pages(ctx: Context) -> None:
    """No answer has an `Access-Control-*` header, also where the upstream's has, or a page asks."""
    page = {"origin": "https://page.example", "access-control-request-method": "POST"}
    allowed = {"access-control-allow-origin": "*", "access-control-expose-headers": "*"}
    whole = ctx.post(Script(tokens=3, headers=allowed), headers=page).until_events(3).ends_framed()
    for answer in (
        whole,
        ctx.post(Script(status=400, headers=allowed), key=None, headers=page),
        ctx.ask("OPTIONS", f"/main{CHAT}", headers=page),
        ctx.ask("OPTIONS", f"/streams/{whole.stream}", headers=page),
        *(ctx.read(whole.stream, query, headers=page) for query in ("", "live=tail", "live=events", "offset=abc")),
        ctx.get("/streams", headers=page),
    ):
        found = [name for name, _ in answer.headers if name.startswith("access-control-")]
        answer.expect(not found, "no Access-Control-* header", found)


@check("RS-PRIV-07")
def labels(ctx: Context) -> None:
    """A label that looks like a credential is refused, unrepeated, and nothing is called."""
    for label in (
        "sk-proj-Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9",
        "ghp_Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv1",
        "AKIAIOSFODNN7EXAMPLE",
    ):
        answer = ctx.post(headers={"stream-label": label})
        answer.is_problem(400, "invalid-header")
        is_untold(label, [answer])
    ctx.upstream.count_is(0)


@check("RS-PRIV-08")
def not_sniffed(ctx: Context) -> None:
    """Every answer that reads a stream has `X-Content-Type-Options: nosniff`."""
    whole = ctx.post(Script(body=b"<html>", headers={"content-type": "text/html"})).ends_framed()
    ctx.sealed(whole.stream)
    events = ctx.post(Script(tokens=3), key=None).ends_framed()
    reads = [ctx.read(events.stream, query) for query in ("", "live=tail", "live=events")]
    for answer in (whole, ctx.post(), ctx.read(whole.stream), ctx.read(whole.stream, "live=tail"), events, *reads):
        answer.has_header("x-content-type-options", "nosniff")


@check("RS-PRIV-09")
def of_the_gone(ctx: Context) -> None:
    """The record of a deleted stream has the code of its detail, and nothing that the provider said."""
    said = f"conformance-{secrets.token_hex(8)}"
    script = Script(body=b'data: {"error":{"message":"%s","code":"overloaded"}}\n\n' % said.encode())
    failed = ctx.post(script).end()
    ctx.sealed(failed.stream).has_header("stream-outcome", "provider_error")
    code = ctx.info(failed.stream)["detail"]["code"]
    ctx.ask("DELETE", f"/streams/{failed.stream}").has_status(204).end()
    record = ctx.get(f"/streams/{failed.stream}/info").has_status(410)
    detail = record.json()["detail"]
    record.expect(detail.get("code") == code and not detail.get("message"), f"the code {code}, no message", detail)
    is_untold(said, [record])
