"""Servers that are wrong on purpose, one fault each, and the requirements of which at least one must catch it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from resumestream import claims, route, tail
from resumestream.endings import Ending
from resumestream.http import asks, forms, problems, site, streams
from resumestream.hub import Hub
from resumestream.live import Live
from resumestream.model import Lease, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.pour import Pour
from resumestream.reads import Reads
from resumestream.upstream import headers as upstream_headers
from resumestream.upstream.resuming import Resuming
from tests.simulation.faults import ambiguous_call_repeated, key_not_looked_up, reader_stops_it, truncated_completes

from . import edits


@dataclass(frozen=True)
class Wrong:
    ids: tuple[str, ...]
    """At least one of these must fail."""
    around: edits.Around = lambda app: app
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext


@contextmanager
def off_by_one() -> Iterator[None]:
    """A reader that comes back in the middle gets the byte before it as well."""
    right = Reads.tail

    def wrong(self: Reads, stream: StreamId, at: int, **options: Any) -> tail.Tail:
        return right(self, stream, max(0, at - 1), **options)

    with patch.object(Reads, "tail", wrong):
        yield


@contextmanager
def cookie_passed_on() -> Iterator[None]:
    """The provider's cookies reach the caller."""
    with patch.object(upstream_headers, "_NOT_RECORDED", upstream_headers._NOT_RECORDED - {"set-cookie"}):
        yield


@contextmanager
def body_not_compared() -> Iterator[None]:
    """Another request with the same key gets the first one's answer."""
    with patch.object(claims, "_differs", lambda terms, binding: False):
        yield


@contextmanager
def any_consent_counts() -> Iterator[None]:
    """`Stream-Retry` with whatever id starts another call."""
    consents = {**claims.DECISIONS[claims.Standing.FAILED], claims.Consent.FOREIGN: claims.Verdict.START}
    with patch.dict(claims.DECISIONS, {claims.Standing.FAILED: consents}):
        yield


@contextmanager
def consent_not_linked() -> Iterator[None]:
    """The new stream does not say which one it came after."""
    right = streams.describe

    def wrong(info: StreamInfo, **options: Any) -> dict[str, Any]:
        return {**right(info, **options), "previous": None}

    with patch.object(streams, "describe", wrong):
        yield


@contextmanager
def end_untold() -> Iterator[None]:
    """The last event of `live=events`, which tells the failure, is lost."""
    right = forms.Events.end

    def wrong(self: forms.Events, info: StreamInfo) -> bytes | None:
        return right(self, info) if info.completed else b""

    with patch.object(forms.Events, "end", wrong):
        yield


@contextmanager
def cut_ends_clean() -> Iterator[None]:
    """An answer that was cut short ends as if it were whole."""
    with patch.object(forms, "ends_clean", lambda info: True):
        yield


@contextmanager
def completed_is_cut() -> Iterator[None]:
    """An answer that is whole ends cut."""
    with patch.object(forms, "ends_clean", lambda info: False):
        yield


@contextmanager
def strangers_read() -> Iterator[None]:
    """Who knows a stream's id may do everything with it."""

    async def wrong(self: site.Site, conn: Any, info: StreamInfo | None, action: Any) -> bool:
        return info is not None

    with patch.object(site.Site, "_owns", wrong):
        yield


@contextmanager
def others_are_listed() -> Iterator[None]:
    """Lists show the streams of all."""
    right = Hub.find

    async def wrong(self: Hub, query: Any) -> list[StreamInfo]:
        return await right(self, replace(query, principal=None))

    with patch.object(Hub, "find", wrong):
        yield


@contextmanager
def stop_ignored() -> Iterator[None]:
    """A stop is accepted and nothing happens."""

    async def wrong(self: Hub, stream: StreamId) -> None:
        pass

    with patch.object(Hub, "cancel", wrong):
        yield


@contextmanager
def delete_ignored() -> Iterator[None]:
    """What was deleted can still be read."""

    async def wrong(self: Hub, stream: StreamId, *, forget: bool = False) -> None:
        pass

    with patch.object(Hub, "delete", wrong):
        yield


