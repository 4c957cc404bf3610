"""Wrong at the gateway: what goes on, what comes back, keys, fingerprints and consent."""

from __future__ import annotations

import re
from typing import Any

from resumestream import claims, identity
from resumestream.http import asks, gateway, streams
from resumestream.http import headers as answer_headers
from resumestream.upstream import headers as upstream_headers
from tests.simulation.faults import key_not_looked_up

from . import edits
from .fault import Wrong, always, put


def key_echoed(right: Any) -> Any:
    """A refused key is in the error's text."""

    def wrong(fields: Any) -> str | None:
        try:
            return str(right(fields))
        except asks.InvalidHeader as error:
            raise asks.InvalidHeader(f"{error.message} It was {fields.get('idempotency-key')}") from None

    return wrong


def consents(standing: claims.Standing, **verdicts: claims.Verdict) -> Any:
    """Another row in the table of what a request with a key does."""
    row = {**claims.DECISIONS[standing], **{claims.Consent[name]: verdict for name, verdict in verdicts.items()}}
    return put(claims, "DECISIONS", lambda right: {**right, standing: row})


def first_of_two(fields: Any, name: str) -> str | None:
    """Of a header that is there twice the first counts."""
    value = fields.get(name)
    return None if value is None else value.strip()


def unlinked(right: Any) -> Any:
    return lambda info, **options: {**right(info, **options), "previous": None}


def earlier_pays_again(right: Any) -> Any:
    """Consent that was used up pays for another call."""
    return lambda terms, binding: claims.Consent.ABSENT if terms.retry_of is None else claims.Consent.PRESENT


def kept(name: str) -> Any:
    """A header of the upstream's answer that comes through and should not."""
    return put(upstream_headers, "_NOT_RECORDED", lambda right: right - {name})


def forwarded(name: str) -> Any:
    """A header of the caller that goes on and should not."""
    return put(upstream_headers, "_NOT_FORWARDED", lambda right: right - {name})


def as_recorded(right: Any) -> Any:
    """The headers of a replay are those of the first answer."""
    return lambda info, head, **options: right(info, head, **{**options, "replayed": False})


def of_everybody(right: Any) -> Any:
    """Keys of all principals are in one namespace."""
    return lambda secret, principal, *rest: right(secret, "", *rest)


def without_occurrence(right: Any) -> Any:
    return lambda *parts: right(*parts[:-1], "")


def without_request(right: Any) -> Any:
    """A scope is a key like any other."""
    return lambda *parts: right(*parts[:-2], "", parts[-1])


FAILED, COMPLETED = claims.Standing.FAILED, claims.Standing.COMPLETED
START = claims.Verdict.START

WRONG = {
    "body-dropped": Wrong(("RS-GW-03", "RS-LIFE-15"), edits.replaced(b"w0003", b"w0004")),
    "cookie-passed-on": Wrong(("RS-HDR-10",), inside=kept("set-cookie")),
    "own-headers-forwarded": Wrong(("RS-GW-11",), inside=forwarded("idempotency-key")),
    "cookie-forwarded": Wrong(("RS-GW-12",), inside=forwarded("cookie")),
    "coding-asked-for": Wrong(("RS-GW-14",), inside=forwarded("accept-encoding")),
    "respond-async-unknown": Wrong(("RS-GW-18",), edits.without_request_header(b"prefer")),
    "last-event-id-unknown": Wrong(("RS-GW-20", "RS-SSE-02"), edits.without_request_header(b"last-event-id")),
    "offset-header-renamed": Wrong(("RS-HDR-02",), edits.renamed(b"stream-offset", b"stream-position")),
    "location-missing": Wrong(("RS-HDR-04",), edits.without(b"location")),
    "replay-untold": Wrong(("RS-HDR-05",), edits.without(b"idempotent-replayed")),
    "cached": Wrong(("RS-HDR-06",), edits.without(b"cache-control")),
    "outcome-header-missing": Wrong(("RS-HDR-08",), edits.without(b"stream-outcome", method="GET")),
    "request-id-lost": Wrong(("RS-HDR-11",), edits.without(b"x-request-id")),
    "rate-limits-replayed": Wrong(("RS-HDR-12",), inside=put(answer_headers, "replayable", lambda right: tuple)),
    "retry-after-replayed": Wrong(("RS-HDR-13",), inside=put(answer_headers, "answer", as_recorded)),
    "key-not-looked-up": Wrong(("RS-KEY-01",), inside=key_not_looked_up),
    "key-alias-unknown": Wrong(("RS-KEY-04",), edits.without_request_header(b"x-idempotency-key")),
    "any-key-is-good": Wrong(("RS-KEY-05",), inside=put(asks, "TOKEN", lambda right: re.compile(r".*"))),
    "principals-share-keys": Wrong(("RS-KEY-08",), inside=put(gateway, "key_hash", of_everybody)),
    "first-of-two-counts": Wrong(("RS-KEY-11",), inside=put(asks, "_one", lambda right: first_of_two)),
    "body-not-compared": Wrong(("RS-MATCH-01",), inside=put(claims, "_differs", always(False))),
    "conflict-is-409": Wrong(("RS-MATCH-01",), edits.status(409, 422)),
    "json-compared-as-bytes": Wrong(("RS-MATCH-02",), inside=put(identity, "_canonical_json", always(None))),
    "json-compared-by-size": Wrong(("RS-MATCH-03",), inside=put(identity, "_canonical_json", always(b""))),
    "match-ignored": Wrong(("RS-MATCH-11",), edits.without_request_header(b"stream-match")),
    "occurrence-ignored": Wrong(("RS-SCOPE-03",), inside=put(gateway, "scoped_key_hash", without_occurrence)),
    "scope-is-one-stream": Wrong(("RS-SCOPE-02",), inside=put(gateway, "scoped_key_hash", without_request)),
    "failure-called-again": Wrong(("RS-RETRY-01",), inside=consents(FAILED, ABSENT=START)),
    "completed-called-again": Wrong(("RS-RETRY-06",), inside=consents(COMPLETED, PRESENT=START)),
    "any-consent-counts": Wrong(("RS-RETRY-07",), inside=consents(FAILED, FOREIGN=START)),
    "consent-pays-twice": Wrong(("RS-RETRY-05",), inside=put(claims, "_consent", earlier_pays_again)),
    "consent-not-linked": Wrong(("RS-RETRY-03",), inside=put(streams, "describe", unlinked)),
    "values-echoed": Wrong(("RS-PRIV-05",), inside=put(asks, "_key", key_echoed)),
}
