"""Which headers go on, in each direction. Tables decide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..model import Headers
from ..redaction import CREDENTIAL_HEADER

RawHeaders = Sequence[tuple[bytes, bytes]]
"""As ASGI and h11 have them."""

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)

_NOT_FORWARDED = HOP_BY_HOP | {
    # made anew for the upstream
    "host",
    "content-length",
    "accept-encoding",
    "expect",
    # what a browser tells about the caller
    "cookie",
    "origin",
    "referer",
    # ours
    "idempotency-key",
    "x-idempotency-key",
}
_NOT_FORWARDED_PREFIXES = ("sec-", "proxy-", "stream-")

_FORWARDING = re.compile(
    r"forwarded|via|max-forwards|x-forwarded(-.*)?|x-real-ip|x-(remote|client|cluster-client|proxyuser)-(ip|addr)"
    r"|((http|proxy|wl-proxy)-)?client-ip|forwarded-for|x-forward-for|x-nginx-proxy|x-varnish|x-amz-cf-id"
    r"|x-sucuri-clientip|incap-client-ip|x-akamai-edgescape|proxy-(connection|authorization)"
    r"|x-original-(url|uri|host|forwarded-.*)|x-rewrite-url|true-client-ip|cdn-loop"
    r"|cf-(?!aig-).*|(fly|fastly|akamai|x-nf)-client-.*|x-azure-(clientip|socketip|fdid|ref)"
    r"|x-vercel-(id|ip-.*|forwarded-for|proxied-for)|(x-envoy|x-appengine|ngrok|tailscale)-.*"
)
"""What proxies, tunnels and content networks tell about who asked them; `cf-aig-*` is for an AI gateway behind us."""

_NOT_RECORDED = HOP_BY_HOP | {
    # they speak for the provider's origin, and would now speak for ours
    "set-cookie",
    "set-cookie2",
    "alt-svc",
    "strict-transport-security",
    "clear-site-data",
    "nel",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "timing-allow-origin",
    # they would be orders to the server in front of us
    "x-sendfile",
    "surrogate-control",
    "cdn-cache-control",
    # ours
    "idempotent-replayed",
}
_NOT_RECORDED_PREFIXES = ("access-control-", "cross-origin-", "stream-", "proxy-", "x-accel-")

_WHO_ASKS = frozenset({"openai-organization", "openai-project", "accept-encoding"})
"""Whose a call is, for one who may act for several."""

_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')


def forwarded(
    request_headers: RawHeaders, *, own: RawHeaders | None = None, last_event_id_is_ours: bool = False
) -> list[tuple[bytes, bytes]]:
    """The request headers that go upstream, less those that the connection makes (Host and the body's framing).

    `own` are the server-side headers: they replace the caller's of the same name, and whatever may be a
    credential of the caller's.
    """
    dropped = {name.lower() for name, _ in own or ()} | _listed_in_connection(request_headers)
    if last_event_id_is_ours:
        dropped.add(b"last-event-id")
    kept: list[tuple[bytes, bytes]] = []
    for raw_name, raw_value in request_headers:
        name = raw_name.lower()
        text = name.decode("latin-1")
        if name in dropped or text in _NOT_FORWARDED or text.startswith(_NOT_FORWARDED_PREFIXES) or is_forwarding(text):
            continue
        if own is not None and CREDENTIAL_HEADER.search(text):
            continue
        value = _other_preferences(raw_value) if name == b"prefer" else raw_value
        if value is not None:
            kept.append((name, value))
    # What comes back is read byte by byte for its events, and replayed to callers who accept other codings.
    return [*kept, (b"accept-encoding", b"identity"), *(own or ())]


def credentials_in(request_headers: RawHeaders) -> list[str]:
    """The values of what may be a credential, by its name."""
    texts = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request_headers)
    return [value for name, value in texts if CREDENTIAL_HEADER.search(name.lower())]


def who_asks(request_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """What of the headers that went upstream tells who asks, and nothing of what for."""
    names = ((name.decode("latin-1").lower(), (name, value)) for name, value in request_headers)
    return [header for name, header in names if CREDENTIAL_HEADER.search(name) or name in _WHO_ASKS]


def every(status: int, response_headers: RawHeaders) -> Headers:
    """All of an answer's headers, to look at and not to keep."""
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response_headers)


def is_forwarding(name: str) -> bool:
    """Whether a request with this header came through somebody else."""
    return _FORWARDING.fullmatch(name.lower()) is not None


def recorded(status: int, response_headers: RawHeaders) -> Headers:
    """What is kept of an answer's headers. Content-Type and Content-Encoding stay: the body is kept as it came."""
    dropped = {name.decode("latin-1") for name in _listed_in_connection(response_headers)} | _NOT_RECORDED
    names = {name.lower() for name, _ in response_headers}
    if b"transfer-encoding" in names:
        dropped.add("content-length")  # it is void beside a transfer coding (RFC 9112 §6.3)
    if 200 <= status < 300:
        dropped.add("location")  # ours says where the stream is
    texts = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response_headers)
    return tuple(
        (name, value) for name, value in texts if name not in dropped and not name.startswith(_NOT_RECORDED_PREFIXES)
    )


def replayable(headers: Headers) -> Headers:
    """What of it still holds later: rate limits were those of the first answer's minute."""
    return tuple((name, value) for name, value in headers if "ratelimit" not in name)


def _listed_in_connection(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    listed = (value.lower().split(b",") for name, value in headers if name.lower() == b"connection")
    return {name.strip() for names in listed for name in names}


def _other_preferences(value: bytes) -> bytes | None:
    """`Prefer` without `respond-async`, the one preference that is ours; None if that was all."""
    preferences = _PREFERENCE.findall(value.decode("latin-1"))
    others = [one for one in preferences if re.split(r"[=;]", one, maxsplit=1)[0].strip().lower() != "respond-async"]
    if len(others) == len(preferences):
        return value
    return ",".join(others).strip().encode("latin-1") or None