@contextmanager
def never_expires() -> Iterator[None]:
    """What the caller says about retention does not count."""
    right = site.Site.new_stream

    def wrong(self: site.Site, *args: Any, **options: Any) -> Any:
        return right(self, *args, **{**options, "retain_s": None})

    with patch.object(site.Site, "new_stream", wrong):
        yield


@contextmanager
def refusal_keeps_the_key() -> Iterator[None]:
    """A call that the provider refused, unbilled, is replayed for ever."""
    right = Ending.sealing

    def wrong(ending: Ending, attempts: Any) -> Any:
        return replace(right(ending, attempts), released=False)

    with patch.object(Ending, "sealing", wrong):
        yield


@contextmanager
def keepalives_missing() -> Iterator[None]:
    """Who waits hears nothing."""
    right = site.Site.answer

    def wrong(self: site.Site, *args: Any, **options: Any) -> Any:
        answer = right(self, *args, **options)
        answer._keepalive_s = float("inf")
        return answer

    with patch.object(site.Site, "answer", wrong):
        yield


@contextmanager
def orphans_run_on() -> Iterator[None]:
    """`on_disconnect` is not heeded."""

    def wrong(self: Hub, live: Live) -> None:
        pass

    with patch.object(Hub, "_left", wrong):
        yield


@contextmanager
def retry_not_discouraged() -> Iterator[None]:
    """Errors do not say that a retry is useless."""
    right = problems._answer

    def wrong(*args: Any, **options: Any) -> Any:
        answer = right(*args, **options)
        if "x-should-retry" in answer.headers:
            del answer.headers["x-should-retry"]
        return answer

    with patch.object(problems, "_answer", wrong):
        yield


@contextmanager
def values_echoed() -> Iterator[None]:
    """A refused key is in the error's text."""
    right = asks._key

    def wrong(fields: Any) -> str | None:
        try:
            return right(fields)
        except asks.InvalidHeader as error:
            raise asks.InvalidHeader(f"{error.message} It was {fields.get('idempotency-key')}") from None

    with patch.object(asks, "_key", wrong):
        yield


@contextmanager
def occurrence_ignored() -> Iterator[None]:
    """Equal requests of a scope are one."""
    from resumestream.http import gateway

    right = gateway.scoped_key_hash

    def wrong(*args: Any) -> str:
        return right(*args[:-1], "")

    with patch.object(gateway, "scoped_key_hash", wrong):
        yield


@contextmanager
def never_called_again() -> Iterator[None]:
    """What was refused by one upstream is not tried again, there or elsewhere."""
    never = dict.fromkeys(route.Shown, route.Retry.NEVER)
    with patch.dict(route.DECISIONS, {route.Failure.BUSY: never, route.Failure.UNREACHABLE: never}):
        yield


@contextmanager
def callers_credential_leaks() -> Iterator[None]:
    """The fallback gets the credential that was sent to another upstream."""
    from resumestream.http import calls

    right = calls.forwarded

    def wrong(fields: Any, *, own: Any = None, last_event_id_is_ours: bool = False) -> Any:
        return right(fields, own=None, last_event_id_is_ours=last_event_id_is_ours)

    with patch.object(calls, "forwarded", wrong):
        yield


@contextmanager
def no_segments() -> Iterator[None]:
    """A call that broke off is not followed by another, whatever the operator wants."""
    right = route.Route.__init__

    def wrong(self: route.Route, legs: Any, *, segments: bool = False) -> None:
        right(self, legs)

    with patch.object(route.Route, "__init__", wrong):
        yield


@contextmanager
def not_resumed() -> Iterator[None]:
    """A provider that goes on without us is not read on."""
    from resumestream.errors import UpstreamLost

    async def wrong(self: Resuming) -> Any:
        raise UpstreamLost("it is not asked again")

    with patch.object(Resuming, "_attached", wrong):
        yield


@contextmanager
def events_unbounded() -> Iterator[None]:
    """`max_event_bytes` is not kept."""
    right = Pour.__init__

    def wrong(self: Pour, store: Any, live: Live, lease: Lease, policy: Policy, **options: Any) -> None:
        right(self, store, live, lease, replace(policy, max_event_bytes=1 << 30), **options)

    with patch.object(Pour, "__init__", wrong):
        yield


