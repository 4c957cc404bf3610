"""What a caller asks of us in its request headers, read strictly: a typo is refused, never a second call.

Refusals name the header, what is wrong and what is allowed. The values of keys and scopes are never echoed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from ..errors import InvalidHeader, NothingToResume
from ..model import StreamId
from ..offsets import Edge, Position, is_token, parse_last_event_id, parse_offset
from ..policy import valid_on_disconnect
from ..redaction import redact

MAX_LABELS = 8

_KEYS = ("Idempotency-Key", "X-Idempotency-Key", "Stream-Scope")

TOKEN = re.compile(r"[A-Za-z0-9._~:-]{1,255}")
TOKEN_FORM = "1 to 255 of the characters A-Z a-z 0-9 . _ ~ : -"
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,3})?")
_SDK_AGENT = re.compile(r"\w*(OpenAI|Anthropic)\w*/|google-genai")
"""The official SDKs, whose class names open their user agents; a 202 means nothing to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The headers of ours on one request. `key` and `scope` exclude each other."""

    key: str | None = None
    scope: str | None = None
    occurrence: str = ""
    match_key: bool = False
    retry_of: StreamId | None = None
    retain_s: float | None = None
    labels: tuple[str, ...] = ()
    on_disconnect: str | None = None
    offset: Position | Edge | None = None
    last_event_id: Position | Edge | None = None
    exact: bool = False
    respond_async: bool = False

    @property
    def keyed(self) -> bool:
        """Whether the stream can be found again by what the caller chose."""
        return self.key is not None or self.scope is not None

    @property
    def start(self) -> Position | Edge | None:
        """Where to resume, or None: from the first byte. What the reader saw last wins over what it was told first."""
        return self.last_event_id or self.offset

    @classmethod
    def parse(cls, headers: Headers) -> Ask:
        """Raises InvalidHeader, OffsetMalformed, and NothingToResume for an offset without a key."""
        offset, last_event_id = _one(headers, "Stream-Offset"), _one(headers, "Last-Event-ID")
        ask = cls(
            key=_key(headers),
            scope=_token(headers, "Stream-Scope"),
            occurrence=_token(headers, "Stream-Occurrence") or "",
            match_key=_choice(headers, "Stream-Match", ("key",)) is not None,
            retry_of=_stream(headers),
            retain_s=_seconds(headers, "Stream-Retain"),
            labels=_labels(headers),
            on_disconnect=_on_disconnect(headers),
            offset=None if offset is None else parse_offset(offset),
            last_event_id=parse_last_event_id(last_event_id) if last_event_id and is_token(last_event_id) else None,
            exact=_choice(headers, "Stream-Exact", ("true", "false")) == "true",
            respond_async=_respond_async(headers),
        )
        ask._refuse_contradictions()
        return ask

    def _refuse_contradictions(self) -> None:
        if self.key is not None and self.scope is not None:
            raise InvalidHeader("Idempotency-Key and Stream-Scope exclude each other: send one of them.")
        if self.occurrence and self.scope is None:
            raise InvalidHeader("Stream-Occurrence counts equal requests within a Stream-Scope: send that as well.")
        if self.match_key and self.key is None:
            raise InvalidHeader("Stream-Match: key goes with an Idempotency-Key: send that as well.")
        if self.retry_of is not None and not self.keyed:
            raise InvalidHeader("Stream-Retry goes with the Idempotency-Key or Stream-Scope of that stream.")
        if self.start is not None and not self.keyed:
            raise NothingToResume(
                "The request resumes at an offset but has no Idempotency-Key or Stream-Scope that says of what. "
                "Send the one the stream was started with, or read the stream by its id."
            )


def is_keyed(headers: Headers) -> bool:
    """Whether the request asks to be found again, rightly or wrongly put: who asks is decided before how."""
    return any(name in headers for name in _KEYS)


def _one(headers: Headers, name: str) -> str | None:
    values = headers.getlist(name)
    if len(values) > 1:
        raise InvalidHeader(f"{name} is there {len(values)} times; send it once.")
    return values[0].strip() if values else None


def _token(headers: Headers, name: str) -> str | None:
    value = _one(headers, name)
    if value is not None and not TOKEN.fullmatch(value):
        raise InvalidHeader(f"{name} ({len(value)} characters) must be {TOKEN_FORM}.")
    return value


def _key(headers: Headers) -> str | None:
    given = {}
    for name in _KEYS[:2]:
        value = _one(headers, name)
        if value is None:
            continue
        if len(value) >= 2 and value[0] == value[-1] == '"':  # the IETF draft's quoted form
            value = value[1:-1]
        if not TOKEN.fullmatch(value):
            raise InvalidHeader(f"{name} ({len(value)} characters) must be {TOKEN_FORM}.")
        given[value] = name
    if len(given) > 1:
        raise InvalidHeader("Idempotency-Key and X-Idempotency-Key differ: send one of them.")
    return next(iter(given), None)


def _stream(headers: Headers) -> StreamId | None:
    value = _token(headers, "Stream-Retry")
    return None if value is None else StreamId(value)


def _seconds(headers: Headers, name: str) -> float | None:
    value = _one(headers, name)
    if value is None:
        return None
    if not _SECONDS.fullmatch(value):
        raise InvalidHeader(f"{name} is {value[:40]!a}; it must be a number of seconds, 0 or more, such as 3600.")
    return float(value)


def _labels(headers: Headers) -> tuple[str, ...]:
    # fetch() joins repeated headers with commas, which no label contains.
    values = [label.strip() for line in headers.getlist("Stream-Label") for label in line.split(",")]
    if len(values) > MAX_LABELS:
        raise InvalidHeader(f"Stream-Label gives {len(values)} labels; {MAX_LABELS} are allowed.")
    for value in values:
        if not TOKEN.fullmatch(value):
            raise InvalidHeader(f"Stream-Label is {value[:40]!a}; each label must be {TOKEN_FORM}.")
        if redact(value) != value:
            raise InvalidHeader("A Stream-Label has the shape of a credential, and labels are stored as they are.")
    return tuple(dict.fromkeys(values))


def _on_disconnect(headers: Headers) -> str | None:
    value = _one(headers, "Stream-On-Disconnect")
    if value is not None and not valid_on_disconnect(value):
        raise InvalidHeader(
            f"Stream-On-Disconnect is {value[:40]!a}; it must be continue, cancel or grace:N with N seconds."
        )
    return value


def _choice(headers: Headers, name: str, allowed: tuple[str, ...]) -> str | None:
    value = _one(headers, name)
    if value is not None and value not in allowed:
        raise InvalidHeader(f"{name} is {value[:40]!a}; it must be {' or '.join(allowed)}.")
    return value


def _respond_async(headers: Headers) -> bool:
    preferences = {
        preference.partition(";")[0].strip().lower()
        for line in headers.getlist("Prefer")
        for preference in line.split(",")
    }
    return "respond-async" in preferences and not _SDK_AGENT.match(headers.get("user-agent", ""))
