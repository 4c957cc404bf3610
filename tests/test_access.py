"""Who may: every drive-by the loopback rule must stop, and every way a principal comes about."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection

from resumestream.errors import AuthorizeRequired, ConfigError, PrincipalUnstable, ResumeStreamError, Unauthorized
from resumestream.http.access import LOCAL, Access, Action, anyone, require_local
from resumestream.identity import principal_of
from resumestream.model import Principal

SECRET = b"s" * 32
BEARER = ("authorization", "Bearer sk-1")
JWT = ("authorization", "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln")
BY_BEARER = Principal(principal_of("sk-1", SECRET))
CREATE: Action = "create"

Peer = tuple[str, int] | None


def connection(
    *headers: tuple[str, str],
    host: str | None = "127.0.0.1:8787",
    peer: Peer = ("127.0.0.1", 5000),
    query: str = "",
    version: str = "1.1",
) -> HTTPConnection:
    lines = [*([("host", host)] if host is not None else []), *headers]
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in lines]
    return HTTPConnection(
        {"type": "http", "http_version": version, "client": peer, "headers": raw, "query_string": query.encode()}
    )


REMOTE = ("192.0.2.7", 5000)

ADMITTED = {
    "IPv4": connection(),
    "IPv4, other loopback": connection(peer=("127.8.9.1", 1), host="127.8.9.1"),
    "IPv6": connection(peer=("::1", 1), host="[::1]:8787"),
    "IPv6, bare host": connection(peer=("::1", 1), host="[::1]"),
    "IPv4-mapped": connection(peer=("::ffff:127.0.0.1", 1)),
    "localhost": connection(host="localhost"),
    "LOCALHOST with port": connection(host="LocalHost:8787"),
    "trailing dot": connection(host="localhost.:8787"),
    "same-origin page": connection(("sec-fetch-site", "same-origin")),
    "typed into the address bar": connection(("sec-fetch-site", "none")),
    "an SDK": connection(("user-agent", "OpenAI/Python 3.52.0"), ("x-stainless-lang", "python")),
}
REFUSED = {
    "remote peer": connection(peer=REMOTE),
    "remote IPv6 peer": connection(peer=("2001:db8::1", 1)),
    "mapped remote peer": connection(peer=("::ffff:192.0.2.7", 1)),
    "private neighbour": connection(peer=("10.0.0.2", 1)),
    "unspecified peer": connection(peer=("0.0.0.0", 1)),
    "Unix socket": connection(peer=None, host="localhost"),
    "peer without an address": connection(peer=("", 0)),
    "peer by name": connection(peer=("testclient", 50000)),
    "DNS rebinding": connection(host="evil.example:8787"),
    "loopback as a prefix": connection(host="127.0.0.1.evil.example"),
    "localhost as a prefix": connection(host="localhost.evil.example"),
    "localhost as a suffix": connection(host="evil-localhost"),
    "loopback as user info": connection(host="localhost@evil.example"),
    "short loopback": connection(host="127.1"),
    "decimal loopback": connection(host="2130706433"),
    "all interfaces": connection(host="0.0.0.0:8787"),
    "unbracketed IPv6": connection(host="::1"),
    "junk port": connection(host="localhost:80:80"),
    "two dots": connection(host="localhost.."),
    "empty host": connection(host=""),
    "no host": connection(host=None),
    "two hosts": connection(("host", "localhost")),
    "foreign page": connection(("origin", "https://evil.example")),
    "opaque page": connection(("origin", "null")),
    "own page": connection(("origin", "http://127.0.0.1:8787")),
    "image on a foreign page": connection(("sec-fetch-site", "cross-site")),
    "page on another local port": connection(("sec-fetch-site", "same-site")),
    "odd fetch site": connection(("sec-fetch-site", "")),
    "two fetch sites": connection(("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")),
    "Forwarded": connection(("forwarded", "for=192.0.2.7")),
    "X-Forwarded-For": connection(("X-Forwarded-For", "127.0.0.1")),
    "X-Forwarded-Proto": connection(("x-forwarded-proto", "https")),
    "X-Real-IP": connection(("x-real-ip", "192.0.2.7")),
    "Via": connection(("via", "1.1 proxy")),
    "Cloudflare tunnel": connection(("cf-connecting-ip", "192.0.2.7")),
    "True-Client-IP": connection(("true-client-ip", "192.0.2.7")),
    "nginx": connection(("x-original-uri", "/")),
    "Envoy": connection(("x-envoy-external-address", "192.0.2.7")),
    "Fly": connection(("fly-client-ip", "192.0.2.7")),
    "Fastly": connection(("fastly-client-ip", "192.0.2.7")),
    "Azure": connection(("x-azure-clientip", "192.0.2.7")),
    "Tailscale": connection(("tailscale-user-login", "ann@example")),
    "CDN-Loop": connection(("cdn-loop", "cloudflare")),
    "Client-IP": connection(("client-ip", "192.0.2.7")),
    "WebLogic": connection(("wl-proxy-client-ip", "192.0.2.7")),
    "Varnish": connection(("x-varnish", "1")),
    "CloudFront": connection(("x-amz-cf-id", "a")),
    "Proxy-Connection": connection(("proxy-connection", "keep-alive")),
    "nginx as it comes": connection(version="1.0"),
}


@pytest.mark.parametrize("conn", ADMITTED.values(), ids=ADMITTED)
def test_programs_on_this_machine_pass(conn: HTTPConnection) -> None:
    """A loopback peer that names loopback, through nothing."""
    require_local(conn)


@pytest.mark.parametrize("conn", REFUSED.values(), ids=REFUSED)
def test_drive_bys_do_not(conn: HTTPConnection) -> None:
    """One sign of a page, a proxy or a stranger is enough; the refusal says what to pass instead."""
    with pytest.raises(AuthorizeRequired, match="authorize="):
        require_local(conn)


async def told(access: Access, conn: HTTPConnection, *, server_side: bool, keyed: bool) -> Principal | str:
    """The principal, or the code of the refusal."""
    try:
        return await access.principal(conn, CREATE, server_side=server_side, keyed=keyed)
    except ResumeStreamError as error:
        return error.code


async def hook(conn: HTTPConnection, action: Action) -> Principal | None:
    return Principal("hooked") if conn.headers.get("x-user") else None


HOOKED = ("x-user", "u")
CROSS_SITE, FOREIGN = ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")
OPEN, HOOK = anyone, hook


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("authorize", "conn", "server_side", "keyed", "expected"),
    [
        # no hook: the caller's own credential, from anywhere
        (None, connection(BEARER, peer=REMOTE, host="api.example"), False, True, BY_BEARER),
        (None, connection(peer=REMOTE, query="key=sk-1"), False, True, BY_BEARER),
        # no hook, no credential: this machine only
        (None, connection(), False, True, LOCAL),
        (None, connection(peer=REMOTE), False, False, "authorize-required"),
        # no hook, a credential of ours would be spent: this machine only, whatever the caller sends
        (None, connection(), True, False, LOCAL),
        (None, connection(BEARER), True, True, BY_BEARER),
        (None, connection(BEARER, peer=REMOTE), True, False, "authorize-required"),
        (None, connection(BEARER, ("origin", "null")), True, False, "authorize-required"),
        # a page can write a credential into a URL, and no preflight asks: that shows nothing
        (None, connection(CROSS_SITE, query="key=sk-1"), False, True, "authorize-required"),
        (None, connection(FOREIGN, query="key=sk-1"), False, True, "authorize-required"),
        (None, connection(("sec-fetch-site", "same-origin"), FOREIGN, query="key=sk-1"), False, True, BY_BEARER),
        (None, connection(BEARER, CROSS_SITE, peer=REMOTE), False, True, BY_BEARER),
        (HOOK, connection(HOOKED, CROSS_SITE, query="key=sk-1"), False, True, Principal("hooked")),
        # a credential of the session cannot carry a key
        (None, connection(JWT), False, True, "principal-unstable"),
        (None, connection(JWT), True, True, "principal-unstable"),
        (OPEN, connection(JWT), False, True, "principal-unstable"),
        (HOOK, connection(JWT, HOOKED), False, True, Principal("hooked")),
        # the open choice
        (OPEN, connection(peer=REMOTE), True, True, LOCAL),
        (OPEN, connection(BEARER, peer=REMOTE), True, True, BY_BEARER),
        # the hook decides alone
        (HOOK, connection(HOOKED, peer=REMOTE), True, True, Principal("hooked")),
        (HOOK, connection(), True, True, "unauthorized"),
        (HOOK, connection(BEARER), False, False, "unauthorized"),
    ],
)
async def test_whom_a_request_acts_for(
    authorize: object, conn: HTTPConnection, server_side: bool, keyed: bool, expected: Principal | str
) -> None:
    """The hook first, then the credential, then the machine."""
    access = Access(authorize, [SECRET, b"o" * 32])  # type: ignore[arg-type]
    assert await told(access, conn, server_side=server_side, keyed=keyed) == expected


@pytest.mark.anyio
@pytest.mark.parametrize("action", ["read", "list", "stop", "delete", "operate"])
async def test_a_key_in_the_query_is_a_credential_for_calls_only(action: Action) -> None:
    """`GET /streams?key=` names an idempotency key: it must neither admit nor make another principal."""
    access = Access(None, [SECRET])
    with_bearer, without = connection(BEARER, query="key=k-1"), connection(query="key=k-1")
    assert await access.principal(with_bearer, action, server_side=False, keyed=False) == BY_BEARER
    assert await access.principal(without, action, server_side=False, keyed=False) == LOCAL


@pytest.mark.anyio
async def test_a_session_credential_without_a_key_is_a_principal() -> None:
    """Nobody has to find that stream again by who they are."""
    principal = await Access(None, [SECRET]).principal(connection(JWT), CREATE, server_side=False, keyed=False)
    assert principal.id not in (LOCAL.id, BY_BEARER.id)


@pytest.mark.anyio
async def test_the_hook_gets_the_connection_and_the_action() -> None:
    """Everything it could decide by."""
    seen: list[tuple[HTTPConnection, Action]] = []

    async def watching(conn: HTTPConnection, action: Action) -> Principal:
        seen.append((conn, action))
        return LOCAL

    conn = connection()
    await Access(watching, [SECRET]).principal(conn, "stop", server_side=False, keyed=False)
    assert seen == [(conn, "stop")]


@pytest.mark.anyio
async def test_a_hook_that_returns_something_else_is_told() -> None:
    """`return True` must not admit, nor crash somewhere later."""

    async def sloppy(conn: HTTPConnection, action: Action) -> Principal:
        return True  # type: ignore[return-value]

    with pytest.raises(ConfigError, match="bool"):
        await Access(sloppy, [SECRET]).principal(connection(), CREATE, server_side=False, keyed=False)


@pytest.mark.anyio
async def test_refusals_hold_no_credential() -> None:
    """Neither the hook's nor the rule's."""
    for access, conn in ((Access(hook, [SECRET]), connection(BEARER)), (Access(None, [SECRET]), connection(JWT))):
        with pytest.raises((Unauthorized, PrincipalUnstable)) as refusal:
            await access.principal(conn, CREATE, server_side=False, keyed=True)
        assert "sk-1" not in refusal.value.message
        assert "eyJ" not in refusal.value.message
