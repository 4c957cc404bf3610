"""Everything that can be refused or go wrong, one class per thing a caller can do about it.

`code` is wire-stable: it is the last part of a problem's `type` (RFC 9457) and never changes meaning.
`status` is the HTTP status the faces answer with. `retry` says whether asking again, unchanged, can help:
where it is False the faces send `x-should-retry: false`, which the official SDKs obey.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from .redaction import redact


class ResumeStreamError(Exception):
    """Base of every error this package raises on purpose.

    The message is one or two English sentences: what is wrong, where, and what to do. It never holds credentials,
    keys or request bodies: what has the shape of a credential is starred out here.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retry: ClassVar[bool] = False
    closes: ClassVar[bool] = False
    """Whether the caller's connection is of no more use: where its next request begins is not known, or never comes."""

    def __init__(self, message: str, *, stream: str | None = None, retry_after_s: float | None = None) -> None:
        self.message = redact(message)
        super().__init__(self.message)
        self.stream = stream
        self.retry_after_s = retry_after_s
        self.outcome: str | None = None
        self.next_offset: str | None = None
        """How and where the stream that this is about ended, if it did."""


class ConfigError(ResumeStreamError, ValueError):
    """The application or the operator set something up wrongly; raised before anything starts."""

    code = "config"


class HeadersFailed(ResumeStreamError):
    """The application's function for an upstream's headers raised; nothing was sent. Its log tells what."""

    code, retry = "headers-failed", True


# --- refusals: the request is wrong or cannot be served; nothing was started, nothing is lost -------------------


class InvalidHeader(ResumeStreamError):
    """A request header of ours is malformed, contradicts another, or is there twice."""

    code, status = "invalid-header", 400


class AmbiguousFraming(ResumeStreamError):
    """The request has Content-Length and Transfer-Encoding, or one of them twice: who reads it may see two of them."""

    code, status, closes = "ambiguous-framing", 400, True


class InvalidQuery(ResumeStreamError):
    """A path or query that cannot be served as it is written."""

    code, status = "invalid-query", 400


class PrincipalUnstable(ResumeStreamError):
    """The credential changes from session to session, so nobody could come back to the key."""

    code, status = "principal-unstable", 400


class OffsetMalformed(ResumeStreamError):
    """No offset token of ours, or one within an event where events were asked for."""

    code, status = "offset-malformed", 400


class Unauthorized(ResumeStreamError):
    """The application's `authorize` hook said no, or there is nobody to be."""

    code, status = "unauthorized", 401


class AuthorizeRequired(ResumeStreamError):
    """Without a hook only programs on this machine are served, and this request is not certainly one."""

    code, status = "authorize-required", 403


class NotFound(ResumeStreamError):
    """No face answers at this path."""

    code, status = "not-found", 404


class UnknownUpstream(ResumeStreamError):
    """The first path segment names no configured upstream."""

    code, status = "unknown-upstream", 404


class StreamNotFound(ResumeStreamError):
    """Never minted, forgotten, or another principal's: the three look alike."""

    code, status = "stream-not-found", 404


class MethodNotAllowed(ResumeStreamError):
    """The path is there, for other methods."""

    code, status = "method-not-allowed", 405

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allowed = tuple(allowed)
        super().__init__(f"This path takes {', '.join(self.allowed)}, not {method[:16]!a}.")


class RequestTimeout(ResumeStreamError):
    """The request's body came too slowly, or stopped; nothing was started."""

    code, status, retry, closes = "request-timeout", 408, True, True


class NoEvents(ResumeStreamError):
    """`live=events` asked of a payload that is not an event stream."""

    code, status = "no-events", 406


class StreamGone(ResumeStreamError):
    """Expired, evicted or deleted; the tombstone still tells how it ended."""

    code, status = "stream-gone", 410


class KeyExpired(ResumeStreamError):
    """The key's stream is gone, and a key never silently starts a second call."""

    code, status = "key-expired", 410


class NothingToResume(ResumeStreamError):
    """An offset was given, and the key has no stream that it could be of."""

    code, status = "nothing-to-resume", 412


class RequestTooLarge(ResumeStreamError):
    """The request's body is over the cap."""

    code, status = "request-too-large", 413


class TargetTooLong(ResumeStreamError):
    """Path and query alone are over the cap for a request's head."""

    code, status, closes = "target-too-long", 414, True


class OffsetBeyondTail(ResumeStreamError):
    """The stream has not come that far."""

    code, status = "offset-beyond-tail", 416


