"""What to ask the upstream for. Bytes go through exactly as the caller wrote them, or not at all."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urlsplit

from ..errors import InvalidQuery
from ..redaction import CREDENTIAL_PARAMETERS

_NOT_SENT = re.compile(rb"[^\x21-\x7e]|[\\#]")
_SEPARATOR = re.compile(rb"[/\\]")


def target(base_url: str, raw_path: bytes, query: bytes) -> bytes:
    """The request target: the base URL's path, then `raw_path` (empty, or from its `/` on), then the query.

    Raises InvalidQuery for what could lead out of the base URL.
    """
    if raw_path and not raw_path.startswith(b"/"):
        raise InvalidQuery("The path does not start with '/'; an upstream is chosen by its name alone.")
    if raw_path.startswith(b"//"):
        raise InvalidQuery("The path starts with '//', which could name another host.")
    if _NOT_SENT.search(raw_path) or _NOT_SENT.search(query):
        raise InvalidQuery("The path or query has a backslash, #, blank, control or non-ASCII byte; percent-encode it.")
    if climbs(raw_path):
        raise InvalidQuery("The path has a '..' segment, which could lead out of the upstream's base URL.")
    path = urlsplit(base_url).path.rstrip("/").encode("ascii") + raw_path
    return (path or b"/") + (b"?" + query if query else b"")


def without_credentials(query: bytes) -> bytes:
    """The query less whatever says who asks: a ticket is ours, and a caller's key must not meet the operator's."""
    return b"&".join(pair for pair in query.split(b"&") if _name(pair) not in CREDENTIAL_PARAMETERS)


def credentials_of(target: bytes) -> list[str]:
    """The values of what says who asks, as they are written."""
    pairs = (pair.partition(b"=") for pair in target.partition(b"?")[2].split(b"&"))
    return [value.decode("latin-1") for name, _, value in pairs if _name(name) in CREDENTIAL_PARAMETERS]


def climbs(raw_path: bytes) -> bool:
    """Whether a segment is `..`, also to a server that decodes before it splits (`..%2f`), or cuts path parameters off
    (`..;a`), or stands behind one that has decoded already (`%252e`)."""
    once = unquote_to_bytes(raw_path)
    segments = (*_SEPARATOR.split(once), *_SEPARATOR.split(unquote_to_bytes(once)))
    return any(segment.partition(b";")[0] == b".." for segment in segments)


def _name(pair: bytes) -> str:
    return unquote_to_bytes(pair.partition(b"=")[0].replace(b"+", b" ")).decode("latin-1").lower()
