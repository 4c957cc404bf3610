"""AUTH: who may do what."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping

from resumestream.testing.provider import Script

from ..answer import Answer
from ..context import Context
from ..levels import SPARE_CREDENTIAL
from ..paths import CHAT, request_body
from ..registry import check, exempt

FROM_A_PAGE = {"origin": "https://page.example", "sec-fetch-site": "cross-site"}
NOBODY: Mapping[str, str | None] = {**FROM_A_PAGE, "authorization": None}
"""A request that shows no credential and cannot be one of a program on the server's machine."""

EVERY_WAY = (
    *(("GET", ""), ("HEAD", ""), ("GET", "?offset=abc"), ("GET", "?live=tail"), ("GET", "?live=events")),
    *(("GET", "/info"), ("POST", "/cancel"), ("DELETE", ""), ("DELETE", "?forget=true")),
)
"""Methods and what follows the id: all that can be asked of one stream."""


def in_every_state(ctx: Context) -> Iterator[Answer]:
    """A live stream, a sealed one and one that is gone."""
    yield ctx.post(Script(tokens=5, hold_at=2), key=f"{ctx.key}-live").until_events(2)
    sealed, gone = (ctx.post(Script(tokens=3), key=f"{ctx.key}-{name}").ends_framed() for name in ("sealed", "gone"))
    ctx.sealed(sealed.stream)
    yield sealed
    ctx.ask("DELETE", f"/streams/{gone.stream}").has_status(204).end()
    yield gone


def refused(answer: Answer) -> None:
    """It is 401 or 403."""
    answer.has_status(401, 403).end()


def wire(ctx: Context, path: str, *fields: str) -> bytes:
    """A POST with these header lines and no other."""
    body = request_body(CHAT)
    lines = [f"POST {ctx.root}{path} HTTP/1.1", *fields, f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def jwt() -> str:
    """A token whose first part says how it is signed."""
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (json.dumps({"alg": "HS256"}).encode(), b'{"sub":"me"}', b"\1" * 32)
    )


@check("RS-AUTH-01")
def foreign_is_unknown(ctx: Context) -> None:
    """Every request of another principal about a live, sealed or gone stream is answered as for an id never given."""
    for mine in in_every_state(ctx):
        other = "A" * len(mine.stream)
        for method, rest in EVERY_WAY:
            foreign, unknown = (
                ctx.ask(method, f"/streams/{stream}{rest}", headers=ctx.stranger).has_status(404).end()
                for stream in (mine.stream, other)
            )
            seen, expected = (
                (sorted(field for field in answer.headers if field[0] != "date"), answer.body.replace(stream, b""))
                for answer, stream in ((foreign, mine.stream.encode()), (unknown, other.encode()))
            )
            foreign.expect(seen == expected, f"what an unknown stream gets, {expected}", seen)
    ctx.head(ctx.post(key=f"{ctx.key}-sealed").stream).has_status(200)


@check("RS-AUTH-02")
def nobody(ctx: Context) -> None:
    """Who is no principal gets 404 for one stream, and 401 or 403 for calls and lists."""
    for mine in in_every_state(ctx):
        for method, rest in EVERY_WAY:
            ctx.ask(method, f"/streams/{mine.stream}{rest}", headers=NOBODY).has_status(404).end()
    refused(ctx.get("/streams", headers=NOBODY))
    refused(ctx.ask("DELETE", "/streams?label=conformance", headers=NOBODY))
    refused(ctx.post(headers=NOBODY, key=None))
    refused(ctx.ask("GET", "/main/v1/models", headers=NOBODY))
    ctx.upstream.count_is(3)


@check("RS-AUTH-03")
def before_all_else(ctx: Context) -> None:
    """A malformed request for a foreign stream is 404, and one of nobody, malformed or for no upstream, 401 or 403."""
    mine = ctx.post(Script(tokens=3)).ends_framed()
    for query in ("offset=abc", "live=later", "from_event=-1", "offset=999999", "offset=0&from_event=0"):
        ctx.read(mine.stream, query, headers=ctx.stranger).is_problem(404, "stream-not-found")
    refused(ctx.post(upstream="conformance-nowhere", headers=NOBODY))
    refused(ctx.post(key="no key", headers=NOBODY))
    refused(ctx.get("/streams?state=none", headers=NOBODY))
    ctx.upstream.count_is(1)


@check("RS-AUTH-04")
def one_credential(ctx: Context) -> None:
    """One credential is one principal in each of the headers that have it, and another one is not."""
    secret = ctx.caller["authorization"].removeprefix("Bearer ")
    first = ctx.post(Script(tokens=3)).ends_framed()
    for name, value in (
        *(("authorization", secret), ("authorization", f"bearer {secret}"), ("x-api-key", secret)),
        *(("x-goog-api-key", secret), ("api-key", secret)),
    ):
        ctx.post(headers={"authorization": None, name: value}).has_header("stream-id", first.stream).end()
    other = ctx.post(headers={"authorization": None, "x-api-key": f"{secret}x"}).has_status(200).end()
    other.expect(other.stream != first.stream, "a stream of its own", other.stream)
    ctx.upstream.count_is(2)


