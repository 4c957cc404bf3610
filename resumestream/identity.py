"""Who asks, for what: principals, key hashes, request fingerprints and tickets, all keyed with the store's secrets.

Nothing here can be turned back into a credential, a key or a body. Secrets are a list to rotate: sign with the first,
verify with all. Every hash names its purpose and prefixes each part with its length, so that no two inputs run
together into one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from .model import StreamId
from .redaction import CREDENTIAL_PARAMETERS

Pairs = Iterable[tuple[str, str]]

CREDENTIAL_HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "api-key")

MAX_CANONICAL_BYTES = 1024 * 1024
MAX_TICKET_CHARS = 2048

_BEARER = re.compile(r"bearer +", re.IGNORECASE)
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)


# --- principals -------------------------------------------------------------------------------------------------


def credential_of(headers: Pairs, query: Pairs) -> str | None:
    """The caller's own provider credential, or None. Which header carries it does not matter, nor does their order;
    where several differ it is all of them, so that a shared dummy in one cannot join two callers."""
    found = {_BEARER.sub("", value, count=1).strip() for name, value in headers if name.lower() in CREDENTIAL_HEADERS}
    found |= {value.strip() for name, value in query if name == "key"}
    return "\n".join(sorted(found - {""})) or None


def is_unstable(credential: str) -> bool:
    """Whether any of it is made anew for each session or request (a JWT, an AWS SigV4 or SigV4A signature), so that a
    restarted caller would come back as somebody else."""
    parts = credential.split("\n")
    return any(part.startswith("AWS4-") for part in parts) or any(_is_jwt(word) for word in credential.split())


def principal_of(credential: str, secret: bytes) -> str:
    """A principal's id from its credential."""
    return _mac(secret, "principal", credential)


def _is_jwt(text: str) -> bool:
    parts = text.split(".")
    if len(parts) not in (3, 5):  # signed, or encrypted (RFC 7516)
        return False
    try:
        header = json.loads(_unbase64(parts[0]))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


# --- keys -------------------------------------------------------------------------------------------------------


def key_hash(secret: bytes, principal: str, upstream: str, key: str) -> str:
    """What a key is stored as: it means something only with its principal and upstream."""
    return _mac(secret, "key", principal, upstream, key)


def forwarded_key(secret: bytes, stream: StreamId, segment: int) -> str:
    """What an upstream that takes keys knows the call for a segment by, however often it is made."""
    return _mac(secret, "forwarded", stream, str(segment))


def scope_hash(secret: bytes, principal: str, scope: str) -> str:
    """What a scope is stored as. Without the upstream: a turn may call several, and is found as one."""
    return _mac(secret, "scope", principal, scope)


def scoped_key_hash(
    secret: bytes, principal: str, upstream: str, scope: str, fingerprint: str, occurrence: str = ""
) -> str:
    """The key of one request within a scope: each distinct request is its own stream."""
    return _mac(secret, "scoped key", principal, upstream, scope, fingerprint, occurrence)


# --- fingerprints -----------------------------------------------------------------------------------------------


def fingerprint(secret: bytes, method: str, path: str, query: str, content_type: str, body: bytes) -> str:
    """A keyed hash of what is asked: method, path, sorted query without credentials, media type, body. `query` is
    the raw query string. JSON of at most 1 MiB counts as its value, multipart without its boundary, all else as sent.
    """
    asked = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0].lower() not in CREDENTIAL_PARAMETERS]
    media_type = content_type.partition(";")[0].strip().lower()
    parameters = (text for pair in sorted(asked) for text in pair)
    target = _mac(secret, "target", method.upper(), path, media_type, *parameters)
    return _mac(secret, "fingerprint", target, *_body_parts(media_type, content_type, body))


def _body_parts(media_type: str, content_type: str, body: bytes) -> tuple[str | bytes, ...]:
    is_json = media_type == "application/json" or media_type.endswith("+json")
    if is_json and len(body) <= MAX_CANONICAL_BYTES and (canonical := _canonical_json(body)) is not None:
        return ("json", canonical)
    if media_type.startswith("multipart/") and (boundary := _BOUNDARY.search(content_type)):
        delimiter = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1", "replace")
        return ("multipart", *(b"\r\n" + body).split(delimiter))
    return ("raw", body)


def _canonical_json(body: bytes) -> bytes | None:
    """The same bytes for the same value; None where the text has no one value (duplicate names, NaN, no JSON)."""
    try:
        value = json.loads(body, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name appears twice")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number has no exact value here")
    return value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


# --- tickets ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to do `actions` on one stream, for whoever holds it. `expires_at` is store clock; None: no end."""

    stream: StreamId
    actions: frozenset[str]
    expires_at: float | None = None


def sign_ticket(secrets: Sequence[bytes], stream: StreamId, actions: Iterable[str], expires_at: float | None) -> str:
    """A URL-safe token for `Ticket(stream, actions, expires_at)`."""
    claims = json.dumps([stream, sorted(actions), expires_at], separators=(",", ":"))
    payload = base64.urlsafe_b64encode(claims.encode()).rstrip(b"=").decode()
    return f"v1.{payload}.{_mac(secrets[0], 'ticket v1', payload)}"


def read_ticket(secrets: Sequence[bytes], token: str, now: float) -> Ticket | None:
    """The ticket, or None if none of the secrets signed it or it has expired."""
    version, _, rest = token.partition(".")
    payload, _, mac = rest.partition(".")
    if version != "v1" or len(token) > MAX_TICKET_CHARS or not token.isascii():
        return None
    if not any(hmac.compare_digest(mac, _mac(secret, "ticket v1", payload)) for secret in secrets):
        return None
    stream, actions, expires_at = json.loads(_unbase64(payload))
    ticket = Ticket(StreamId(stream), frozenset(actions), expires_at)
    return ticket if expires_at is None or now < expires_at else None


# ----------------------------------------------------------------------------------------------------------------


def _mac(secret: bytes, purpose: str, *parts: str | bytes) -> str:
    mac = hmac.new(secret, digestmod=hashlib.sha256)
    for part in (purpose, *parts):
        # Header text may hold lone surrogates; it must hash all the same.
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        mac.update(len(data).to_bytes(8, "big"))
        mac.update(data)
    return mac.hexdigest()


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