@contextmanager
def stall_for_ever() -> Iterator[None]:
    """A silent provider is waited for."""

    def wrong(self: Pour, *args: Any) -> None:
        pass

    with patch.object(Pour, "_deadline_for_bytes", wrong):
        yield


WRONG: dict[str, Wrong] = {
    "cookie-passed-on": Wrong(("RS-GW-08",), inside=cookie_passed_on),
    "offset-header-renamed": Wrong(("RS-HDR-02",), edits.renamed(b"stream-offset", b"stream-position")),
    "outcome-header-missing": Wrong(("RS-HDR-10",), edits.without(b"stream-outcome", method="GET")),
    "key-not-looked-up": Wrong(("RS-KEY-01",), inside=key_not_looked_up),
    "key-alias-unknown": Wrong(("RS-KEY-04",), edits.without_request_header(b"x-idempotency-key")),
    "body-not-compared": Wrong(("RS-MATCH-01",), inside=body_not_compared),
    "conflict-is-409": Wrong(("RS-MATCH-01",), edits.status(409, 422)),
    "occurrence-ignored": Wrong(("RS-SCOPE-02",), inside=occurrence_ignored),
    "any-consent-counts": Wrong(("RS-RETRY-06",), inside=any_consent_counts),
    "consent-not-linked": Wrong(("RS-RETRY-02",), inside=consent_not_linked),
    "truncated-completes": Wrong(("RS-LIFE-03",), inside=truncated_completes),
    "stall-for-ever": Wrong(("RS-LIFE-05",), inside=stall_for_ever),
    "off-by-one": Wrong(("RS-OFF-02",), inside=off_by_one),
    "cut-ends-clean": Wrong(("RS-READ-06",), inside=cut_ends_clean),
    "completed-is-cut": Wrong(("RS-READ-05",), inside=completed_is_cut),
    "event-ids-missing": Wrong(("RS-SSE-01",), edits.replaced(b"id: 0", b"xd: 0")),
    "end-untold": Wrong(("RS-SSE-05",), inside=end_untold),
    "state-missing": Wrong(("RS-META-01",), edits.without(b"stream-state")),
    "others-are-listed": Wrong(("RS-LIST-01",), inside=others_are_listed),
    "stop-ignored": Wrong(("RS-STOP-01", "RS-LIFE-06"), inside=stop_ignored),
    "delete-ignored": Wrong(("RS-DEL-01", "RS-READ-11"), inside=delete_ignored),
    "never-expires": Wrong(("RS-KEEP-01",), inside=never_expires),
    "events-unbounded": Wrong(("RS-LIFE-07",), inside=events_unbounded),
    "refusal-keeps-the-key": Wrong(("RS-EARLY-01",), inside=refusal_keeps_the_key),
    "called-again-unasked": Wrong(("RS-EARLY-02",), inside=ambiguous_call_repeated),
    "keep-alives-missing": Wrong(("RS-BEAT-01", "RS-SSE-09"), inside=keepalives_missing),
    "reader-stops-it": Wrong(("RS-DISC-01", "RS-READ-08"), inside=reader_stops_it),
    "orphans-run-on": Wrong(("RS-DISC-02",), inside=orphans_run_on),
    "retry-not-discouraged": Wrong(("RS-ERR-01", "RS-MATCH-01"), inside=retry_not_discouraged),
    "strangers-read": Wrong(("RS-AUTH-01", "RS-READ-11"), inside=strangers_read),
    "foreign-is-403": Wrong(("RS-AUTH-01", "RS-READ-11"), edits.status(403, 404)),
    "values-echoed": Wrong(("RS-PRIV-01",), inside=values_echoed),
    "never-called-again": Wrong(("RS-OVER-01",), inside=never_called_again),
    "credential-leaks": Wrong(("RS-OVER-02",), inside=callers_credential_leaks),
    "no-segments": Wrong(("RS-SEG-01",), inside=no_segments),
    "not-resumed": Wrong(("RS-RES-01",), inside=not_resumed),
}
"""Name → what is wrong, and which requirements tell it."""
