"""What a POST with a key does, decided from what is stored: one table, two guards, no I/O.

A caller holds a key's binding and the bound stream's record, decides, and acts: `Start` by a compare-and-set create
that names the stream it decided on, so a decision from stale records cannot start a second call.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from .errors import KeyExpired, KeyReused, NothingToResume, RetryMismatch
from .model import Binding, StreamId, StreamInfo


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request with a key asks for."""

    fingerprint: str = ""
    """Empty: it has none (your own generators), and never mismatches."""
    match_key: bool = False
    """`Stream-Match: key`: attach whatever the body."""
    retry_of: StreamId | None = None
    """`Stream-Retry`: consent to pay again after this stream."""
    resumes: bool = False
    """It continues at an offset, so it never starts a call."""


@dataclass(frozen=True, slots=True)
class Start:
    """Create a stream that the key means from then on, instead of `replaces`; None: the key means none yet."""

    replaces: StreamId | None = None


@dataclass(frozen=True, slots=True)
class Attach:
    """Read this stream; no call."""

    stream: StreamId


class Standing(Enum):
    """How the stream that a key means is doing, as far as a new claim cares."""

    LIVE = "not sealed"
    COMPLETED = "completed"
    FAILED = "ended otherwise and may have been billed"
    COOLING = "refused by the provider, which asked for time"
    RELEASED = "definitely not billed"
    GONE = "expired, evicted or deleted"


class Consent(Enum):
    """What `Stream-Retry` says about it."""

    ABSENT = "none, or for an earlier stream of the key: used up"
    PRESENT = "to pay again for the key's present stream"
    FOREIGN = "for a stream that never was the key's"


class Verdict(Enum):
    START = auto()
    ATTACH = auto()
    EXPIRED = auto()
    MISMATCH = auto()


_S, _A, _E, _M = Verdict.START, Verdict.ATTACH, Verdict.EXPIRED, Verdict.MISMATCH

DECISIONS: dict[Standing, dict[Consent, Verdict]] = {
    standing: dict(zip(Consent, verdicts, strict=True))
    for standing, verdicts in {
        #                   ABSENT PRESENT FOREIGN
        Standing.LIVE: (_A, _A, _M),
        Standing.COMPLETED: (_A, _A, _M),
        Standing.FAILED: (_A, _S, _M),
        Standing.COOLING: (_A, _S, _M),
        Standing.RELEASED: (_S, _S, _M),
        Standing.GONE: (_E, _S, _M),
    }.items()
}


def decide(terms: Terms, binding: Binding | None, info: StreamInfo | None, now: float) -> Start | Attach:
    """Start or attach. `info` is the bound stream's record, None if it was forgotten since; `now` is store clock.

    Raises KeyReused, KeyExpired, RetryMismatch, NothingToResume; each names the stream and the next step.
    """
    if binding is None or info is None:
        return _decide_unbound(terms)
    standing = _standing(info, now)
    verdict = DECISIONS[standing][_consent(terms, binding)]
    if verdict is Verdict.MISMATCH:
        raise RetryMismatch(
            f"Stream-Retry names {terms.retry_of}, which is not this key's. Its stream is {binding.stream}: "
            f"name that one to consent to a new call, or leave Stream-Retry out.",
            stream=binding.stream,
        )
    if verdict is Verdict.EXPIRED:
        raise KeyExpired(
            f"This key's stream {binding.stream} is {info.gone}. Use a new key, or consent to a new call with "
            f"Stream-Retry: {binding.stream}.",
            stream=binding.stream,
        )
    # A recorded refusal is an answer about the key, not the body: within Retry-After any body gets it.
    if verdict is Verdict.ATTACH and standing is not Standing.COOLING and _differs(terms, binding):
        raise KeyReused(
            f"This key was used for another request, stream {binding.stream}. Use a new key, or "
            f"Stream-Match: key to read that stream whatever the body.",
            stream=binding.stream,
        )
    if terms.resumes and verdict is Verdict.START:
        raise NothingToResume(
            f"Stream {binding.stream} would be followed by a new call, which cannot go on at an offset. "
            f"Leave Stream-Offset and Last-Event-ID out to start it; what was kept stays readable by id.",
            stream=binding.stream,
        )
    if terms.resumes and terms.retry_of in binding.earlier:
        raise NothingToResume(
            f"The offset belongs to {terms.retry_of}, and the key now means {binding.stream}. Read that one from "
            f"its start: leave Stream-Offset and Last-Event-ID out.",
            stream=binding.stream,
        )
    if verdict is Verdict.START:
        return Start(replaces=binding.stream)
    return Attach(binding.stream)


def _decide_unbound(terms: Terms) -> Start:
    if terms.resumes:
        raise NothingToResume(
            "This key has no stream to resume. Leave Stream-Offset and Last-Event-ID out to start one."
        )
    if terms.retry_of is not None:
        raise RetryMismatch(
            f"Stream-Retry names {terms.retry_of}, but this key has no stream. Leave Stream-Retry out to start one."
        )
    return Start()


def _standing(info: StreamInfo, now: float) -> Standing:
    seal = info.seal
    if seal is None:
        return Standing.LIVE
    if seal.released:
        # Not billed, so not even retention holds the key; the recorded answer is there only with its payload.
        cooling = seal.retry_at is not None and now < seal.retry_at and not info.gone
        return Standing.COOLING if cooling else Standing.RELEASED
    if info.gone:
        return Standing.GONE
    return Standing.COMPLETED if info.completed else Standing.FAILED


def _consent(terms: Terms, binding: Binding) -> Consent:
    if terms.retry_of is None or terms.retry_of in binding.earlier:
        return Consent.ABSENT
    return Consent.PRESENT if terms.retry_of == binding.stream else Consent.FOREIGN


def _differs(terms: Terms, binding: Binding) -> bool:
    both = terms.fingerprint and binding.fingerprint
    return bool(both) and not terms.match_key and terms.fingerprint != binding.fingerprint