@check("RS-AUTH-05")
def unstable(ctx: Context) -> None:
    """A JWT or an AWS signature is refused beside a key, and taken without one."""
    aws = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250101/us-east-1/bedrock/aws4_request, Signature=fe5f80"
    for credential in (f"Bearer {jwt()}", aws):
        ctx.post(headers={"authorization": credential}).is_problem(400, "principal-unstable")
        ctx.upstream.count_is(0)
    ctx.post(key=None, headers={"authorization": f"Bearer {jwt()}"}).has_status(200).end()


@check("RS-AUTH-06")
def not_from_here(ctx: Context) -> None:
    """Without a credential a request of a web page, through a proxy or for another host is refused, uncalled."""
    for fields in (
        {"origin": "https://page.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"x-forwarded-for": "203.0.113.9"},
        {"forwarded": "for=203.0.113.9"},
        {"via": "1.1 proxy.example"},
    ):
        refused(ctx.post(headers={"authorization": None, **fields}))
    for host in ("llm.example", "localhost.llm.example", "203.0.113.9"):
        refused(ctx.ask("POST", f"/main{CHAT}", wire=wire(ctx, f"/main{CHAT}", f"host: {host}")))
    ctx.upstream.count_is(0)


@check("RS-AUTH-07", level="failover")
def the_operators_money(ctx: Context) -> None:
    """An upstream with a credential of the operator's refuses such requests also where they show one of their own."""
    for fields in (FROM_A_PAGE, {"x-forwarded-for": "203.0.113.9"}):
        refused(ctx.post(upstream="spare", headers=fields))
    who = f"authorization: {ctx.caller['authorization']}"
    refused(ctx.ask("POST", f"/spare{CHAT}", wire=wire(ctx, f"/spare{CHAT}", "host: llm.example", who)))
    ctx.upstream.count_is(0)


@check("RS-AUTH-08", level="failover")
def the_callers_secrets(ctx: Context) -> None:
    """An upstream with a credential of the operator's gets that one, and none that the caller has shown."""
    secret = ctx.caller["authorization"].removeprefix("Bearer ")
    names = ("x-api-key", "x-goog-api-key", "api-key", "x-auth-token", "x-client-secret")
    path = f"{CHAT}?a=1&key={secret}&api_key={secret}&access_token={secret}&b=2"
    ctx.post(upstream="spare", path=path, headers=dict.fromkeys(names, secret)).has_status(200).end()
    (call,) = ctx.upstream.count_is(1)
    ctx.expect(call.path == f"/spare{CHAT}?a=1&b=2", f"/spare{CHAT}?a=1&b=2", call.path)
    found = [name for name, value in call.headers if secret in value]
    ctx.expect(not found, "no credential of the caller's at the upstream", found)
    shown = dict(call.headers).get("authorization")
    ctx.expect(shown == SPARE_CREDENTIAL, f"authorization: {SPARE_CREDENTIAL}", shown)


@check("RS-AUTH-09")
def nowhere_else(ctx: Context) -> None:
    """A caller's credential is in the one call that it asked for, also where that is redirected or fails."""
    for script in (Script(tokens=3), Script(status=307, headers={"location": "/spare"}), Script(status=503)):
        ctx.post(script, key=None).end()
    secret = ctx.caller["authorization"]
    shown = [call.path for call in ctx.upstream.everything() if secret in dict(call.headers).values()]
    ctx.expect(shown == [CHAT] * 3, f"the credential in three calls of {CHAT}", shown)


@check("RS-AUTH-10")
def put_into_a_url(ctx: Context) -> None:
    """A page of another site cannot show a credential by a query."""
    path = f"{CHAT}?key={ctx.caller['authorization'].removeprefix('Bearer ')}"
    for fields in (FROM_A_PAGE, {"origin": "https://page.example"}, {"sec-fetch-site": "cross-site"}):
        refused(ctx.post(path=path, headers={"authorization": None, **fields}))
    ctx.upstream.count_is(0)
    ctx.post(path=path, headers=FROM_A_PAGE).has_status(200).end()


@check("RS-AUTH-11")
def wrong_tickets(ctx: Context) -> None:
    """A ticket that is none is 404 by every method, also beside the credential of the stream's principal."""
    live = ctx.post(Script(tokens=5, hold_at=2)).until_events(2)
    for method, rest in EVERY_WAY:
        ticket = f"{rest}&ticket=v1.none.none" if "?" in rest else f"{rest}?ticket=v1.none.none"
        ctx.ask(method, f"/streams/{live.stream}{ticket}").has_status(404).end()
    ctx.read(live.stream, "ticket=").has_status(404).end()
    ctx.upstream.release()
    live.ends_framed()


exempt("RS-AUTH-12", "How a ticket is made is not part of the document, so a run has none that is good for anything.")
