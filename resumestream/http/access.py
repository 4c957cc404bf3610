"""Who may: the host's hook, else the caller's own credential, else whoever sits at this machine.

The loopback rule keeps a server-side credential from being spent by a web page, a tunnel or a neighbour: it wants a
request that can only have been made on this machine, by a program.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Literal

from starlette.requests import HTTPConnection

from ..errors import AuthorizeRequired, ConfigError, PrincipalUnstable, Unauthorized
from ..identity import credential_of, is_unstable, principal_of
from ..model import Principal
from ..upstream import is_forwarding

Action = Literal["create", "read", "list", "stop", "delete", "operate"]
Hook = Callable[[HTTPConnection, Action], Awaitable[Principal | None]]

LOCAL = Principal("local")

_BY_CREDENTIAL = "resumestream.principal"
_HOST = re.compile(r"(?P<name>\[[^\]]*\]|[^:\[\]]+?)\.?(:[0-9]{1,5})?")


async def anyone(conn: HTTPConnection, action: Action) -> Principal:
    """The explicit open choice for `authorize=`: admits every request, as the principal of its own credential, or as
    `local` without one. With a server-side credential, everyone who can connect spends it."""
    principal: Principal = conn.scope[_BY_CREDENTIAL]
    return principal


@dataclass(frozen=True, slots=True)
class Access:
    """Decides whom a request acts for. `secrets` are the store's."""

    authorize: Hook | None
    secrets: Sequence[bytes]

    async def principal(
        self, conn: HTTPConnection, action: Action, *, server_side: bool, keyed: bool, own: bool = False
    ) -> Principal:
        """Whom `conn` acts for. `server_side`: it uses a credential of ours, or what was bought with one; `keyed`: it
        must be found again; `own`: it came to an endpoint of the host's own.

        Raises Unauthorized (the hook says no), AuthorizeRequired (no hook, and not certainly local),
        PrincipalUnstable (keyed, and its credential will not be the same next time).
        """
        # `?key=` is a credential where a provider is called; where streams are read it is an idempotency key.
        query = conn.query_params.multi_items() if action == "create" and not own else ()
        credential = credential_of(conn.headers.items(), query)
        # Any page can put one into a URL, and no preflight asks: that is no caller who shows a credential.
        unasked = _is_cross_site(conn) and credential_of(conn.headers.items(), ()) is None
        by_credential = Principal(principal_of(credential, self.secrets[0])) if credential else LOCAL
        if self.authorize is not None:
            conn.scope[_BY_CREDENTIAL] = by_credential
            answer = self.authorize(conn, action)
            if not inspect.isawaitable(answer):
                raise ConfigError("authorize is not async; it must be an async function of (conn, action)")
            admitted = await answer
        else:
            if server_side or credential is None or unasked:
                require_local(conn)
            admitted = by_credential
        if admitted is None:
            raise Unauthorized(f"The application's authorize hook does not let this request {action}.")
        if not isinstance(admitted, Principal):
            raise ConfigError(f"authorize returned {type(admitted).__name__}; it must return a Principal or None.")
        if keyed and admitted is by_credential and credential and is_unstable(credential):
            raise PrincipalUnstable(
                "This credential (a JWT or an AWS signature) changes from session to session, so nobody could come "
                "back to the key. Use a static credential, or pass authorize= to say who the caller is."
            )
        return admitted


def require_local(conn: HTTPConnection) -> None:
    """The loopback rule. Raises AuthorizeRequired, which says what it failed on."""
    if why := _why_not_local(conn):
        raise AuthorizeRequired(
            f"Without an authorize hook this is served to programs on this machine only, and {why}. "
            "Pass authorize= (resumestream.anyone is the open choice), or send a provider credential of your own."
        )


def _why_not_local(conn: HTTPConnection) -> str | None:
    # A Unix socket names no peer. Who can reach it may be anybody: reverse proxies commonly speak to one, and call
    # themselves "localhost".
    if conn.client is None or not _is_loopback(conn.client.host):
        return "the peer is not a loopback address"
    if conn.scope.get("http_version") in ("1.0", "1"):
        return "reverse proxies ask in HTTP/1.0, without a header that tells"
    hosts = conn.headers.getlist("host")
    if len(hosts) != 1 or not _is_loopback_host(hosts[0]):
        return "Host is not a loopback name"
    if "origin" in conn.headers:
        return "the request comes from a web page (Origin)"
    if _is_cross_site(conn):
        return "the request comes from a web page (Sec-Fetch-Site)"
    if name := next(filter(is_forwarding, conn.headers), None):
        return f"the request was forwarded ({name})"
    return None


def _is_cross_site(conn: HTTPConnection) -> bool:
    """Whether a web page of another site made the request, as far as browsers tell."""
    sites = conn.headers.getlist("sec-fetch-site")
    return not {"none", "same-origin"}.issuperset(sites) if sites else "origin" in conn.headers


def _is_loopback(address: str) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return (mapped or ip).is_loopback


def _is_loopback_host(host: str) -> bool:
    match = _HOST.fullmatch(host.strip().lower())
    if match is None:
        return False
    return match["name"] == "localhost" or _is_loopback(match["name"].strip("[]"))
