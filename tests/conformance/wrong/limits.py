"""Wrong at the limits in time and size, in what finds and deletes, and in what a failed call leaves behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resumestream import claims, sweep
from resumestream.admission import Admission
from resumestream.http import asks, forms, gateway, inbound, problems, streams
from resumestream.hub import Hub
from resumestream.model import Query, StreamInfo
from resumestream.stores.memory import MemoryStore

from . import edits
from .fault import Wrong, always, put


def asking(**members: Any) -> Any:
    """Streams are looked for with other filters than were asked for."""

    def wrong(right: Any) -> Any:
        async def find(self: Hub, query: Query) -> Any:
            return await right(self, replace(query, **members))

        return find

    return put(Hub, "find", wrong)


def reversed_(right: Any) -> Any:
    """The other way round."""

    async def wrong(self: Any, *args: Any) -> Any:
        return (await right(self, *args))[::-1]

    return wrong


def remembering(right: Any) -> Any:
    """What is to be forgotten leaves its record."""

    async def wrong(self: Hub, stream: Any, *, forget: bool = False) -> StreamInfo:
        return await right(self, stream)

    return wrong


def admitting(**caps: float) -> Any:
    """Starts are taken under other caps."""

    def wrong(right: Any) -> Any:
        return lambda self, store, policy, eviction: right(self, store, replace(policy, **caps), eviction)

    return put(Admission, "__init__", wrong)


def reading_does_not_count(right: Any) -> Any:
    """An expiry drops what somebody reads."""
    return lambda self, *args, reading: right(self, *args, reading=lambda stream: False)


def remembered_for(seconds: float) -> Any:
    """The record of what is gone stays so long, whatever is declared."""
    return put(StreamInfo, "forgets_at", lambda right: property(lambda self: (self.gone_at or 0) + seconds))


def patient(right: Any) -> Any:
    """A request that stops is waited for."""
    return lambda self, receive, receive_s: right(self, receive, 60)


def started_again(standing: claims.Standing) -> Any:
    """A key in that standing means a new call."""
    row = {**claims.DECISIONS[standing], claims.Consent.ABSENT: claims.Verdict.START}
    return put(claims, "DECISIONS", lambda right: {**right, standing: row})


def not_exact(right: Any) -> Any:
    """Every answer is what the provider's SDK needs, whatever was asked for."""
    return lambda self, dialect, *, exact, cuttable=True: right(self, dialect, exact=False, cuttable=cuttable)


def whole_only(right: Any) -> Any:
    """A failure is added to every answer that is not completed, the provider's own among them."""
    return lambda info: info.completed


def other_code(right: Any) -> Any:
    """A failure frame always has the same code."""

    def wrong(self: forms.Provider, info: StreamInfo) -> bytes | None:
        if info.seal is None or info.completed:
            return right(self, info)
        return self._dialect.error_frame("failed", f"Stream {info.id} failed")

    return wrong


WRONG = {
    "labels-ignored": Wrong(("RS-LIST-02", "RS-DEL-06"), inside=asking(labels=())),
    "scopes-ignored": Wrong(("RS-LIST-09", "RS-LIST-03"), inside=asking(scope=None)),
    "list-begins-anew": Wrong(("RS-LIST-04",), inside=asking(after=None)),
    "oldest-first": Wrong(("RS-LIST-01",), inside=put(Hub, "find", reversed_)),
    "any-number": Wrong(("RS-LIST-05",), inside=put(streams, "_number", lambda right: lambda *args, **options: 10)),
    "any-label": Wrong(("RS-LIST-08", "RS-LIST-07"), inside=put(asks, "_labels", always(("one",)))),
    "stop-of-the-gone-is-202": Wrong(("RS-STOP-07",), edits.status(202, 410, path="/cancel")),
    "forgets-nothing": Wrong(("RS-DEL-05",), inside=put(Hub, "delete", remembering)),
    "expiry-cuts": Wrong(("RS-KEEP-06",), inside=put(sweep.Sweep, "__init__", reading_does_not_count)),
    "records-stay": Wrong(("RS-KEEP-11",), inside=remembered_for(60)),
    "records-go-early": Wrong(("RS-KEEP-09",), inside=remembered_for(1)),
    "gone-is-called-again": Wrong(("RS-KEEP-10",), inside=started_again(claims.Standing.GONE)),
    "any-retention": Wrong(("RS-KEEP-12",), inside=put(asks, "_seconds", always(None))),
    "starts-unbounded": Wrong(("RS-CAP-06",), inside=admitting(max_live_streams=10_000)),
    "orphans-unbounded": Wrong(("RS-CAP-09",), inside=admitting(max_orphan_drains=10_000)),
    "store-unbounded": Wrong(("RS-CAP-08",), inside=admitting(max_total_bytes=1 << 40)),
    "newest-evicted-first": Wrong(("RS-CAP-07",), inside=put(MemoryStore, "oldest", reversed_)),
    "requests-take-for-ever": Wrong(("RS-CAP-12",), inside=put(inbound.Inbound, "__init__", patient)),
    "retry-after-ignored": Wrong(("RS-EARLY-04",), inside=started_again(claims.Standing.COOLING)),
    "failed-is-called-again": Wrong(("RS-EARLY-10", "RS-EARLY-05"), inside=started_again(claims.Standing.FAILED)),
    "late-failure-is-200": Wrong(("RS-EARLY-09", "RS-CUT-17"), inside=put(gateway, "untellable", always(False))),
    "consent-untold": Wrong(("RS-EARLY-11",), inside=put(problems, "consent", always(""))),
    "exact-ignored": Wrong(("RS-CUT-19", "RS-CUT-20"), inside=put(forms.Provider, "__init__", not_exact)),
    "two-failures": Wrong(("RS-CUT-18",), inside=put(forms, "ends_clean", whole_only)),
    "another-code": Wrong(("RS-CUT-14",), inside=put(forms.Provider, "end", other_code)),
}