class KeyReused(ResumeStreamError):
    """Same key, another request. 422 and never 409, which the official SDKs retry."""

    code, status = "key-reused", 422


class RetryMismatch(ResumeStreamError):
    """`Stream-Retry` names a stream that is not, and never was, the key's."""

    code, status = "retry-mismatch", 422


class HeadTooLarge(ResumeStreamError):
    """Path, query and headers are over the cap for a request's head; a header counts 32 bytes more than it has."""

    code, status, closes = "head-too-large", 431, True


class TooManyOrphans(ResumeStreamError):
    """Too many live streams have no reader; nothing was sent to the provider."""

    code, status, retry = "too-many-orphans", 429, True


class TooManyOfPrincipal(ResumeStreamError):
    """The principal has as many live streams as its own limit allows; nothing was sent to the provider."""

    code, status, retry = "too-many-of-principal", 429, True


class UpgradeUnsupported(ResumeStreamError):
    """WebSockets and other upgrades are not relayed."""

    code, status = "upgrade-unsupported", 501


class NotInstalled(ResumeStreamError):
    """An optional part is not installed; the message says how to install it."""

    code, status = "not-installed", 501


class UpstreamRedirect(ResumeStreamError):
    """The upstream answered 3xx, which is never followed."""

    code, status = "upstream-redirect", 502


class UpstreamUnreachable(ResumeStreamError):
    """No request byte left: name lookup, connect or TLS failed. Safe to repeat."""

    code, status, retry = "upstream-unreachable", 502, True


class UpstreamLost(ResumeStreamError):
    """The request was sent and no whole answer came back. The provider may have billed it; never repeated here."""

    code, status = "upstream-lost", 502

    def __init__(self, message: str, *, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


class SourceFailed(ResumeStreamError):
    """Your own generator raised; the type's name is kept, its text is only logged."""

    code, status = "source-failed", 502

    def __init__(self, type_name: str) -> None:
        super().__init__(f"the source raised {type_name}")
        self.type_name = type_name


class UpstreamSilent(ResumeStreamError):
    """The request was sent and nothing came back in time."""

    code, status = "upstream-silent", 504


class NotStarted(ResumeStreamError):
    """Mounted, but neither `install`, `wrap`, `lifespan` nor `async with` started it."""

    code, status = "not-started", 503


class Draining(ResumeStreamError):
    """The server is going down: it admits nothing and cuts its readers, who come back."""

    code, status, retry = "draining", 503, True


class TooManyStreams(ResumeStreamError):
    """Too many streams are live; nothing was sent to the provider."""

    code, status, retry = "too-many-streams", 503, True


class VersionUnsupported(ResumeStreamError):
    """A live answer cannot be cut visibly on HTTP/1.0."""

    code, status = "http-version-unsupported", 505


# --- the store --------------------------------------------------------------------------------------------------


class StoreError(ResumeStreamError):
    """The store cannot do what it was asked."""

    code, status = "store-failed", 503


class StoreLocked(StoreError):
    """Another process holds what only one may: an older server the store that this one would have to upgrade."""

    code = "store-locked"


class StoreUnusable(StoreError):
    """Damaged, written by a newer version, read-only or no store at all; the message says which."""

    code = "store-unusable"


class StoreBusy(StoreError):
    """Another process held the write lock for longer than `busy_s`."""

    code, retry = "store-busy", True


class StoreFull(StoreError):
    """No space is left to write to, or only live streams are left of all that the store may keep. What was
    acknowledged is kept."""

    code, status, retry = "store-full", 507, True

    def __init__(self, message: str, *, stream: str | None = None, retry_after_s: float | None = 5) -> None:
        super().__init__(message, stream=stream, retry_after_s=retry_after_s)


class BindingMoved(StoreError):
    """Another caller bound the key first: read the binding again and decide anew."""

    code, retry = "binding-moved", True


class LeaseLost(StoreError):
    """Another owner has this stream now. Stop: close the provider connection, write nothing more."""

    code = "lease-lost"


class StreamSealed(StoreError):
    """The stream has ended; its payload never changes again."""

    code = "stream-sealed"


class OffsetConflict(StoreError):
    """The append was made for another tail. Under your own lease, `tail == at + len(data)` means it landed before."""

    code = "offset-conflict"

    def __init__(self, *, at: int, tail: int) -> None:
        super().__init__(f"append at offset {at}, but the tail is {tail}")
        self.at, self.tail = at, tail
